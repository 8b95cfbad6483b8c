"""Reads the shop's tables for one run_date: valid rows, once each, without opted-out customers, all rows counted.

Each source is scanned once. Its used and rejected rows are written once, below the run's work folder; every later
step reads them there. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import InputSettings
from jobs.config.privacy import privacy_key
from jobs.config.settings import Config
from jobs.inputs import optouts
from jobs.inputs.catalogue import derive_items, with_delisted, with_earlier_snapshots, with_left_out
from jobs.inputs.charsets import has_undecoded_text, refuse_undecoded_text
from jobs.inputs.customer_names import CUSTOMERS, TEXTS, without_customer_names
from jobs.inputs.delisted import items_of_purchases
from jobs.inputs.expressions import column_named
from jobs.inputs.file_source import refuse_broken_off_files
from jobs.inputs.freshness import Freshness, freshness
from jobs.inputs.quarantine import FILE_UNREADABLE, collect_quarantine
from jobs.inputs.queries import named_sources, uses_source
from jobs.inputs.returns import HAS_RETURN, mark_returned_products, net_returns
from jobs.inputs.row_accounting import (
    ReadTable,
    RowAccount,
    count_by_rule_and_day,
    decide_outcome,
    end_of_date,
    is_copy,
    keep_written_rows,
    number_copies,
    refuse_imbalance,
    reject_unknown_ids,
)
from jobs.inputs.row_warnings import warn_of_emptied_columns, warn_of_unknown_ids
from jobs.inputs.source_errors import translating_errors
from jobs.inputs.sources import (
    further_columns,
    input_columns,
    map_columns,
    open_source,
    refuse_schema_drift,
    warn_of_empty_columns,
)
from jobs.inputs.table_formats import pin_version
from jobs.inputs.validation import MARKS, RULE, emptied, emptied_rules, rule_details, validate_rows
from jobs.spark import files
from jobs.spark.contracts import enforce
from jobs.spark.errors import BadFile, ConfigurationError, InputError
from jobs.spark.fault_points import point
from jobs.spark.privacy_key import keyed_hashes
from schemas.runs import input_version

#: Tables are checked against those of earlier steps. The tables of one step are read at the same time, because
#: planning a single one leaves cores idle.
_AFTER_ITEMS = ("purchases", "searches", "reviews", "questions", "articles", "customers", "events")
_THREADS = 4
#: Outcomes whose rows are not written.
_DROPPED = ("opted_out", "outside_window")


@dataclass(frozen=True)
class Inputs:
    """The night's input tables, their rejected rows and the counts of both."""

    #: Used rows by table, in the contract's columns.
    used: dict[str, DataFrame]
    #: `user_id` of the customers who opted out; None without such an input.
    opted_out: DataFrame | None
    #: One row per rejected row or unreadable file.
    quarantine: DataFrame
    accounts: dict[str, RowAccount]
    #: Rejected rows by (table, rule).
    rejected_by_rule: dict[tuple[str, str], int]
    #: Optional values that were left out of rows, by (table, rule).
    emptied_by_rule: dict[tuple[str, str], int]
    #: The newest days of the tables with a time.
    freshness: dict[str, Freshness]
    #: Warnings for the operator, one line each.
    notes: list[str]
    #: Version of each Delta table, and snapshot of each Iceberg table, by its key in `versions` of the table `runs`.
    versions: dict[str, str]


def tables_of_night(config: Config) -> Collection[str]:
    """Return the tables that a night reads: all, or what is configured where reviews alone are labelled."""
    return schemas.INPUTS if "purchases" in config.inputs else tuple(config.inputs)


