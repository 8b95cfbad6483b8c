"""The state of each date of a store, and the dates that a backfill has to run.

`published`: up to date. `stale`: published with packages, settings or models other than today's, or cut short by a
deadline. `empty`: published without lists. `failed`: the last run failed, was killed or never began. `running`: a run
holds the store. `missing`: neither published nor tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pyspark.sql import SparkSession

from jobs.spark import files, parquet
from jobs.spark.fault_points import point
from jobs.store.attempts import RUNNING, Attempt, read_attempts
from jobs.store.lock import LockOwner, holder
from jobs.store.store import Store, is_name, published_dates
from schemas import runs

State = Literal["published", "stale", "empty", "failed", "running", "missing"]
Reprocess = Literal["missing", "failed", "stale", "all"]


@dataclass(frozen=True)
class Run:
    """The row of `runs` of the run that published a date."""

    run_id: str
    status: str
    started_at: datetime
    finished_at: datetime
    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]

    @property
    def wall_seconds(self) -> float:
        """Seconds from the start of the run to its last table."""
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class DateState:
    """One date: its state, the run that published it, its number of list rows, and a note."""

    run_date: date
    state: State
    run: Run | None = None
    rows: int | None = None
    detail: str = ""
    attempt: Attempt | None = field(default=None, repr=False)

    @property
    def is_published(self) -> bool:
        """Whether readers find any version of the date."""
        return self.run is not None


def days_between(first: date, last: date) -> list[date]:
    """Return every date from `first` to `last`, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def known_span(spark: SparkSession, store: Store) -> tuple[date, date] | None:
    """Return the first and the last date that was published or tried; None for an empty store."""
    known = [*published_dates(spark, store, "runs"), *read_attempts(spark, store)]
    return (min(known), max(known)) if known else None


def date_states(spark: SparkSession, store: Store, days: Sequence[date], today: Mapping[str, str]) -> list[DateState]:
    """Return the state of each day; `today` maps names to the versions that a night would use now."""
    tried, runs = read_attempts(spark, store), published_runs(spark, store, days)
    point("runs-read")
    owner = holder(spark, store)
    running = "" if owner is None else progress_of(spark, store, owner.run_id)
    return [
        _state(day, runs.get(day), tried.get(day), _rows(spark, store, day, runs), owner, running, today)
        for day in days
    ]


def published_runs(spark: SparkSession, store: Store, days: Iterable[date]) -> dict[date, Run]:
    """Return the run that published each date, oldest date first."""
    wanted = set(days)
    found = sorted(day for day in published_dates(spark, store, "runs") if day in wanted)
    read = files.each(lambda day: parquet.small_rows(spark, store.date_folder("runs", day)), found)
    return {day: run_of(*rows) for day, rows in zip(found, read, strict=True) if rows}


def run_of(row: Mapping[str, Any]) -> Run:
    """Return the run of a row of `runs`. Releases before a column left it out; Parquet's maps come as pairs."""
    maps = {name: dict(row.get(name) or ()) for name in ("rows", "seconds", "versions")}
    return Run(row["run_id"], row["status"], row["started_at"], row["finished_at"], **maps)


def dates_to_run(found: Iterable[DateState], reprocess: Reprocess) -> dict[date, str]:
    """Return the dates that a backfill runs, each with its reason. Running dates are left out.

    `missing` selects dates without data, `failed` dates whose last run did not publish, `stale` dates with old
    versions or cut short by a deadline, `all` every date.
    """
    chosen: dict[date, str] = {}
    for one in found:
        if one.state == "running":
            continue
        reason = {
            "all": one.state,
            "missing": "" if one.is_published else one.state,
            "failed": one.state if one.state == "failed" else "",
            "stale": f"stale: {one.detail}" if one.state == "stale" else "",
        }[reprocess]
        if reason:
            chosen[one.run_date] = reason
    return chosen


def _state(
    day: date,
    run: Run | None,
    tried: Attempt | None,
    rows: int | None,
    owner: LockOwner | None,
    running: str,
    today: Mapping[str, str],
) -> DateState:
    if tried is not None and run is not None and tried.run_id == run.run_id:
        tried = None  # the run was killed between publishing and deleting its record
    if tried is not None:
        if tried.status == RUNNING and owner is not None and owner.run_id == tried.run_id:
            return DateState(day, "running", run, rows, f"{running or 'running'}, since {tried.started_at}", tried)
        said = tried.reason or f"killed; it ran since {tried.started_at}"
        return DateState(day, "failed", run, rows, said + ("; older data is published" if run else ""), tried)
    if run is None:
        return DateState(day, "missing")
    stale = _why_stale(run, today)
    if stale:
        return DateState(day, "stale", run, rows, stale)
    return DateState(day, "published" if rows else "empty", run, rows)


def progress_of(spark: SparkSession, store: Store, run_id: str) -> str:
    """Return what a running night does at present; empty where it has said nothing yet."""
    try:
        return files.read_text(spark, store.progress(run_id)) if is_name(run_id) else ""
    except (OSError, UnicodeDecodeError):
        return ""


def differing_versions(published: Mapping[str, str], today: Mapping[str, str]) -> list[str]:
    """Return the sorted names of versions that differ; a version that one side lacks does not count."""
    return sorted(name for name in published.keys() & today.keys() if published[name] != today[name])


def _why_stale(run: Run, today: Mapping[str, str]) -> str:
    late = sum(n for name, n in run.rows.items() if name.endswith(".late"))
    cut = [f"{late:,} requests left at the deadline"] if run.status == runs.AT_DEADLINE else []
    other = differing_versions(run.versions, today)
    return "; ".join(cut + ([f"other {', '.join(other)}"] if other else []))


def _rows(spark: SparkSession, store: Store, day: date, runs: Mapping[date, Run]) -> int | None:
    if day not in runs:
        return None
    for table in ("recommendations", "sentiments"):  # with reviews alone a night writes no lists
        folder = store.date_folder(table, day)
        if files.exists(spark, folder):
            return parquet.row_count(spark, folder)
    return 0
