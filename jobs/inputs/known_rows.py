"""The rows that earlier nights read and kept, so that a night reads only what is new.

Each night keeps one segment, a folder that never changes. The first one, of a night from nothing, has all rows. A
later one has all rows of the customers of whom it read a new row, `<table>_changed` with those customers, and the
rejected rows that it read. So of each customer the newest segment that names them counts. `<table>_later` has the rows
of a segment's own files that happened after its date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs.returns import HAS_RETURN, RETURNED
from jobs.inputs.validation import RULE, unknown_id_rule
from jobs.spark import files, parquet

#: The tables of which a night may read only what is new: they have a customer and a time in each row.
TABLES = ("purchases", "searches", "reviews", "events")
#: What follows the name of a table in the part with later rows.
LATER_PART = "_later"
#: Most customers that are sent to every executor.
MOST_BROADCAST = 2_000_000


@dataclass(frozen=True)
class TableNotes:
    """What a night notes of one table besides its rows."""

    #: Version of each file of the source by its URI, and a hash of the source's columns.
    files: Mapping[str, str]
    columns: str
    #: Rows by outcome, values that were left out by rule, and the keyed hashes of opted-out ids that were met.
    account: Mapping[str, int]
    emptied: Mapping[str, int]
    opted_out: Sequence[str]
    #: Customers in `<table>_changed`.
    changed: int = 0
    #: Unreadable files that were left out.
    excluded: int = 0
    #: Rows that were left out as duplicates of another customer's row.
    of_others: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the notes as values of JSON."""
        return asdict(self)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Return the notes from values of JSON."""
        return cls(**raw)


@dataclass(frozen=True)
class KnownInputs:
    """The segments of earlier nights, oldest first, with their notes; `end` is the first instant after their date."""

    folders: Sequence[str]
    notes: Mapping[str, TableNotes]
    end: datetime
    #: Folder for intermediate results of the run.
    work: str
    #: Customers by table in the changed ones of all segments.
    changed: Mapping[str, int] = field(default_factory=dict)
    #: `user_id` and `id_number` of the customers who opted out since; None without any.
    opted_out: DataFrame | None = None
    #: `user_id` of all customers who opted out, as kept rows write it; None without such an input.
    all_opted_out: DataFrame | None = None

    @property
    def newest(self) -> str:
        """The folder of the newest segment."""
        return self.folders[-1]


class Segments:
    """The rows of one table in segments (folders, oldest first)."""

    def __init__(self, spark: SparkSession, table: str, folders: Sequence[str], changed: int) -> None:
        self.spark, self.table, self.folders, self._changed = spark, table, list(folders), changed

    def valid(self) -> DataFrame:
        """The rows that broke no rule, before returns are netted, in the columns that were written."""
        return self._newest(self._read("").where(F.col(RULE).isNull()))

    def used(self) -> DataFrame:
        """The used rows, after returns were netted, apart from the rejected ones: nobody reads all for either."""
        used = self._read("").where(F.col(RULE).isNull())
        if self.table != "purchases":
            return self._newest(used)
        netted, untouched = self._netted(), self._newest(used.where(~F.col(HAS_RETURN))).drop(HAS_RETURN)
        return untouched if netted is None else untouched.unionByName(self._counted(netted, F.col(RULE).isNull()))

    def rejected(self) -> DataFrame:
        """The rejected rows, after returns were netted."""
        rejected = self._rejected(self._read(""))
        if self.table != "purchases":
            return rejected
        netted, rejected = self._netted(), rejected.drop(HAS_RETURN)
        return rejected if netted is None else rejected.unionByName(self._counted(netted, F.col(RULE).isNotNull()))

    def returned(self) -> int:
        """The number of returns and returned purchases."""
        netted = self._netted() if self.table == "purchases" else None
        return 0 if netted is None else self._newest(netted).where(RETURNED).count()

    def unknown_ids(self) -> DataFrame:
        """The rows that name an id which no related table has; only the newest segment has all of them."""
        return self._read("", self.folders[-1:]).where(F.col(RULE).isin(*self._unknown_rules())).drop(_SEGMENT)

    def later(self) -> DataFrame | None:
        """The rows that happened after the date of the segment that read them; None where no segment has any."""
        there = self._with_part(LATER_PART)
        return self._read(LATER_PART, there).drop(_SEGMENT) if there else None

    def _counted(self, netted: DataFrame, which: Column) -> DataFrame:
        return self._newest(netted.where(which)).where(~F.col(RETURNED)).drop(RETURNED, HAS_RETURN)

    def _rejected(self, rows: DataFrame) -> DataFrame:
        is_newest = F.col(_SEGMENT) == len(self.folders) - 1
        rejected = rows.where(F.col(RULE).isNotNull())
        return rejected.where(~F.col(RULE).isin(*self._unknown_rules()) | is_newest).drop(_SEGMENT)

    def _unknown_rules(self) -> list[str]:
        return [unknown_id_rule(relation) for relation in schemas.contract(self.table).relations] or [""]

    def _netted(self) -> DataFrame | None:
        there = self._with_part("_with_returns")
        return self._read("_with_returns", there) if there else None

    def _with_part(self, part: str) -> list[str]:
        return [one for one in self.folders if files.exists(self.spark, f"{one}/{self.table}{part}")]

    def _newest(self, rows: DataFrame) -> DataFrame:
        """Keep the rows of each customer in the newest segment that names them."""
        return newest_segment(rows, self._latest, self._changed).drop(_SEGMENT)

    @cached_property
    def _latest(self) -> DataFrame | None:
        return latest_segments(self.spark, self.folders, self.table)

    def _read(self, part: str, folders: Sequence[str] | None = None) -> DataFrame:
        folders = self.folders if folders is None else folders
        return read_segments(self.spark, self.folders, f"{self.table}{part}", folders)


_SEGMENT = "__segment"


def read_segments(
    spark: SparkSession, segments: Sequence[str], name: str, folders: Sequence[str] | None = None
) -> DataFrame:
    """Read the part `name` of segments (or of `folders` among them), with the column __segment: the segment's place."""
    folders = segments if folders is None else folders
    schema = parquet.folder_schema(spark, f"{folders[0]}/{name}")

    def read(some: Sequence[str]) -> DataFrame:
        rows = spark.read.schema(schema).parquet(*(files.for_reading(f"{folder}/{name}") for folder in some))
        return rows.withColumn(_SEGMENT, _place(rows, segments, some, name))

    # The oldest segment has most rows. Read by itself, it needs no place worked out for each row.
    oldest, others = folders[:1], folders[1:]
    return read(oldest).unionByName(read(others)) if others else read(oldest)