def read_inputs(
    spark: SparkSession, config: Config, run_date: date, work: str, wanted: Collection[str] = schemas.INPUTS
) -> Inputs:
    """Read the `wanted` and configured tables as of the end of `run_date` in the shop's time zone.

    The rows are written below the folder `work`. Each row has exactly one outcome (`jobs.inputs.row_accounting`).
    Raises ConfigurationError (purchases are wanted and not configured), InputError (a source is missing, unreadable,
    empty or does not fit its mapping) and GateRefused (the outcomes do not add up to the rows read). Raises
    ValueError if the session has another time zone than the shop.
    """
    if "purchases" in wanted and "purchases" not in config.inputs:
        raise ConfigurationError(
            "inputs.purchases is missing: name the table of what customers bought, with its path. Reviews alone are "
            "enough for nights of labels, and for train and evaluate with --task sentiment"
        )
    if config.privacy.name_columns and CUSTOMERS in config.inputs and not TEXTS.keys().isdisjoint(wanted):
        wanted = {*wanted, CUSTOMERS}
    zone = spark.conf.get("spark.sql.session.timeZone")
    if zone != config.timezone:
        raise ValueError(f"the session's time zone is {zone}, the shop's is {config.timezone}")
    end = end_of_date(run_date, config.timezone)
    tables: dict[str, ReadTable] = {}
    notes: list[str] = []
    sources = {
        table: pin_version(spark, source.for_date(run_date), f"inputs.{table}")
        for table, source in config.inputs.items()
        if table in wanted
    }
    used = {name for name in config.sources if any(uses_source(source, name) for source in sources.values())}
    named = {
        name: pin_version(spark, source.for_date(run_date), f"sources.{name}") if name in used else source
        for name, source in config.sources.items()
    }

    pseudonym = keyed_hashes(privacy_key(spark, config)) if config.privacy.pseudonyms else None

    def read(table: str) -> ReadTable:
        source = sources[table]
        found = read_table(spark, table, source, tables, end, f"{work}/{table}", pseudonym)
        if table in ("items", "purchases") or (table == "reviews" and "purchases" not in wanted):
            _refuse_empty(table, source, found, run_date)
        if table == optouts.TABLE:
            optouts.refuse_empty_optouts(source, found)
        return found

    with named_sources(spark, named, sources, notes), ThreadPoolExecutor(_THREADS) as pool:
        for step in _steps(config):
            configured = [table for table in step if table in config.inputs and table in wanted]
            tables |= dict(zip(configured, pool.map(read, configured), strict=True))
            if "items" in configured:
                tables["items"] = with_left_out(spark, sources["items"], tables["items"], f"{work}/items_left_out")
                source, path = config.inputs["items"], f"{work}/items_of_snapshots"
                tables["items"] = with_earlier_snapshots(spark, source, run_date, tables["items"], path)
            if "purchases" not in configured:
                continue
            if "items" not in tables:
                tables["items"] = derive_items(spark, tables["purchases"].product_rows, f"{work}/items")
            elif config.inputs["purchases"].maps_title:
                titled = items_of_purchases(tables["purchases"].product_rows)
                tables["items"] = with_delisted(spark, tables["items"], titled, f"{work}/items_of_purchases")
    unmatched = optouts.check_matches(config, wanted, tables)
    point("inputs-read")
    used_rows = {
        t: enforce(read.used.drop(*MARKS), schemas.contract(t)) for t, read in tables.items() if t != optouts.TABLE
    }
    return Inputs(
        used=without_customer_names(used_rows, config.privacy.name_columns),
        opted_out=tables[optouts.TABLE].used.select("user_id") if optouts.TABLE in tables else None,
        quarantine=collect_quarantine(
            spark,
            {t: tables[t].written for t in tables if t in config.inputs},
            {t: tables[t].excluded_files for t in tables if t in config.inputs},
        ),
        accounts={t: read.account for t, read in tables.items()},
        rejected_by_rule={
            (t, rule): n for t, read in tables.items() for rule, n in sorted(read.rejected_by_rule.items())
        },
        emptied_by_rule={
            (t, rule): n for t, read in tables.items() for rule, n in sorted(read.emptied_by_rule.items())
        },
        freshness={t: read.freshness for t, read in tables.items() if read.freshness is not None},
        notes=[*notes, *(note for read in tables.values() for note in read.notes), *unmatched],
        versions={
            input_version(section, name): str(source.version)
            for section, found in (("inputs", sources), ("sources", named))
            for name, source in found.items()
            if source.version is not None and (section == "inputs" or name in used)
        },
    )


def _steps(config: Config) -> tuple[tuple[str, ...], ...]:
    """Return the steps of reading; purchases come before the other events if they name products."""
    purchases = config.inputs.get("purchases")
    if "items" in config.inputs and not (purchases and purchases.maps_title):
        return (("optouts", "items"), _AFTER_ITEMS)
    return (("optouts", "items"), _AFTER_ITEMS[:1], _AFTER_ITEMS[1:])


def read_table(
    spark: SparkSession,
    table: str,
    source: InputSettings,
    tables: Mapping[str, ReadTable],
    end: datetime,
    path: str,
    pseudonym: Callable[[Column], Column] | None = None,
) -> ReadTable:
    """Scan one source once, write its used and rejected rows to `path`, and count every row's outcome.

    `tables` were read before: the catalogue and the opted-out customers. An unreadable file is excluded and the scan
    starts again, up to `max_bad_files` times. `pseudonym` replaces ids of customers, if given. Raises BadFile beyond
    that, and the errors of `read_inputs`.
    """
    excluded_files: list[str] = []
    while True:
        try:
            return _scan(spark, table, source, tables, end, path, excluded_files, pseudonym)
        except BadFile as bad:
            if len(excluded_files) >= source.max_bad_files or bad.file in excluded_files:
                raise
            excluded_files.append(bad.file)


