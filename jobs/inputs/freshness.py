"""Refuses a night whose inputs are stale: the newest event of a table is too old as of the date.

An export that broke off weeks ago still reads without an error; its lists would repeat those of the last good night.
What is too old depends on the input itself: a shop sells every day and may be asked a question once a week.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from jobs.config.settings import Config
from jobs.spark.errors import GateRefused

#: The usual gap is judged by this many of the newest days with events, and not at all with fewer than the second.
_DAYS, _FEWEST_DAYS = 90, 8
#: Share of the gaps between two days with events that the usual gap covers: weekends, but not one long outage.
_COVERED = 0.98
_AT_LEAST = 2


@dataclass(frozen=True)
class Freshness:
    """The newest day with used events in a table, as of run_date, in the shop's time zone."""

    newest_on: date
    #: Days from one day with events to the next, of all gaps but the longest ones; None with too few days.
    usual_gap: int | None


def freshness(days: Collection[date]) -> Freshness | None:
    """Return the freshness of a table with events on these days; None without any."""
    if not days:
        return None
    newest = sorted(set(days))[-_DAYS:]
    gaps = sorted((later - earlier).days for earlier, later in pairwise(newest))
    usual = gaps[math.ceil(_COVERED * len(gaps)) - 1] if len(newest) >= _FEWEST_DAYS else None
    return Freshness(newest[-1], usual)


def refuse_stale(found: Mapping[str, Freshness], config: Config, run_date: date) -> None:
    """Raise GateRefused for inputs whose newest event is older than `max_stale_days` allows as of `run_date`."""
    stale = []
    options = []
    for table, of_table in found.items():
        age, limit, reason = (run_date - of_table.newest_on).days, *_limit(config, table, of_table)
        if limit is not None and age > limit:
            stale.append(
                f"the newest used row of {table} is of {of_table.newest_on}, {age} days before {run_date}, and at most "
                f"{limit} are accepted ({reason})"
            )
            options.append(f"--set inputs.{table}.max_stale_days={age}")
    if stale:
        raise GateRefused(
            f"{'; '.join(stale)}. Nothing was published, the old data stays. Has an export stopped? Bring it up to "
            f"{run_date} and run the same command again. If there was nothing to export, add {' '.join(options)}."
        )


def _limit(config: Config, table: str, found: Freshness) -> tuple[int | None, str]:
    """Return the largest accepted age in days and where it comes from; None if the table has too few days to judge."""
    own = config.inputs[table].max_stale_days if table in config.inputs else None
    if own is not None:
        return own, f"inputs.{table}.max_stale_days"
    if config.gate.max_stale_days is not None:
        return config.gate.max_stale_days, "gate.max_stale_days"
    if found.usual_gap is None:
        return None, ""
    return max(_AT_LEAST, 2 * found.usual_gap), f"its usual gap is {found.usual_gap}"
