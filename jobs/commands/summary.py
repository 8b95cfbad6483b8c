"""Prints the summary of a night: input rows, stages, written tables and sample rows."""

from __future__ import annotations

import shlex
from dataclasses import fields

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.spark import files
from jobs.tables.runs import Night

#: Number of sample rows per table.
_SAMPLES = 5


def show_summary(spark: SparkSession, night: Night, console: Console) -> None:
    """Print the summary. Sample rows name no customer and no review."""
    console.print(_accounts(night))
    if night.quarantined:
        reasons = ", ".join(f"{table}: {rule} {n:,}" for (table, rule), n in sorted(night.quarantined.items()))
        console.print(f"New in quarantine: {reasons}", highlight=False)
    console.print(_stages_and_tables(night))
    for task in sorted(night.scored):
        done = f"{night.scored[task]:,} requests through the model, {night.reused[task]:,} answered by the ledger"
        if night.late.get(task):
            done += f", [bold]{night.late[task]:,} not answered before the deadline[/bold]"
        console.print(f"{task}: {done}", highlight=False)
    console.print(
        f"{night.customers:,} customers, {sum(night.tokens.values()):,} tokens through the models", highlight=False
    )
    for table in ("recommendations", "sentiments"):
        if night.rows.get(table):
            console.print(_samples(spark, night, table))
    console.print(f"Published tables: {shlex.quote(night.store.tables)}/<table>/run_date={night.run_date}/*.parquet")


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


def _samples(spark: SparkSession, night: Night, name: str) -> Table:
    rows = spark.read.parquet(files.for_reading(night.store.date_folder(name, night.run_date)))
    shown = _first_ranks(rows) if name == "recommendations" else _labelled(rows)
    table = Table(*shown.columns, title=f"{_SAMPLES} rows of {name}")
    for row in shown.collect():
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else escape(str(v)) for v in row))
    return table


def _first_ranks(rows: DataFrame) -> DataFrame:
    """Return the first product of a few customers, chosen by a hash, so always the same ones."""
    first = rows.where("rank = 1").orderBy(F.xxhash64("user_id"), "user_id").limit(_SAMPLES)
    return first.select("rank", "item_id", "title", "score", "why_scored")


def _labelled(rows: DataFrame) -> DataFrame:
    spread = rows.orderBy(F.xxhash64("review_id"), "review_id").limit(_SAMPLES)
    return spread.select("item_id", "rating", "label", "p_negative", "p_neutral", "p_positive", "disagrees")
