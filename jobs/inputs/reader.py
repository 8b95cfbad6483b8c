"""Reads the shop's tables for one run_date: validated, deduplicated, opted-out customers gone, every row accounted for.

Each source is scanned once; its surviving and its rejected rows are written once, below the run's work folder, and
everything later reads them from there. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import TITLE, Input
from jobs.config.settings import Config
from jobs.inputs.charsets import has_lost_text, refuse_lost_text
from jobs.inputs.quarantine import FILE_UNREADABLE, rejections
from jobs.inputs.row_accounting import (
    Account,
    Table,
    end_of,
    is_copy,
    refuse_imbalance,
    with_copy_number,
    with_opted_out,
    with_outcome,
    with_unknown_ids,
    without_outcome,
)
from jobs.inputs.source_errors import explained
from jobs.inputs.sources import input_columns, mapped, open_source, refuse_drift, values_missing_from_files
from jobs.inputs.validation import RULE, details, validated
from jobs.spark.contracts import enforce
from jobs.spark.errors import BadFile, ConfigurationError, InputError

#: What is held against the tables of an earlier step; those of one step are read at once, for planning one leaves
#: cores idle. Without a catalogue it is made of the purchases.
_EVENTS = ("purchases", "searches", "reviews", "questions", "articles")
_STEPS = (("optouts", "items"), _EVENTS)
_STEPS_WITHOUT_ITEMS = (("optouts",), _EVENTS[:1], _EVENTS[1:])
_AT_ONCE = 4


@dataclass(frozen=True)
class Inputs:
    """The night's input: `used` holds contract columns per table, `quarantine` one row per rejected row."""

    used: dict[str, DataFrame]
    quarantine: DataFrame
    accounts: dict[str, Account]
    by_rule: dict[tuple[str, str], int]
    #: What the operator should know of the sources: one line each.
    notes: list[str]


def read_inputs(
    spark: SparkSession, config: Config, run_date: date, work: str, wanted: Collection[str] = schemas.INPUTS
) -> Inputs:
    """Read the `wanted` tables that are configured as of the end of `run_date` in the shop's time zone, writing below
    `work`.

    Each row has exactly one outcome (`jobs.inputs.row_accounting`).
    Raises ConfigurationError (purchases are wanted and not configured), InputError (a source is missing, unreadable,
    empty or does not fit) and GateRefused (the outcomes do not add up to the rows read).
    """
    if "purchases" in wanted and "purchases" not in config.inputs:
        raise ConfigurationError(
            "inputs.purchases is missing: name the table of what customers bought, with its path; with reviews alone "
            "there are train and evaluate with --task sentiment"
        )
    zone = spark.conf.get("spark.sql.session.timeZone")
    if zone != config.timezone:
        raise ValueError(f"the session's time zone is {zone}, the shop's is {config.timezone}")
    end = end_of(run_date, config.timezone)
    tables: dict[str, Table] = {}

    def read(table: str) -> Table:
        source = config.inputs[table].on(run_date)
        found = read_table(spark, table, source, tables, end, f"{work}/{table}")
        if table in ("items", "purchases") or (table == "reviews" and "purchases" not in wanted):
            _refuse_empty(table, source, found, run_date)
        return found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for step in _STEPS if "items" in config.inputs else _STEPS_WITHOUT_ITEMS:
            there = [table for table in step if table in config.inputs and table in wanted]
            tables |= dict(zip(there, pool.map(read, there), strict=True))
            if "purchases" in tables and "items" not in tables:
                tables["items"] = _derive_items(spark, tables["purchases"].used, f"{work}/items")
    return Inputs(
        used={t: enforce(read.used, schemas.contract(t)) for t, read in tables.items() if t != "optouts"},
        quarantine=rejections(
            spark,
            {t: tables[t].written for t in tables if t in config.inputs},
            {t: tables[t].left_out for t in tables if t in config.inputs},
        ),
        accounts={t: read.account for t, read in tables.items()},
        by_rule={(t, rule): n for t, read in tables.items() for rule, n in sorted(read.by_rule.items())},
        notes=[note for read in tables.values() for note in read.notes],
    )


