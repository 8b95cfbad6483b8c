"""Prints the summary of a night: input rows, stages, written tables, sample rows and the commands to go on with."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.commands.night_samples import samples
from jobs.spark import files
from jobs.spark.log_console import LogConsole
from jobs.spark.progress import warn
from jobs.tables.runs import Night, figures

_PROGRAM = "regulars"
#: What the rows of a table are called in the last lines.
_MADE = {
    "recommendations": "products in lists",
    "sentiments": "labels of reviews",
    "answers": "answers and refusals",
    "loyalty": "buyers with loyalty figures",
}

#: Warnings about the inputs that the last lines repeat.
_WARNINGS = 5


def show_summary(spark: SparkSession, night: Night, console: Console, options: str) -> None:
    """Print the summary, or one JSON object without sample rows. Sample rows name no customer and no review.

    `options` are those of Config.options, for the commands to go on with.
    """
    if isinstance(console, LogConsole) and console.as_json:
        console.write_event("night", f"published {night.run_date}", **figures(night))
        return
    console.print(_accounts(night))
    if night.quarantined:
        reasons = ", ".join(f"{table}: {rule} {n:,}" for (table, rule), n in sorted(night.quarantined.items()))
        console.print(f"New in quarantine: {reasons}", highlight=False)
    if night.emptied:
        values = ", ".join(f"{table}: {rule} {n:,}" for (table, rule), n in sorted(night.emptied.items()))
        console.print(f"Rows that stay without an optional value: {values}", highlight=False)
    console.print(_stages_and_tables(night))
    for task in sorted(night.scored):
        done = f"{night.scored[task]:,} requests through the model, {night.reused[task]:,} answered by the ledger"
        if night.late.get(task):
            done += f", [bold]{night.late[task]:,} not answered before the deadline[/bold]"
        console.print(f"{task}: {done}", highlight=False)
    console.print(
        f"{night.customers:,} customers, {sum(night.tokens.values()):,} tokens through the models", highlight=False
    )
    if night.copied:
        console.print(f"{night.copied:,} customers keep prompt and list: nothing of theirs changed", highlight=False)
    for table in samples(spark, night):
        console.print(table)
    repeat_warnings(night.notes, console)
    minutes = (datetime.now(UTC) - night.started_at).total_seconds() / 60
    made = ", ".join(f"{night.rows[name]:,} {words}" for name, words in _MADE.items() if night.rows.get(name))
    console.print(f"Done in {minutes:.1f} minutes: {made or 'no rows'}.", highlight=False)
    _print_ways_on(spark, night, console, options)


def repeat_warnings(notes: Sequence[str], console: Console) -> None:
    """Print the first warnings about the inputs again, and how many more there are."""
    for note in notes[:_WARNINGS]:
        warn(console, note)
    if len(notes) > _WARNINGS:
        console.print(f"{len(notes) - _WARNINGS} further warnings about the inputs are above.", highlight=False)


def _print_ways_on(spark: SparkSession, night: Night, console: Console, options: str) -> None:
    """Print where the results lie, and commands that can be copied."""

    def show(what: str, text: str) -> None:
        console.print(f"{what:<16}{text}", markup=False, highlight=False)

    show("Tables:", f"{shlex.quote(night.store.tables)}/<table>/run_date={night.run_date}/*.parquet")
    page = f"{night.store.report(night.run_date)}/index.html"
    if files.exists(spark, page):
        show("Report:", page)
    command = program()
    show("All dates:", f"{command} status {options}")
    show("The page:", f"{command} report {options} --run-date {night.run_date} --open")
    show("Once more:", f"{command} nightly {options} --run-date {night.run_date}")
    show("Your own shop:", f"{command} init FILES")


def program() -> str:
    """Return the words with which the shell finds this program: `regulars`, or its path."""
    path = Path(sys.argv[0])
    if path.name != _PROGRAM or shutil.which(_PROGRAM) == str(path):
        return _PROGRAM
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _accounts(night: Night) -> Table:
    columns = [f.name for f in fields(next(iter(night.accounts.values())))]
    table = Table("input rows", *(name.replace("_", " ") for name in columns), title=f"Night of {night.run_date}")
    for name, account in night.accounts.items():
        table.add_row(name, *(f"{getattr(account, column):,}" for column in columns))
    return table


def _stages_and_tables(night: Night) -> Table:
    table = Table("stage", "seconds", "table", "rows written")
    stages, tables = list(night.seconds.items()), list(night.rows.items())
    for number in range(max(len(stages), len(tables))):
        stage = (stages[number][0], f"{stages[number][1]:.1f}") if number < len(stages) else ("", "")
        written = (tables[number][0], f"{tables[number][1]:,}") if number < len(tables) else ("", "")
        table.add_row(*stage, *written)
    return table
