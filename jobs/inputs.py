"""Reads the shop's tables for one run_date: validated, deduplicated, opted-out customers gone, every row accounted for.

Each source is scanned once; its surviving and its rejected rows are written once, below the run's work folder, and
everything later reads them from there. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

import schemas
from jobs.contracts import enforce
from jobs.errors import BadFile, GateRefused, InputError
from jobs.input_settings import TITLE, Input
from jobs.quarantine import FILE_UNREADABLE, rejections
from jobs.settings import Config
from jobs.sources import SOURCE_FILE, explained, input_columns, mapped, open_source, refuse_drift
from jobs.validation import RULE, details, raw_name, unknown, validated

#: Above this many products the catalogue's ids are no longer broadcast to every executor.
_BROADCAST_ITEMS = 3_000_000
_FIELD = "\x1f"
#: What is held against the tables of an earlier step; those of one step are read at once, for planning one leaves
#: cores idle. Without a catalogue it is made of the purchases.
_EVENTS = ("purchases", "searches", "reviews", "questions", "articles")
_STEPS = (("optouts", "items"), _EVENTS)
_STEPS_WITHOUT_ITEMS = (("optouts",), _EVENTS[:1], _EVENTS[1:])
_AT_ONCE = 4


@dataclass(frozen=True)
class Account:
    """What became of each row of one table; `read` is counted at the source, the rest where it is decided."""

    read: int
    used: int
    quarantined: int = 0
    opted_out: int = 0
    duplicates: int = 0
    outside_window: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in fields(self))


@dataclass(frozen=True)
class Inputs:
    """The night's input: `used` holds contract columns per table, `quarantine` one row per rejected row."""

    used: dict[str, DataFrame]
    quarantine: DataFrame
    accounts: dict[str, Account]
    by_rule: dict[tuple[str, str], int]
    #: What the operator should know of the sources: one line each.
    notes: list[str]


@dataclass(frozen=True)
class Table:
    """One table as written: used rows (RULE is null) and rejected ones."""

    written: DataFrame
    account: Account
    by_rule: dict[str, int]
    #: URIs of the files that could not be read, and what else there is to say of the source.
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def used(self) -> DataFrame:
        """The rows that go on into the night."""
        return self.written.where(F.col(RULE).isNull())


def read_inputs(spark: SparkSession, config: Config, run_date: date, work: str) -> Inputs:
    """Read all configured tables as of the end of `run_date` in the shop's time zone, writing below `work`.

    Each row has exactly one outcome, checked in this order: quarantined (unless it happened after the window), opted
    out, outside the window, duplicate, used.
    Raises InputError (a source is missing, unreadable, empty or does not fit) and GateRefused (the outcomes do
    not add up to the rows read).
    """
    zone = spark.conf.get("spark.sql.session.timeZone")
    if zone != config.timezone:
        raise ValueError(f"the session's time zone is {zone}, the shop's is {config.timezone}")
    end = end_of(run_date, config.timezone)
    tables: dict[str, Table] = {}

    def read(table: str) -> Table:
        source = config.inputs[table].on(run_date)
        found = read_table(spark, table, source, tables, end, f"{work}/{table}")
        if table in ("items", "purchases"):
            _refuse_empty(table, source, found, run_date)
        return found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for step in _STEPS if "items" in config.inputs else _STEPS_WITHOUT_ITEMS:
            there = [table for table in step if table in config.inputs]
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


def end_of(run_date: date, timezone: str) -> datetime:
    """The first instant after `run_date` in `timezone`: events before it are seen."""
    return datetime.combine(run_date + timedelta(days=1), time(), ZoneInfo(timezone))


def is_before(instant: datetime, column: str) -> Column:
    """`column` (timestamp) lies before `instant`, exact to the microsecond in any session time zone."""
    return F.col(column) < F.timestamp_micros(F.lit(round(instant.timestamp()) * 1_000_000))


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
    raw = mapped(opened.df, table, source, with_title).observe(read, _rows().alias("rows"))
    rows = validated(raw, table, columns)
    rows = _with_unknown_ids(rows, table, tables)
    rows = _with_opted_out(rows, table, tables)
    rows = _with_outcome(rows, table, end).observe(
        decided, *(F.count_if(F.col("__outcome") == o).alias(o) for o in ("opted_out", "outside_window"))
    )
    rows = _without_outcome(rows, table, names)
    rows = _with_copy_number(rows, table, names).observe(copies, F.count_if(_is_copy()).alias("duplicates"))
    rows = rows.where(~_is_copy()).select(*names, RULE, "key_hash", "source_file")

    with explained(table, source, f"inputs.{table}", scan=True):
        rows.write.mode("overwrite").parquet(path)
    written = spark.read.schema(rows.schema).parquet(path)
    counts = {row[RULE]: int(row["count"]) for row in written.groupBy(RULE).count().collect()}
    used = counts.pop(None, 0)
    account = Account(int(read.get["rows"]), used, sum(counts.values()), **(decided.get | copies.get))
    _refuse_imbalance(table, account)
    by_rule = counts | ({FILE_UNREADABLE: len(left_out)} if left_out else {})
    return Table(written, account, by_rule, tuple(left_out), notes)


