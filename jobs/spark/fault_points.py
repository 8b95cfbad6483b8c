"""Named places where a test may kill this process as hard as a power cut; nothing happens without the variable.

`REGULARS_FAULT=swap-done` kills at the first passage, `REGULARS_FAULT=swap-done:2` at the second.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "REGULARS_FAULT"

#: Every place, in the order in which a night passes them.
POINTS = (
    "found-written",  # the ledger's look-up lies in the work folder
    "requests-written",  # and so do the requests that it could not answer
    "wave-written",  # one wave is scored, in staging
    "wave-committed",  # and renamed into the ledger
    "table-staged",  # one output table is written and sorted, in staging
    "checked",  # all of them were reopened and checked
    "intent-opened",  # from here the run is finished by whoever comes next
    "swap-exchanged",  # new folder in place, the old one still where the new one was staged
    "swap-moved-out",  # file systems without an exchange: the old folder is away, the new one not yet there
    "swap-done",  # one date folder is swapped
    "retired",  # compaction: one old folder is away
    "intent-closed",  # all done but the cleaning
)

_passages: Counter[str] = Counter()


def point(name: str) -> None:
    """Kill this process here if the environment asks for it; KeyError for a name that is not in POINTS."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    place, _, nth = wanted.partition(":")
    if place not in POINTS or name not in POINTS:
        raise KeyError(f"{VARIABLE}={wanted} or {name} is no fault point; there are {', '.join(POINTS)}")
    _passages[name] += 1
    if name == place and _passages[name] == int(nth or 1):
        _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
