"""The rows of one table that an earlier night did not read, beside the kept rows of their customers.

A row is new if its file is new, or if it was kept apart as a later one and tonight has its date. A kept row that names
an unknown product is judged again: the catalogue may know it now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs.known_rows import LATER_PART, MOST_BROADCAST, KnownInputs, Segments, TableNotes, hash_of_columns
from jobs.inputs.later_rows import with_own_rule, write_apart
from jobs.inputs.optouts import keyed_numbers
from jobs.inputs.returns import HAS_RETURN, is_return
from jobs.inputs.row_accounting import ReadTable, RowAccount, happened_after, reject_unknown_ids
from jobs.inputs.validation import MARKS, RULE, emptied, emptied_rules
from jobs.sources.expressions import column_named
from jobs.sources.file_source import file_path, names_of_files
from jobs.sources.file_versions import StartFromNothing, new_files, versions_of_files
from jobs.spark import files, parquet

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
    _due_observed: Observation = field(default_factory=Observation)

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
        """Leave out the opened files that earlier nights read; Spark does not open them."""
        return rows.where(file_path(rows).isin(names_of_files(self.spark, self.fresh) or [""]))

    def with_kept_rows(self, rows: DataFrame, names: Sequence[str]) -> DataFrame:
        """Write the new rows, later ones beside `path`, and return the others with all kept rows of their customers."""
        if self.pseudonym is not None:
            rows = rows.withColumn("user_id", self.pseudonym(F.col("user_id")))
        if self._later is not None:
            rows = rows.unionByName(self._due(self._later).select(*map(column_named, [*names, *MARKS])))
        folder = f"{self.known.work}/{self.table}_new"
        write_apart(self.spark, rows, folder, f"{self.path}{LATER_PART}")
        new = self.spark.read.schema(rows.schema).parquet(files.for_reading(folder)).unionByName(self._judged_again())
        self._write_changed(new)
        if not self.changed_customers:
            return new
        kept = self._of_changed(self._segments.valid().select(*map(column_named, [*names, *MARKS])))
        return new.unionByName(self._without_opted_out(kept))

    @property
    def changed(self) -> DataFrame:
        """`user_id` of the customers whose rows are in tonight's segment; all others have their kept rows."""
        return self.spark.read.schema("user_id string").parquet(files.for_reading(f"{self.path}_changed"))

    @cached_property
    def changed_customers(self) -> int:
        """The number of rows of `changed`."""
        return parquet.row_count(self.spark, f"{self.path}_changed")

    def whole(self) -> Segments:
        """All segments, with the one of tonight."""
        folders = [*self.known.folders, self.path.rpartition("/")[0]]
        before = self.known.changed.get(self.table, 0)
        return Segments(self.spark, self.table, folders, before + self.changed_customers)

    def whole_account(self, tonight: RowAccount) -> RowAccount:
        """Add the rows that earlier nights counted. In `tonight`, used, quarantined and returned rows are of all."""
        before = RowAccount(**self.notes.account)
        no_longer_later = self._due_counts.get("due", 0) + self._later_of_opted_out
        return replace(
            tonight,
            read=before.read + tonight.read,
            outside_window=before.outside_window - no_longer_later + tonight.outside_window,
            opted_out=before.opted_out + tonight.opted_out + self._rows_of_opted_out + self._later_of_opted_out,
            duplicates=before.duplicates + tonight.duplicates,
        )

    def whole_emptied(self, tonight: Mapping[str, int]) -> dict[str, int]:
        """Add the values that earlier nights left out, and those of the later rows that tonight has the date of."""
        both = Counter(self.notes.emptied) + Counter(tonight)
        return dict(both + Counter({rule: self._due_counts.get(rule, 0) for rule in emptied_rules(self.table)}))

    def matched(self, keyed: Callable[[str], str]) -> frozenset[str]:
        """Keyed hashes of the opted-out ids that kept rows have or had; `keyed` hashes a text."""
        found = frozenset(self.notes.opted_out)
        if self.known.opted_out is not None:
            rows = self._segments.valid().select("user_id")
            rows = rows if self._later is None else rows.unionByName(self._later.select("user_id"))
            joined = rows.join(F.broadcast(self.known.opted_out), on="user_id", how="inner")
            found |= keyed_numbers((row[0] for row in joined.select("id_number").distinct().collect()), keyed)
        return found

    @property
    def notes(self) -> TableNotes:
        """What the night before noted of the table."""
        return self.known.notes[self.table]

    @cached_property
    def _segments(self) -> Segments:
        return Segments(self.spark, self.table, self.known.folders, self.known.changed.get(self.table, 0))

    @cached_property
    def _later(self) -> DataFrame | None:
        """The kept rows that happened after the date of the kept ones; None without any."""
        rows = self._segments.later()
        return None if rows is None else rows.where(happened_after(self.table, self.known.end))

    def _due(self, later: DataFrame) -> DataFrame:
        """The later rows that tonight has the date of, judged by tonight's opt-outs and catalogue, and counted."""
        rows = later.where(~happened_after(self.table, self.end))
        if self.known.all_opted_out is not None:
            rows = rows.join(self.known.all_opted_out, on="user_id", how="left_anti")
        rows = reject_unknown_ids(with_own_rule(rows, self.table), self.table, self.tables)
        lost = (
            F.count_if(F.col(RULE).isNull() & F.col(emptied(rule))).alias(rule) for rule in emptied_rules(self.table)
        )
        return self._with_needed_marks(rows.observe(self._due_observed, F.count(F.lit(1)).alias("due"), *lost))

    @cached_property
    def _due_counts(self) -> Mapping[str, int]:
        """The number of rows of `_due`, as `due`, and of values that they lost by rule; empty without later rows."""
        return {} if self._later is None else self._due_observed.get

    def _judged_again(self) -> DataFrame:
        """The kept rows with unknown ids, without their rule if it holds no longer, and without opted-out customers."""
        rows = self._without_opted_out(self._segments.unknown_ids()).drop(HAS_RETURN)
        judged = reject_unknown_ids(rows.withColumn(RULE, F.lit(None).cast("string")), self.table, self.tables)
        return self._with_needed_marks(judged)

    def _with_needed_marks(self, rows: DataFrame) -> DataFrame:
        """Keep what `quarantine` says of a row only where the row is rejected or may be."""
        stays = F.col(RULE).isNotNull() | (is_return() if self.table == "purchases" else F.lit(False))
        return rows.withColumns({name: F.when(stays, F.col(name)) for name in MARKS if name != RULE})

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

    @cached_property
    def _later_of_opted_out(self) -> int:
        """The later rows of customers who opted out since the date of the kept rows."""
        if self.known.opted_out is None or self._later is None:
            return 0
        return self._later.join(F.broadcast(self.known.opted_out), on="user_id", how="left_semi").count()
