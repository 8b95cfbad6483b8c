"""What becomes of each row of a source: used, or one reason why not; nothing else is decided here.

The outcomes are checked in one order, so that each row has exactly one: quarantined (unless it happened after the
window), opted out, outside the window, duplicate, used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

import schemas
from jobs.inputs.sources import SOURCE_FILE
from jobs.inputs.validation import RULE, raw_name, unknown
from jobs.spark.errors import GateRefused

#: Above this many products the catalogue's ids are no longer broadcast to every executor.
_BROADCAST_ITEMS = 3_000_000
_FIELD = "\x1f"


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


def end_of(run_date: date, timezone: str) -> datetime:
    """The first instant after `run_date` in `timezone`: events before it are seen."""
    return datetime.combine(run_date + timedelta(days=1), time(), ZoneInfo(timezone))


def is_before(instant: datetime, column: str) -> Column:
    """`column` (timestamp) lies before `instant`, exact to the microsecond in any session time zone."""
    return F.col(column) < F.timestamp_micros(F.lit(round(instant.timestamp()) * 1_000_000))


def with_unknown_ids(rows: DataFrame, table: str, tables: Mapping[str, Table]) -> DataFrame:
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


def with_opted_out(rows: DataFrame, table: str, tables: Mapping[str, Table]) -> DataFrame:
    """Mark rows of customers who opted out."""
    if "optouts" not in tables or "user_id" not in rows.columns:
        return rows.withColumn("__opted_out", F.lit(None).cast("string"))
    gone = tables["optouts"].used.select(F.col("user_id").alias("__opted_out"))
    return rows.join(gone, on=F.col("user_id") == F.col("__opted_out"), how="left")


def with_outcome(rows: DataFrame, table: str, end: datetime) -> DataFrame:
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


def without_outcome(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
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


def with_copy_number(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
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


def is_copy() -> Column:
    """Whether a row repeats one that is used."""
    return F.col(RULE).isNull() & (F.col("__copy") > 1)


def refuse_imbalance(table: str, account: Account) -> None:
    """Raises GateRefused where the outcomes do not add up to the rows read."""
    if account.read != sum(getattr(account, f.name) for f in fields(account)) - account.read:
        raise GateRefused(
            f"the rows of {table} do not add up: {account}. Was the source written to while it was read? "
            "Nothing was published; run the night again."
        )