def read_table(
    spark: SparkSession, table: str, source: Input, tables: Mapping[str, Table], end: datetime, path: str
) -> Table:
    """Scan one source once, write its used and rejected rows to `path`, and settle its account.

    `tables` are those read before it: the catalogue and the opted-out customers that its rows are held against.
    A file that cannot be read is left out and the scan begun again, up to `max_bad_files` times; BadFile beyond.
    """
    left_out: list[str] = []
    while True:
        try:
            return _scan(spark, table, source, tables, end, path, left_out)
        except BadFile as bad:
            if len(left_out) >= source.max_bad_files or bad.file in left_out:
                raise
            left_out.append(bad.file)


def _scan(
    spark: SparkSession,
    table: str,
    source: Input,
    tables: Mapping[str, Table],
    end: datetime,
    path: str,
    left_out: Sequence[str],
) -> Table:
    with_title = table == "purchases" and "items" not in tables
    columns = input_columns(table, with_title)
    names = [column.name for column in columns]
    read, decided, copies = Observation(), Observation(), Observation()

    opened = open_source(spark, table, source, left_out)
    notes = refuse_drift(spark, table, source, opened)
    raw = mapped(opened.df, table, source, with_title)
    notes += values_missing_from_files(table, source, raw)
    raw = raw.observe(read, _rows().alias("rows"), F.count_if(has_lost_text(raw)).alias("lost"))
    rows = validated(raw, table, columns)
    rows = with_unknown_ids(rows, table, tables)
    rows = with_opted_out(rows, table, tables)
    rows = with_outcome(rows, table, end).observe(
        decided, *(F.count_if(F.col("__outcome") == o).alias(o) for o in ("opted_out", "outside_window"))
    )
    rows = without_outcome(rows, table, names)
    rows = with_copy_number(rows, table, names).observe(copies, F.count_if(is_copy()).alias("duplicates"))
    rows = rows.where(~is_copy()).select(*names, RULE, "key_hash", "source_file")

    with explained(table, source, f"inputs.{table}", scan=True):
        rows.write.mode("overwrite").parquet(path)
    written = spark.read.schema(rows.schema).parquet(path)
    counts = {row[RULE]: int(row["count"]) for row in written.groupBy(RULE).count().collect()}
    used = counts.pop(None, 0)
    account = Account(int(read.get["rows"]), used, sum(counts.values()), **(decided.get | copies.get))
    refuse_imbalance(table, account)
    notes += refuse_lost_text(table, source, account.read, int(read.get["lost"]))
    by_rule = counts | ({FILE_UNREADABLE: len(left_out)} if left_out else {})
    return Table(written, account, by_rule, tuple(left_out), notes)


def _rows() -> Column:
    return F.count(F.lit(1))


def _refuse_empty(table: str, source: Input, read: Table, run_date: date) -> None:
    """Without one usable purchase and one product there is no night, nor sentiment without a review."""
    if read.account.used:
        return
    if not read.account.read:
        left = " after inputs.{table}.where" if source.where else ""
        raise InputError(
            f"inputs.{table}: {source.shown} has no rows{left.format(table=table)}. Give a table with rows."
        )
    worst = "".join(f"; {n} broke {rule} ({details(table).get(rule)})" for rule, n in read.by_rule.items())
    raise InputError(
        f"inputs.{table}: no row of {source.shown} can be used as of {run_date}: {read.account}{worst}. "
        "Mend the mapping or the data, or run a date from which on there are rows."
    )


def _derive_items(spark: SparkSession, purchases: DataFrame, path: str) -> Table:
    """Make the catalogue of what was bought: each item's most frequent title, ties by text, else its id."""
    title = F.btrim(F.col(TITLE))
    counted = (
        purchases.select("item_id", F.when(title != "", title).alias("title"))
        .groupBy("item_id", "title")
        .agg(_rows().alias("rows"))
    )
    # A null order is passed over, so rows without a title decide nothing.
    order = F.when(F.col("title").isNotNull(), F.struct(-F.col("rows"), "title"))
    best = counted.groupBy("item_id").agg(F.min_by("title", order).alias("title"))
    items = best.select(
        "item_id",
        F.coalesce("title", "item_id").alias("title"),
        F.lit(None).cast("string").alias("category"),
        F.lit(None).cast("decimal(12,2)").alias("price"),
        F.lit(True).alias("available"),
        F.lit(None).cast("string").alias(RULE),
    )
    items.write.mode("overwrite").parquet(path)
    written = spark.read.schema(items.schema).parquet(path)
    n = written.count()
    return Table(written, Account(read=n, used=n), {})
