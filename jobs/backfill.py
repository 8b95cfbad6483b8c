"""Backfill: runs the night for each date of a range that needs it, each as of its own end.

For the data engineer after a fix or an outage: `regulars backfill --from D --to D --reprocess missing`. The ledger's
answers are reused, so a repeated date costs little more than reading its inputs. The store records the dates that a
backfill is going to run; `--reprocess failed` resumes with those that it did not publish.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.nightly import run_night
from jobs.spark.deadline import Deadline, DeadlinePassed
from jobs.spark.errors import StoreBusy, UsageError
from jobs.spark.fault_points import point
from jobs.spark.log_console import tell
from jobs.spark.progress import dates_done
from jobs.store.attempts import record_waiting
from jobs.store.dates import DateState, Reprocess, date_states, dates_to_run, days_between
from jobs.store.store import Store
from jobs.tables.runs import Night, figures
from jobs.tasks.versions import current, own_config


@dataclass(frozen=True)
class BackfillOptions:
    """The options of the command line, with the same defaults."""

    reprocess: Reprocess = "missing"
    order: Literal["oldest", "newest"] = "oldest"
    on_error: Literal["stop", "continue"] = "stop"
    versions: Literal["own", "current"] = "current"
    #: Number of dates before the first to run again, if they ever ran, because late rows may belong to them.
    lookback: int = 0


def run_backfill(
    spark: SparkSession,
    config: Config,
    first: date,
    last: date,
    console: Console,
    config_file: str,
    options: BackfillOptions | None = None,
    deadline: Deadline | None = None,
) -> list[Night]:
    """Run and publish the dates from `first` to `last`, both included, that `options` selects.

    Raises UsageError for an empty range. Raises the first failed night's error, at once or, with `on_error` continue,
    after the other dates. After the deadline no further date begins.
    """
    options, store = options or BackfillOptions(), Store(config.store)
    due = due_dates(spark, config, first, last, options, config_file)
    if not due:
        console.print(f"Nothing to do: no date from {first} to {last} is {options.reprocess}", highlight=False)
        return []
    backfill_id = f"backfill-{uuid.uuid4().hex[:8]}"
    for day in due:
        record_waiting(spark, store, backfill_id, day)
    nights: list[Night] = []
    failures: list[Exception] = []
    begun = time.monotonic()
    try:
        for number, (day, (state, reason)) in enumerate(due.items(), start=1):
            if deadline and deadline.seconds_left() <= 0:
                failures.append(DeadlinePassed(f"the deadline {deadline.text} passed before {day} began"))
                break
            console.print(f"[bold]{day}[/bold] ({number} of {len(due)}, {reason})", highlight=False)
            try:
                nights.append(_run(spark, config, state, console, config_file, options, deadline))
            except Exception as error:
                failures.append(error)
                console.print(f"{day}: [red]failed[/red]", highlight=False)
                if options.on_error == "stop" or isinstance(error, StoreBusy):
                    break
            else:
                tell(console, _night_line(nights[-1]), "night", **figures(nights[-1]))
                point("date-done")
            if number < len(due):
                console.print(dates_done(number, len(due), begun), highlight=False)
    finally:  # also after an interrupt
        _print_resume_command(console, config.options(config_file), set(due), nights)
    if failures:
        raise failures[0]
    return nights


def refuse_empty_range(first: date, last: date) -> None:
    """Raise UsageError where the first date is after the last one."""
    if last < first:
        raise UsageError(f"--from {first} is after --to {last}: give the older date first")


def due_dates(
    spark: SparkSession, config: Config, first: date, last: date, options: BackfillOptions, config_file: str
) -> dict[date, tuple[DateState, str]]:
    """Return the dates to run, in order, each with its state and reason. Raises UsageError for an empty range."""
    refuse_empty_range(first, last)
    store, (today, _) = Store(config.store), current(config, config_file)
    start = first - timedelta(days=options.lookback)
    found = {state.run_date: state for state in date_states(spark, store, days_between(start, last), today)}
    reasons = dates_to_run((state for day, state in found.items() if day >= first), options.reprocess)
    for day, state in found.items():
        if day < first and state.state not in ("missing", "running"):
            reasons[day] = "lookback"
    return {day: (found[day], reasons[day]) for day in sorted(reasons, reverse=options.order == "newest")}


def _run(
    spark: SparkSession,
    config: Config,
    state: DateState,
    console: Console,
    config_file: str,
    options: BackfillOptions,
    deadline: Deadline | None,
) -> Night:
    """Run one date with today's versions or, where chosen, the versions that it was published with."""
    if options.versions == "own" and state.run is not None:
        config = own_config(spark, Store(config.store), config, state.run.versions)
    return run_night(spark, config, state.run_date, console, config_file, deadline)


def _night_line(night: Night) -> str:
    scored = ", ".join(f"{task} {n:,} scored" for task, n in night.scored.items())
    stages = sum(seconds for name, seconds in night.seconds.items() if "." not in name)
    return f"{night.run_date}: published {sum(night.rows.values()):,} rows, {scored}, {stages:.0f} s"


def _print_resume_command(console: Console, config_options: str, due: set[date], nights: list[Night]) -> None:
    left = sorted(due - {night.run_date for night in nights})
    if left:
        console.print(
            f"{len(nights)} of {len(due)} dates are published, not {', '.join(map(str, left))}. Go on with: regulars"
            f" backfill {config_options} --from {left[0]} --to {left[-1]} --reprocess failed",
            highlight=False,
            markup=False,
        )
