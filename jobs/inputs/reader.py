"""Reads the shop's tables for one run_date: valid rows, once each, without opted-out customers, all rows counted.

Each source is scanned once. Its used and rejected rows are written once, below the run's work folder or in its segment;
every later step reads them there. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial

from pyspark.sql import DataFrame, SparkSession

import schemas
from jobs.config.input_settings import InputSettings
from jobs.config.privacy import privacy_key
from jobs.config.settings import Config
from jobs.inputs import known_rows, optouts
from jobs.inputs.catalogue import derive_items, with_delisted, with_earlier_snapshots, with_left_out
from jobs.inputs.customer_names import CUSTOMERS, TEXTS, without_customer_names
from jobs.inputs.delisted import items_of_purchases
from jobs.inputs.freshness import Freshness
from jobs.inputs.kept_inputs import keep_catalogue, keep_optouts, opted_out_since, refuse_lost_products
from jobs.inputs.known_rows import KnownInputs, TableNotes
from jobs.inputs.quarantine import collect_quarantine
from jobs.inputs.row_accounting import ReadTable, RowAccount, end_of_date
from jobs.inputs.table_scan import Scan, read_table
from jobs.inputs.validation import MARKS, rule_details
from jobs.sources.queries import named_sources, uses_source
from jobs.sources.table_formats import pin_version
from jobs.spark.contracts import enforce
from jobs.spark.errors import ConfigurationError, InputError
from jobs.spark.fault_points import point
from jobs.spark.privacy_key import keyed_hash, keyed_hashes
from schemas.runs import input_version

#: Tables are checked against those of earlier steps. The tables of one step are read at the same time, because
#: planning a single one leaves cores idle.
_FIRST = ("optouts", "items")
_AFTER_ITEMS = ("purchases", "searches", "reviews", "questions", "articles", "customers", "events")
_THREADS = 4


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
    #: The time of the newest used row, in microseconds since 1970, of the tables with a time.
    newest_at: dict[str, int]
    #: Warnings for the operator, one line each.
    notes: list[str]
    #: Version of each Delta table, and snapshot of each Iceberg table, by its key in `versions` of the table `runs`.
    versions: dict[str, str]
    #: What the next night needs to read only what is new, by table; only of a night that keeps its rows.
    noted: dict[str, TableNotes] = field(default_factory=dict)
    #: `user_id` of the customers with new rows, by table; empty where all rows were read.
    changed: dict[str, DataFrame] = field(default_factory=dict)
    #: Whether customers opted out since the rows that earlier nights kept.
    opted_out_since: bool = False


def tables_of_night(config: Config) -> Collection[str]:
    """Return the tables that a night reads: all, or what is configured where reviews alone are labelled."""
    return schemas.INPUTS if "purchases" in config.inputs else tuple(config.inputs)


def read_inputs(
    spark: SparkSession,
    config: Config,
    run_date: date,
    work: str,
    wanted: Collection[str] = schemas.INPUTS,
    known: KnownInputs | None = None,
    *,
    segment: str | None = None,
    optouts_as_of: date | None = None,
) -> Inputs:
    """Read the `wanted` and configured tables as of the end of `run_date` in the shop's time zone.

    The rows are written below the folder `work`. Each row has exactly one outcome (`jobs.inputs.row_accounting`).
    Raises ConfigurationError (purchases are wanted and not configured), InputError (a source is missing, unreadable,
    empty or does not fit its mapping) and GateRefused (the outcomes do not add up to the rows read). Raises
    ValueError if the session has another time zone than the shop.

    Opt-outs are those of `optouts_as_of`, if given: who opted out since `run_date` is left out too.

    The folder `segment`, if given, gets what the next night needs to read only what is new. With `known`, what earlier
    nights kept, only new rows are read; the result is the same. Raises StartFromNothing where that cannot be sure.
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

    def date_of(*readers: str) -> date:
        return optouts_as_of if optouts_as_of is not None and readers == (optouts.TABLE,) else run_date

    sources = {
        table: pin_version(spark, source.for_date(date_of(table)), f"inputs.{table}")
        for table, source in config.inputs.items()
        if table in wanted
    }
    users = {name: [t for t, source in sources.items() if uses_source(source, name)] for name in config.sources}
    used = {name for name, readers in users.items() if readers}
    named = {
        name: pin_version(spark, source.for_date(date_of(*users[name])), f"sources.{name}") if name in used else source
        for name, source in config.sources.items()
    }

    has_pseudonyms = config.privacy.pseudonyms
    # Without kept rows or pseudonyms, hashes are only compared with each other.
    key = privacy_key(spark, config) if has_pseudonyms or segment else secrets.token_bytes()
    pseudonym = keyed_hashes(key) if has_pseudonyms else None

    def read(table: str) -> ReadTable:
        source = sources[table]
        is_kept = segment is not None and table in known_rows.TABLES
        path = f"{segment if is_kept else work}/{table}"
        old = known if table in known_rows.TABLES else None
        keyed = partial(keyed_hash, key)
        found = read_table(Scan(spark, table, source, tables, end, path, keyed, pseudonym, old, is_kept))
        if table in ("items", "purchases") or (table == "reviews" and "purchases" not in wanted):
            _refuse_empty(table, source, found, run_date)
        if table == optouts.TABLE:
            optouts.refuse_broken_optouts(source, found)
        return found

    with named_sources(spark, named, sources, notes), ThreadPoolExecutor(_THREADS) as pool:
        for step in _steps(config):
            configured = [table for table in step if table in config.inputs and table in wanted]
            tables |= dict(zip(configured, pool.map(read, configured), strict=True))
            if "items" in configured:
                tables["items"] = with_left_out(spark, sources["items"], tables["items"], f"{work}/items_left_out")
                source, path = config.inputs["items"], f"{work}/items_of_snapshots"
                tables["items"] = with_earlier_snapshots(spark, source, run_date, tables["items"], path)
            if known is not None and step is _FIRST:
                of_today = tables.get(optouts.TABLE)
                known = opted_out_since(known, of_today, keyed_hashes(key), has_pseudonyms=has_pseudonyms)
                refuse_lost_products(spark, known, tables["items"])
            if "purchases" not in configured:
                continue
            if "items" not in tables:
                tables["items"] = derive_items(spark, tables["purchases"].product_rows, f"{work}/items")
            elif config.inputs["purchases"].maps_title:
                titled = items_of_purchases(tables["purchases"].product_rows)
                tables["items"] = with_delisted(spark, tables["items"], titled, f"{work}/items_of_purchases")
    is_same_list = known is not None and known.opted_out is None
    unmatched = optouts.check_matches(
        config, wanted, tables, partial(keyed_hash, key), pseudonym, is_same_list=is_same_list
    )
    if segment is not None:
        if "items" in tables:
            keep_catalogue(tables["items"], segment)
        if optouts.TABLE in tables:
            keep_optouts(tables[optouts.TABLE], segment, keyed_hashes(key))
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
        newest_at={t: read.newest_at for t, read in tables.items() if read.newest_at is not None},
        notes=[*notes, *(note for read in tables.values() for note in read.notes), *unmatched],
        versions={
            input_version(section, name): str(source.version)
            for section, found in (("inputs", sources), ("sources", named))
            for name, source in found.items()
            if source.version is not None and (section == "inputs" or name in used)
        },
        noted={t: read.noted for t, read in tables.items() if read.noted is not None},
        changed={t: read.changed for t, read in tables.items() if read.changed is not None},
        opted_out_since=known is not None and known.opted_out is not None,
    )


def _steps(config: Config) -> tuple[tuple[str, ...], ...]:
    """Return the steps of reading; purchases come before the other events if they name products."""
    purchases = config.inputs.get("purchases")
    if "items" in config.inputs and not (purchases and purchases.maps_title):
        return (_FIRST, _AFTER_ITEMS)
    return (_FIRST, _AFTER_ITEMS[:1], _AFTER_ITEMS[1:])


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