def latest_segments(spark: SparkSession, segments: Sequence[str], name: str) -> DataFrame | None:
    """`user_id` and the place of the newest segment that names the customer, of all but the first segment."""
    later = segments[1:]
    if not later:
        return None
    changed = read_segments(spark, segments, f"{name}_changed", later)
    return changed.groupBy("user_id").agg(F.max(_SEGMENT).alias("__latest"))


def newest_segment(rows: DataFrame, latest: DataFrame | None, changed: int) -> DataFrame:
    """Keep the rows of each customer in the newest segment that names them; `changed` is about the size of `latest`."""
    if latest is None:
        return rows
    small = F.broadcast(latest) if changed <= MOST_BROADCAST else latest
    joined = rows.join(small, on="user_id", how="left")
    return joined.where(F.col(_SEGMENT) >= F.coalesce("__latest", F.lit(0))).select(*rows.columns)


def of_customers(rows: DataFrame, customers: DataFrame, count: int) -> DataFrame:
    """Keep the rows of these customers (`user_id`), of whom there are about `count`."""
    return rows.join(F.broadcast(customers) if count <= MOST_BROADCAST else customers, on="user_id", how="left_semi")


def _place(rows: DataFrame, segments: Sequence[str], read: Sequence[str], name: str) -> Column:
    """The place of a row's segment among all; of several that were `read` together, by the folder of the row's file."""
    if len(read) == 1:
        return F.lit(list(segments).index(read[0]))
    path = rows.metadataColumn("_metadata").getField("file_path")
    folder = F.regexp_extract(path, f"([^/]+)/{name}/[^/]+$", 1)
    places = [part for n, one in enumerate(segments) for part in (F.lit(one.rpartition("/")[2]), F.lit(n))]
    return F.coalesce(F.element_at(F.create_map(*places), folder), F.lit(0))


def hash_of_columns(rows: DataFrame) -> str:
    """A hash of names and types of the columns."""
    return hashlib.sha256(rows.schema.json().encode()).hexdigest()[:16]
