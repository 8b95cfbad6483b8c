"""The rows of one table that an earlier night did not read, beside the kept rows of their customers.

A row is new if its file is new, or if it happened after the date of the kept rows. A kept row that names an unknown
product is judged again: the catalogue may know it now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs.known_rows import MOST_BROADCAST, KnownInputs, Segments, TableNotes, hash_of_columns
from jobs.inputs.optouts import keyed_numbers
from jobs.inputs.returns import HAS_RETURN, is_return
from jobs.inputs.row_accounting import ReadTable, RowAccount, is_before, microseconds, reject_unknown_ids
from jobs.inputs.validation import MARKS, RULE
from jobs.sources.file_source import file_path, names_of_files
from jobs.sources.file_versions import StartFromNothing, new_files, versions_of_files
from jobs.sources.sources import SOURCE_FILE
from jobs.spark import files

Pseudonym = Callable[[Column], Column]


@dataclass(frozen=True)
class NewRows:
    """What is new in one table since the segments of `known`; its rows are written as `path` of tonight's segment."""

    spark: SparkSession
    table: str
    known: KnownInputs
    tables: Mapping[str, ReadTable]
    path: str
    pseudonym: Pseudonym | None
    #: Versions of all files of the source, and the files (URIs) that are new.
    versions: Mapping[str, str]
    fresh: Sequence[str]
    #: The first instant after tonight's date.
    end: datetime

    @classmethod
    def find(
        cls,
        spark: SparkSession,
        table: str,
        known: KnownInputs,
        tables: Mapping[str, ReadTable],
        path: str,
        opened: DataFrame,
        pseudonym: Pseudonym | None,
        end: datetime,
    ) -> NewRows:
        """Compare the opened source with the notes. Raises StartFromNothing where the kept rows do not fit it."""
        notes = known.notes[table]
        if notes.excluded:
            raise StartFromNothing(f"inputs.{table}: files were unreadable and left out")
        if hash_of_columns(opened) != notes.columns:
            raise StartFromNothing(f"inputs.{table}: the columns of its files changed")
        versions = versions_of_files(spark, opened.inputFiles())
        if not versions:
            raise StartFromNothing(f"inputs.{table} has no files")
        fresh = new_files(table, notes.files, versions)
        return cls(spark, table, known, tables, path, pseudonym, versions, fresh, end)

    @property
    def old_files(self) -> list[str]:
        """The files that earlier nights read."""
        fresh = set(self.fresh)
        return [uri for uri in self.versions if uri not in fresh]

    def of_new_files(self, rows: DataFrame) -> DataFrame:
        """Leave out the opened files that earlier nights read in full; Spark does not open them."""
        return rows if self._has_later_rows else rows.where(file_path(rows).isin(self._names))

    def of_later_rows(self, rows: DataFrame) -> DataFrame:
        """Keep the validated rows of new files, and those that happened after the date of the kept rows."""
        if not self._has_later_rows:
            return rows
        time_column = str(schemas.contract(self.table).time_column)
        is_later = F.coalesce(~is_before(self.known.end, time_column), F.lit(False))
        return rows.where(F.col(SOURCE_FILE).isin(self._names) | is_later)

    def with_kept_rows(self, rows: DataFrame, names: Sequence[str]) -> DataFrame:
        """Write the new rows beside `path`, and return them with all kept rows of their customers."""
        if self.pseudonym is not None:
            rows = rows.withColumn("user_id", self.pseudonym(F.col("user_id")))
        folder = f"{self.known.work}/{self.table}_new"
        rows.write.mode("overwrite").parquet(files.uri(folder))
        new = self.spark.read.schema(rows.schema).parquet(files.for_reading(folder)).unionByName(self._judged_again())
        self._write_changed(new)
        if not self.changed_customers:
            return new
        kept = self._of_changed(self._segments.valid().select(*names, *MARKS))
        return new.unionByName(self._without_opted_out(kept))

    @property
    def changed(self) -> DataFrame:
        """`user_id` of the customers whose rows are in tonight's segment; all others have their kept rows."""
        return self.spark.read.schema("user_id string").parquet(files.for_reading(f"{self.path}_changed"))

    @cached_property
    def changed_customers(self) -> int:
        """The number of rows of `changed`."""
        return self.changed.count()

    def whole(self) -> Segments:
        """All segments, with the one of tonight."""
        folders = [*self.known.folders, self.path.rpartition("/")[0]]
        before = self.known.changed.get(self.table, 0)
        return Segments(self.spark, self.table, folders, before + self.changed_customers)

    def whole_account(self, tonight: RowAccount) -> RowAccount:
        """Add the rows that earlier nights counted. In `tonight`, used, quarantined and returned rows are of all."""
        before = RowAccount(**self.notes.account)
        again = before.outside_window if self._has_later_rows else 0  # these were read again
        return replace(
            tonight,
            read=before.read - again + tonight.read,
            outside_window=before.outside_window - again + tonight.outside_window,
            opted_out=before.opted_out + tonight.opted_out + self._rows_of_opted_out,
            duplicates=before.duplicates + tonight.duplicates,
        )

    def whole_next_at(self, tonight: int | None) -> int | None:
        """The earliest time, in microseconds since 1970, of all rows after tonight's date."""
        before = None if self._has_later_rows else self.notes.next_at
        return min((at for at in (before, tonight) if at is not None), default=None)

    def whole_emptied(self, tonight: Mapping[str, int]) -> dict[str, int]:
        """Add the values that earlier nights left out."""
        both = dict(self.notes.emptied)
        return both | {rule: both.get(rule, 0) + n for rule, n in tonight.items()}

    def matched(self, keyed: Callable[[str], str]) -> frozenset[str]:
        """Keyed hashes of the opted-out ids that kept rows have or had; `keyed` hashes a text."""
        found = frozenset(self.notes.opted_out)
        if self.known.opted_out is not None:
            rows = self._segments.valid().select("user_id")
            joined = rows.join(F.broadcast(self.known.opted_out), on="user_id", how="inner")
            found |= keyed_numbers((row[0] for row in joined.select("id_number").distinct().collect()), keyed)
        return found

    @property
    def notes(self) -> TableNotes:
        """What the night before noted of the table."""
        return self.known.notes[self.table]

    @property
    def _has_later_rows(self) -> bool:
        """Whether rows that earlier nights saw after their date are within tonight's."""
        return self.notes.next_at is not None and self.notes.next_at < microseconds(self.end)

    @property
    def _names(self) -> list[str]:
        return names_of_files(self.spark, self.fresh) or [""]

    @cached_property
    def _segments(self) -> Segments:
        return Segments(self.spark, self.table, self.known.folders, self.known.changed.get(self.table, 0))

    def _judged_again(self) -> DataFrame:
        """The kept rows with unknown ids, without their rule if it holds no longer, and without opted-out customers."""
        rows = self._without_opted_out(self._segments.unknown_ids()).drop(HAS_RETURN)
        judged = reject_unknown_ids(rows.withColumn(RULE, F.lit(None).cast("string")), self.table, self.tables)
        stays = F.col(RULE).isNotNull() | (is_return() if self.table == "purchases" else F.lit(False))
        return judged.withColumns({name: F.when(stays, F.col(name)) for name in MARKS if name != RULE})

    def _write_changed(self, new: DataFrame) -> None:
        """Write the customers of valid new rows, of the kept rows with their keys, and those who opted out."""
        valid = new.where(F.col(RULE).isNull())
        ids = valid.select("user_id")
        key = list(schemas.contract(self.table).key)
        if "user_id" not in key:
            kept = self._segments.valid().select("user_id", *key)
            ids = ids.unionByName(kept.join(valid.select(*key).distinct(), on=key, how="left_semi").select("user_id"))
        if self.known.opted_out is not None:
            ids = ids.unionByName(self.known.opted_out.select("user_id"))
        ids.distinct().coalesce(1).write.mode("overwrite").parquet(files.uri(f"{self.path}_changed"))

    def _of_changed(self, rows: DataFrame) -> DataFrame:
        ids = F.broadcast(self.changed) if self.changed_customers <= MOST_BROADCAST else self.changed
        return rows.join(ids, on="user_id", how="left_semi")

    def _without_opted_out(self, rows: DataFrame) -> DataFrame:
        if self.known.opted_out is None:
            return rows
        return rows.join(F.broadcast(self.known.opted_out), on="user_id", how="left_anti")

    @cached_property
    def _rows_of_opted_out(self) -> int:
        """The rows of customers who opted out since the date of the kept rows."""
        if self.known.opted_out is None:
            return 0
        gone = F.broadcast(self.known.opted_out)
        rows = (self._segments.valid().select("user_id"), self._segments.unknown_ids().select("user_id"))
        return sum(one.join(gone, on="user_id", how="left_semi").count() for one in rows)
