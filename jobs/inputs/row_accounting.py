"""Decides the one outcome of each source row: used, or one reason why not.

The reasons are checked in one order: opted out, quarantined (unless the row happened after the window), outside the
window, duplicate, returned. A row with none of them is used. Returns that match no purchase are quarantined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import TITLE
from jobs.inputs.freshness import Freshness
from jobs.inputs.known_rows import TableNotes
from jobs.inputs.returns import is_return
from jobs.inputs.validation import RULE, raw_name, unknown_id_rule
from jobs.sources.expressions import column_named
from jobs.sources.sources import SOURCE_FILE
from jobs.spark.errors import GateRefused

#: A catalogue with more products than this is not broadcast to every executor.
_MAX_BROADCAST_ITEMS = 3_000_000
_KEY_SEPARATOR = "\x1f"
#: Name of the column that is not null in the rows of customers who opted out.
OPTED_OUT = "__opted_out"


@dataclass(frozen=True)
class RowAccount:
    """Row counts of one table by outcome; `read` is counted at the source, the others where they are decided."""

    read: int
    used: int
    quarantined: int = 0
    opted_out: int = 0
    duplicates: int = 0
    outside_window: int = 0
    #: Matched returns, and purchases that were returned in full.
    returned: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, f.name)} {f.name.replace('_', ' ')}" for f in fields(self))


@dataclass(frozen=True)
class ReadTable:
    """One table as written: used rows (RULE is null) and rejected rows, with their counts."""

    written: DataFrame
    account: RowAccount
    rejected_by_rule: dict[str, int]
    #: URIs of the unreadable files.
    excluded_files: Sequence[str] = ()
    #: Optional values that were left out of the rows, by the rule that they broke.
    emptied_by_rule: Mapping[str, int] = field(default_factory=dict)
    #: None for tables without a time, and without used rows.
    freshness: Freshness | None = None
    #: The time of the newest used row in microseconds since 1970.
    newest_at: int | None = None
    #: Warnings for the operator, one line each.
    notes: Sequence[str] = ()
    #: Hashes of the opted-out ids that this table has.
    opted_out_ids: frozenset[str] = frozenset()
    #: The valid rows before returns were netted, if there were any: they name products, too.
    before_returns: DataFrame | None = None
    #: What the next night needs to read only what is new; None where it may not.
    noted: TableNotes | None = None
    #: `user_id` of the customers whose rows are not those that earlier nights kept; None where all rows were read.
    changed: DataFrame | None = None
    #: The used rows, where they are read apart from the rejected ones of `written`.
    used_alone: DataFrame | None = None

    @property
    def product_rows(self) -> DataFrame:
        """The valid rows, also those of products that were returned: a returned product is still a product."""
        return self.used if self.before_returns is None else self.before_returns

    @property
    def used(self) -> DataFrame:
        """The used rows, with the columns that were written."""
        return self.written.where(F.col(RULE).isNull()) if self.used_alone is None else self.used_alone


def end_of_date(run_date: date, timezone: str) -> datetime:
    """Return the first instant after `run_date` in `timezone`; a run sees the events before it."""
    return datetime.combine(run_date + timedelta(days=1), time(), ZoneInfo(timezone))


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970 of a whole second."""
    return round(instant.timestamp()) * 1_000_000


def is_before(instant: datetime, column: str) -> Column:
    """Whether `column` (timestamp) lies before `instant`, to the microsecond, in any session time zone."""
    return F.col(column) < F.timestamp_micros(F.lit(microseconds(instant)))


def happened_after(table: str, end: datetime) -> Column:
    """Whether a row of the table happened at or after `end`; false in tables without a time."""
    time_column = schemas.contract(table).time_column
    return F.lit(False) if time_column is None else F.coalesce(~is_before(end, time_column), F.lit(False))


def reject_unknown_ids(rows: DataFrame, table: str, tables: Mapping[str, ReadTable]) -> DataFrame:
    """Set RULE in rows whose id is not in the table that the contract relates it to, if that table was read.

    A purchase that names its product by a title is never unknown: the product was in the catalogue.
    """
    for relation in schemas.contract(table).relations:
        if relation.table not in tables:
            continue
        ids = tables[relation.table].used.select(F.col(relation.references).alias("__known"))
        if tables[relation.table].account.used <= _MAX_BROADCAST_ITEMS:
            ids = F.broadcast(ids)
        is_unknown = F.col(RULE).isNull() & F.col("__known").isNull()
        if TITLE in rows.columns:
            is_unknown &= F.coalesce(F.btrim(TITLE), F.lit("")) == ""
        rows = (
            rows.join(ids, on=F.col(relation.column) == F.col("__known"), how="left")
            .withColumn(RULE, F.when(is_unknown, F.lit(unknown_id_rule(relation))).otherwise(F.col(RULE)))
            .drop("__known")
        )
    return rows


