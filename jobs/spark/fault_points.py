"""Fault injection for tests: named points at which the environment can kill this process with SIGKILL.

`REGULARS_FAULT=swap-done` kills at the first passage, `REGULARS_FAULT=swap-done:2` at the second. Without the
variable, no point has an effect.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "REGULARS_FAULT"

#: All fault points, in the order in which a night passes them; the last two are of `regulars erase`.
POINTS = (
    "found-written",  # the results of the ledger lookup are in the work folder
    "requests-written",  # the requests without a usable answer are in the work folder
    "wave-written",  # one wave is scored and lies in staging
    "wave-committed",  # one wave is renamed into the ledger
    "table-staged",  # one output table lies in staging
    "checked",  # all staged tables were reopened and checked
    "intent-opened",  # the intent is written: the next command finishes the publish
    "swap-exchanged",  # the new folder is in place, the old one still in staging
    "swap-moved-out",  # without an atomic exchange: the old folder is moved out, the new one not yet in place
    "swap-done",  # one date folder is swapped
    "retired",  # compaction: one old folder is moved to the trash
    "intent-closed",  # only the deletion of temporary folders is left
    "rows-removed",  # one file without the erased rows is staged, or replaced in the trash
    "receipt-written",  # the receipt is in the store
)

_passages: Counter[str] = Counter()


def point(name: str) -> None:
    """Kill this process if the environment names this point. Raises KeyError for a name that is not in POINTS."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    place, _, nth = wanted.partition(":")
    if place not in POINTS or name not in POINTS:
        raise KeyError(f"{VARIABLE}={wanted} or {name} is no fault point; the points are {', '.join(POINTS)}")
    _passages[name] += 1
    if name == place and _passages[name] == int(nth or 1):
        _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
