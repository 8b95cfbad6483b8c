"""Fault injection for tests: named points at which the environment can kill or stop this process.

`REGULARS_FAULT=swap-done` kills with SIGKILL at the first passage, `REGULARS_FAULT=swap-done:2` at the second.
`REGULARS_PAUSE=inputs-read,swap-done` stops with SIGSTOP at the first passage of each point, until SIGCONT. Without the
variables, no point has an effect.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "REGULARS_FAULT"
PAUSE = "REGULARS_PAUSE"

#: All fault points: those of a night in the order in which it passes them, then those of other commands.
POINTS = (
    "inputs-read",  # all input tables are read and written; train, plan and evaluate pass it too
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
    "rows-removed",  # erase: one file without the erased rows is staged, or replaced in the trash
    "receipt-written",  # erase: the receipt is in the store
    "date-done",  # backfill: one date is finished, and nobody holds the store
    "runs-read",  # status, plan and backfill: the runs of the published dates are read, their lists not yet
)

_passages: Counter[str] = Counter()


def point(name: str) -> None:
    """Kill or stop this process if the environment names this point. Raises KeyError for a name not in POINTS."""
    fault, pauses = os.environ.get(VARIABLE), os.environ.get(PAUSE)
    if fault is None and pauses is None:
        return
    place, _, nth = (fault or "").partition(":")
    stops = (pauses or "").split(",")
    if unknown := {name, place, *stops} - {*POINTS, ""}:
        raise KeyError(f"{', '.join(sorted(unknown))} is no fault point; the points are {', '.join(POINTS)}")
    _passages[name] += 1
    if name in stops and _passages[name] == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    if name == place and _passages[name] == int(nth or 1):
        _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