def _rows() -> Column:
    return F.count(F.lit(1))


def _with_unknown_ids(rows: DataFrame, table: str, tables: Mapping[str, Table]) -> DataFrame:
    """Reject rows whose item is not in the catalogue; a derived catalogue holds every item by construction."""
    for relation in schemas.contract(table).relations:
        if relation.table not in tables:
            continue
        ids = tables[relation.table].used.select(F.col(relation.references).alias("__known"))
        if tables[relation.table].account.used <= _BROADCAST_ITEMS:
            ids = F.broadcast(ids)
        is_unknown = F.col(RULE).isNull() & F.col("__known").isNull()
        rows = (
            rows.join(ids, on=F.col(relation.column) == F.col("__known"), how="left")
            .withColumn(RULE, F.when(is_unknown, F.lit(unknown(relation))).otherwise(F.col(RULE)))
            .drop("__known")
        )
    return rows


def _with_opted_out(rows: DataFrame, table: str, tables: Mapping[str, Table]) -> DataFrame:
    if "optouts" not in tables or "user_id" not in rows.columns:
        return rows.withColumn("__opted_out", F.lit(None).cast("string"))
    gone = tables["optouts"].used.select(F.col("user_id").alias("__opted_out"))
    return rows.join(gone, on=F.col("user_id") == F.col("__opted_out"), how="left")


def _with_outcome(rows: DataFrame, table: str, end: datetime) -> DataFrame:
    """The first outcome that applies, or null for rows that are used unless they repeat another.

    A rejected row that happened after the window is outside it: on its own date it was not there yet, and a date that
    is repeated later must reject just the same rows.
    """
    time_column = schemas.contract(table).time_column
    is_later = F.lit(False) if time_column is None else F.coalesce(~is_before(end, time_column), F.lit(False))
    outcome = (
        F.when(F.col(RULE).isNotNull() & ~is_later, "quarantined")
        .when(F.col("__opted_out").isNotNull(), "opted_out")
        .when(is_later, "outside_window")
    )
    rows = rows.withColumn("__outcome", outcome)
    return rows.withColumn(RULE, F.when(F.col("__outcome") == "quarantined", F.col(RULE)))


def _without_outcome(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
    """Keep rows that will be written, rejected ones with their origin: what is dropped here needs no shuffle."""
    is_rejected = F.col(RULE).isNotNull()
    texts = [F.col(raw_name(name)).cast("string") for name in schemas.contract(table).key]
    key = F.concat_ws(_FIELD, *(F.coalesce(text, F.lit("")) for text in texts))
    # The file's name, with the partition folders above it where the source has them.
    file = F.regexp_extract(SOURCE_FILE, "(?:[^/=]+=[^/]*/)*[^/]+$", 0)
    return rows.where(F.col("__outcome").isNull() | is_rejected).select(
        *names,
        RULE,
        F.when(is_rejected, F.sha2(key, 256)).alias("key_hash"),
        F.when(is_rejected, file).alias("source_file"),
    )


def _with_copy_number(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
    """Number the rows of one key, newest first, then by every other column, so that the first is always the same.

    One shuffle: rows of a customer land in one file, which lets histories aggregate before their own shuffle.
    """
    contract = schemas.contract(table)
    home = ["user_id"] if "user_id" in contract.key else list(contract.key)
    rest = [name for name in names if name not in contract.key]
    newest = [F.col(contract.time_column).desc()] if contract.time_column in rest else []
    # Rejected rows (of any key, or none) are spread by their whole content: no task gets all rows without a customer.
    bucket = F.when(F.col(RULE).isNull(), F.xxhash64(*home)).otherwise(F.xxhash64(*names, RULE))
    copies = (
        Window.partitionBy("__bucket", *contract.key)
        # The key comes last: a table without further columns needs some order too.
        .orderBy(*newest, *(F.col(n).asc_nulls_last() for n in rest if n != contract.time_column), *contract.key)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    return rows.withColumn("__bucket", bucket).repartition("__bucket").withColumn("__copy", F.row_number().over(copies))


def _is_copy() -> Column:
    return F.col(RULE).isNull() & (F.col("__copy") > 1)


def _refuse_empty(table: str, source: Input, read: Table, run_date: date) -> None:
    """Without one usable purchase and one product there is no night."""
    if read.account.used:
        return
    shown = ", ".join(source.paths)
    if not read.account.read:
        left = " after inputs.{table}.where" if source.where else ""
        raise InputError(f"inputs.{table}: {shown} has no rows{left.format(table=table)}. Give a table with rows.")
    worst = "".join(f"; {n} broke {rule} ({details(table).get(rule)})" for rule, n in read.by_rule.items())
    raise InputError(
        f"inputs.{table}: no row of {shown} can be used as of {run_date}: {read.account}{worst}. "
        "Mend the mapping or the data, or run a date from which on there are rows."
    )


def _refuse_imbalance(table: str, account: Account) -> None:
    if account.read != sum(getattr(account, f.name) for f in fields(account)) - account.read:
        raise GateRefused(
            f"the rows of {table} do not add up: {account}. Was the source written to while it was read? "
            "Nothing was published; run the night again."
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