def _scan(
    spark: SparkSession,
    table: str,
    source: InputSettings,
    tables: Mapping[str, ReadTable],
    end: datetime,
    path: str,
    excluded_files: Sequence[str],
    pseudonym: Callable[[Column], Column] | None,
) -> ReadTable:
    with_title = table == "purchases" and ("items" not in tables or source.maps_title)
    columns = input_columns(table, with_title)
    read, opted_out, decided, copies = (Observation() for _ in range(4))

    opened = open_source(spark, table, source, excluded_files)
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        refuse_broken_off_files(spark, source, f"inputs.{table}", excluded_files)
    notes = refuse_schema_drift(spark, table, source, opened)
    raw = map_columns(opened.rows, table, source, with_title)
    names = [*(column.name for column in columns), *further_columns(raw, table)]
    notes += warn_of_empty_columns(table, source, raw)
    raw = raw.observe(read, _count_rows().alias("rows"), F.count_if(has_undecoded_text(raw)).alias("undecoded"))
    rows = validate_rows(raw, table, columns)
    rows = reject_unknown_ids(rows, table, tables)
    rows = optouts.mark_opted_out(rows, tables)
    rows = decide_outcome(rows.observe(opted_out, optouts.matched_ids()), table, end).observe(
        decided,
        *(F.count_if(F.col("__outcome") == outcome).alias(outcome) for outcome in _DROPPED),
        *(F.count_if(F.col("__outcome").isNull() & F.col(emptied(rule))).alias(rule) for rule in emptied_rules(table)),
    )
    rows = keep_written_rows(rows, table, names)
    rows = number_copies(rows, table, names).observe(copies, F.count_if(is_copy()).alias("duplicates"))
    rows = rows.where(~is_copy())
    kept = [*names, *MARKS]
    if table == "purchases":
        rows, kept = mark_returned_products(rows), [*kept, HAS_RETURN]
    if pseudonym is not None and "user_id" in kept and table != optouts.TABLE:  # opt-outs are compared before
        rows = rows.withColumn("user_id", pseudonym(F.col("user_id")))
    rows = rows.select(*map(column_named, kept))

    with translating_errors(table, source, f"inputs.{table}", scan=True):
        rows.write.mode("overwrite").parquet(files.uri(path))
    written = spark.read.schema(rows.schema).parquet(files.for_reading(path))
    returned, before_returns = 0, None
    if table == "purchases" and written.where(HAS_RETURN).head() is not None:
        before_returns = written.where(F.col(RULE).isNull())
        written, returned = net_returns(spark, written, f"{path}_with_returns")
    used, rejected_by_rule, days = count_by_rule_and_day(written, table)
    dropped = {outcome: decided.get[outcome] for outcome in _DROPPED}
    account = RowAccount(
        int(read.get["rows"]), used, sum(rejected_by_rule.values()), **dropped, **copies.get, returned=returned
    )
    refuse_imbalance(table, account)
    notes += refuse_undecoded_text(table, source, account.read, int(read.get["undecoded"]))
    emptied_by_rule = {rule: decided.get[rule] for rule in emptied_rules(table) if decided.get[rule]}
    notes += warn_of_emptied_columns(table, account, emptied_by_rule)
    notes += warn_of_unknown_ids(table, account, rejected_by_rule)
    return ReadTable(
        written,
        account,
        rejected_by_rule | ({FILE_UNREADABLE: len(excluded_files)} if excluded_files else {}),
        excluded_files=tuple(excluded_files),
        emptied_by_rule=emptied_by_rule,
        freshness=freshness(days),
        notes=notes,
        opted_out_ids=frozenset(opted_out.get["matched"]),
        before_returns=before_returns,
    )


def _count_rows() -> Column:
    return F.count(F.lit(1))


def _refuse_empty(table: str, source: InputSettings, read: ReadTable, run_date: date) -> None:
    """Raise InputError if no row of a table that the command needs can be used."""
    if read.account.used:
        return
    if not read.account.read:
        left = f" after inputs.{table}.where" if source.where else ""
        raise InputError(f"inputs.{table}: {source.place} has no rows{left}. Give a table with rows.")
    reasons = "".join(
        f"; {n} broke {rule} ({rule_details(table).get(rule)})" for rule, n in read.rejected_by_rule.items()
    )
    raise InputError(
        f"inputs.{table}: no row of {source.place} can be used as of {run_date}: {read.account}{reasons}. "
        "Correct the mapping or the data, or run a later date that has rows."
    )
