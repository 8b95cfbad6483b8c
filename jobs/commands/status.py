"""`regulars status`: shows the state of every date as a calendar and a list.

For the data engineer in the morning: the dates that are published, stale or failed, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from pyspark.sql import SparkSession
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jobs.config.config import Config
from jobs.spark.errors import UsageError
from jobs.store.dates import DateState, State, date_states, days_between, known_span
from jobs.store.store import Store
from jobs.tasks.versions import current

#: Mark and style of each state. The marks differ, so the calendar works without colours.
_MARKS: dict[State, tuple[str, str]] = {
    "published": ("■", "green"),
    "stale": ("◪", "yellow"),
    "empty": ("□", "cyan"),
    "failed": ("✗", "bold red"),
    "running": ("▶", "bold blue"),
    "missing": ("·", "dim"),
}
#: Number of dates in the calendar, and in the list below it, unless a range is given.
_SHOWN, _LISTED = 26 * 7, 14


def show_status(
    spark: SparkSession,
    config: Config,
    console: Console,
    config_file: str,
    first: date | None = None,
    last: date | None = None,
) -> list[DateState]:
    """Print the states from `first` to `last`, by default the last half year, and return them.

    Raises UsageError for an empty range.
    """
    store, options = Store(config.store), config.options(config_file)
    span = known_span(spark, store)
    today, problems = current(config, config_file)
    if span is None and (first is None or last is None):
        console.print(f"No date was ever published or tried in {store.root}", highlight=False, markup=False)
        yesterday = datetime.now(ZoneInfo(config.timezone)).date() - timedelta(days=1)
        _print_next(console, next_commands([DateState(yesterday, "missing")], options, has_models=not problems))
        return []
    end = last or span[1]  # type: ignore[index]
    start = first or max(span[0], end - timedelta(days=_SHOWN))  # type: ignore[index]
    if end < start:
        raise UsageError(f"--from {start} is after --to {end}: give the older date first")
    found = date_states(spark, store, days_between(start, end), today)
    console.print(_calendar(found))
    console.print(_legend(found))
    old_failures = [one for one in found[:-_LISTED] if one.state == "failed"]
    listed = found if first or last else [*old_failures, *found[-_LISTED:]]
    console.print(_list(listed))
    if left_out := len(found) - len(listed):
        console.print(f"{left_out} earlier dates are not listed: --from {found[0].run_date}", highlight=False)
    for problem in problems:
        console.print(f"[yellow]Not compared:[/yellow] {escape(problem)}", highlight=False)
    _print_next(console, next_commands(found, options, has_models=not problems))
    for day in _perhaps_mistaken(found):
        console.print(
            f"Was {day} a mistake? Then forget it: regulars unpublish {options} --run-date {day}", highlight=False
        )
    return found


def _perhaps_mistaken(found: Sequence[DateState]) -> list[date]:
    """Return the dates that were only tried, and whose date before was never even tried."""
    return [
        one.run_date
        for before, one in pairwise(found)
        if one.state == "failed" and not one.is_published and before.state == "missing"
    ]


def next_commands(found: Sequence[DateState], config_options: str, *, has_models: bool) -> list[str]:
    """Return the commands that publish the failed and the missing dates; a training comes first without its model.

    `config_options` are those of Config.options.
    """
    by_state = {state: [one.run_date for one in found if one.state == state] for state in ("failed", "missing")}
    due = sorted(day for days in by_state.values() for day in days)
    commands = [f"regulars train {config_options} --as-of {due[0]}"] if due and not has_models else []
    for state, days in by_state.items():
        if len(days) == 1:
            commands.append(f"regulars nightly {config_options} --run-date {days[0]}")
        elif days:
            commands.append(f"regulars backfill {config_options} --from {days[0]} --to {days[-1]} --reprocess {state}")
    return commands


def _print_next(console: Console, commands: Sequence[str]) -> None:
    for number, command in enumerate(commands):
        console.print(f"{'Then' if number else 'Go on with'}: {command}", highlight=False)


def _calendar(found: Sequence[DateState]) -> Table:
    """One line per week, Monday first."""
    by_day = {one.run_date: one.state for one in found}
    first, last = found[0].run_date, found[-1].run_date
    table = Table("week of", "Mo", "Tu", "We", "Th", "Fr", "Sa", "Su", box=None, padding=(0, 1))
    monday = first - timedelta(days=first.weekday())
    while monday <= last:
        week = [monday + timedelta(days=number) for number in range(7)]
        table.add_row(str(monday), *(_cell(day, by_day.get(day)) for day in week))
        monday += timedelta(days=7)
    return table


def _cell(day: date, state: State | None) -> Text:
    if state is None:
        return Text("")
    mark, style = _MARKS[state]
    return Text(f"{mark}{day.day}", style=style)


def _legend(found: Sequence[DateState]) -> Text:
    counts = Counter(one.state for one in found)
    parts = [Text(f"{mark} {state} {counts[state]}  ", style=style) for state, (mark, style) in _MARKS.items()]
    return Text.assemble(*parts)


def _list(found: Sequence[DateState]) -> Table:
    table = Table("date", "state", "run", "lists' rows", "seconds", "note")
    for one in found:
        table.add_row(
            str(one.run_date),
            Text(one.state, style=_MARKS[one.state][1]),
            one.run.run_id if one.run else "",
            f"{one.rows:,}" if one.rows is not None else "",
            f"{one.run.wall_seconds:,.0f}" if one.run else "",
            escape(one.detail),
        )
    return table