def decide_outcome(rows: DataFrame, table: str, end: datetime) -> DataFrame:
    """Add `__outcome`: the first reason that applies, or null for rows that are used unless they repeat another.

    The opt-out comes first: not even a rejected row of an opted-out customer is published.

    A rejected row that happened at or after `end` is outside the window: on the run's date it did not exist yet.
    A date that is repeated later therefore rejects the same rows.
    """
    is_later = happened_after(table, end)
    outcome = (
        F.when(F.col(OPTED_OUT).isNotNull(), "opted_out")
        .when(F.col(RULE).isNotNull() & ~is_later, "quarantined")
        .when(is_later, "outside_window")
    )
    rows = rows.withColumn("__outcome", outcome)
    return rows.withColumn(RULE, F.when(F.col("__outcome") == "quarantined", F.col(RULE)))


def keep_written_rows(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
    """Keep the rows that will be written, before the shuffle; rejected rows keep the hash of their key and their file.

    Returns `names`, RULE, `key_hash` and `source_file`. The last two are null unless the row is rejected or a return.
    """
    is_rejected = F.col(RULE).isNotNull()
    may_be_rejected = is_rejected | is_return() if table == "purchases" else is_rejected
    texts = [F.col(raw_name(name)).cast("string") for name in schemas.contract(table).key]
    key = F.concat_ws(_KEY_SEPARATOR, *(F.coalesce(text, F.lit("")) for text in texts))
    # The file's name, with its partition folders if it has any.
    file = F.regexp_extract(SOURCE_FILE, "(?:[^/=]+=[^/]*/)*[^/]+$", 0)
    return rows.where(F.col("__outcome").isNull() | is_rejected).select(
        *map(column_named, names),
        RULE,
        F.when(may_be_rejected, F.sha2(key, 256)).alias("key_hash"),
        F.when(may_be_rejected, file).alias("source_file"),
    )


def number_copies(rows: DataFrame, table: str, names: list[str]) -> DataFrame:
    """Add `__copy`: the number of a row among those with its key, newest first, then by all other columns.

    Also `__of_another`: whether the first of them is of another customer.

    The order is total, so the first row never depends on partitions. The one shuffle also puts all rows of a customer
    into one file; histories can then aggregate before their own shuffle.
    """
    contract = schemas.contract(table)
    bucket_key = ["user_id"] if "user_id" in contract.key else list(contract.key)
    others = [name for name in names if name not in contract.key]
    remaining = [name for name in others if name != contract.time_column]
    newest = [F.col(contract.time_column).desc()] if contract.time_column in others else []
    # Rejected rows are spread by their whole content: no task gets all the rows without a customer.
    content = F.xxhash64(*map(column_named, names), RULE)
    bucket = F.when(F.col(RULE).isNull(), F.xxhash64(*bucket_key)).otherwise(content)
    copies = (
        # A return never repeats a purchase, even of the same order at the same time.
        Window.partitionBy("__bucket", *contract.key, *([is_return()] if table == "purchases" else []))
        # The key comes last: a table without other columns also needs an order.
        .orderBy(*newest, *(column_named(n).asc_nulls_last() for n in remaining), *contract.key)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    numbered = (
        rows.withColumn("__bucket", bucket).repartition("__bucket").withColumn("__copy", F.row_number().over(copies))
    )
    if bucket_key == ["user_id"] or "user_id" not in names:
        return numbered.withColumn("__of_another", F.lit(False))
    return numbered.withColumn("__of_another", F.first("user_id").over(copies) != F.col("user_id"))


def is_copy() -> Column:
    """Whether a numbered row repeats one that is used."""
    return F.col(RULE).isNull() & (F.col("__copy") > 1)


@dataclass(frozen=True)
class WrittenRows:
    """The number of used rows and of rejected ones by rule, and the days and newest time of the used rows.

    The time is in microseconds since 1970; None without used rows, and in tables without a time.
    """

    used: int
    rejected: dict[str, int]
    days: set[date]
    newest_at: int | None


def count_written(written: DataFrame, table: str) -> WrittenRows:
    """Count the used rows, and the rejected ones by rule, in one job; say when the used rows happened too."""
    time_column = schemas.contract(table).time_column
    at = F.lit(None).cast("timestamp") if time_column is None else F.when(F.col(RULE).isNull(), F.col(time_column))
    counted = written.groupBy(RULE, F.to_date(at).alias("day")).agg(
        F.count(F.lit(1)).alias("rows"), F.unix_micros(F.max(at)).alias("newest_at")
    )
    found = counted.collect()
    rejected = Counter[str]()
    for row in found:
        if row[RULE] is not None:
            rejected[row[RULE]] += row["rows"]
    return WrittenRows(
        used=sum(row["rows"] for row in found if row[RULE] is None),
        rejected=dict(rejected),
        days={row["day"] for row in found} - {None},
        newest_at=max((row["newest_at"] for row in found if row["newest_at"] is not None), default=None),
    )


def refuse_imbalance(table: str, account: RowAccount) -> None:
    """Raise GateRefused if the outcomes do not add up to the rows read."""
    if account.read != sum(getattr(account, f.name) for f in fields(account)) - account.read:
        raise GateRefused(
            f"the rows of {table} do not add up: {account}. Was the source written to while it was read? "
            "Nothing was published; run the night again."
        )
