"""Brings published dates into Delta tables, one version a date and table: the option `publish.format: delta`.

For readers on object stores, which have no atomic rename. The store itself, with its ledger and its own tables, stays
on a file system; the same rows go to `<publish.to>/<table>`, partitioned by `run_date`. Readers of one table see a
date old or new, never a part; `runs` comes last, so a date that is there has all its tables.

What is there is told by a transaction of the Delta log for each date, whose version is when the store's file was last
modified. So nothing has to be remembered: whatever a crash, a rollback or an outage left behind, `follow` finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyspark.sql import SparkSession

from jobs.config.settings import PublishSettings
from jobs.spark import files
from jobs.spark.errors import DeltaTablesBehind
from jobs.store.store import Store, published_dates
from schemas import OUTPUTS

#: The version that stands for a date that the store no longer has.
_GONE = 0
_DECORATION = re.compile("\x1b\\[[0-9;]*m|↳")


@dataclass(frozen=True)
class DeltaTables:
    """Where the Delta tables lie, and the deltalake library's options of that storage."""

    root: str
    options: dict[str, str]

    @staticmethod
    def of(settings: PublishSettings) -> DeltaTables | None:
        """The configured one; None where nothing but Parquet is published."""
        if settings.format == "parquet":
            return None
        assert settings.to is not None, "the configuration asks for it"
        return DeltaTables(settings.to.rstrip("/"), dict(settings.options))

    def table(self, name: str) -> DeltaTable | None:
        """Open a table in its newest version; None where it was never written."""
        try:
            return DeltaTable(f"{self.root}/{name}", storage_options=self.options)
        except TableNotFoundError:
            return None


def update_delta_tables(spark: SparkSession, store: Store, lake: DeltaTables) -> list[str]:
    """Commit every published date that the lake has not or has in another version; return them as table/date.

    Under the store's lock. Raises DeltaTablesBehind where the storage does not answer or refuses.
    """
    names = files.listdir(spark, store.tables)
    done = []
    with _explained(store, lake):
        for name in sorted(names, key=lambda table: table == "runs"):
            known = lake.table(name)
            dates = published_dates(spark, store, name)
            for day in dates:
                folder = store.date_folder(name, day)
                (part,) = files.listdir(spark, folder)  # a published date is one file
                stamp = round(files.modified_at(spark, f"{folder}/{part}") * 1000)
                if known is None or known.transaction_version(_app(day)) != stamp:
                    _replace(lake, name, day, f"{folder}/{part}", stamp)
                    done.append(f"{name}/{day}")
            for day in sorted(_days(known) - set(dates)):
                assert known is not None, "no table has no dates"
                known.delete(_is(day), commit_properties=_committed(day, _GONE))
                done.append(f"{name}/{day}")
    return done


def vacuum_delta_tables(lake: DeltaTables, store: Store, *, dry_run: bool) -> int:
    """Delete the files that no version of the last week needs (Delta's own default); return how many there are."""
    with _explained(store, lake):
        tables = [lake.table(name) for name in OUTPUTS]
        return sum(len(table.vacuum(dry_run=dry_run)) for table in tables if table is not None)


def _replace(lake: DeltaTables, name: str, day: date, file: str, stamp: int) -> None:
    """Put the rows of one file in place of a date's, in one version; a file without rows empties the date."""
    here = files.local(file)
    source = ds.dataset(file if here is None else here, format="parquet")
    columns: dict[str, Any] = {column: ds.field(column) for column in source.schema.names}
    rows = source.scanner(columns | {"run_date": pc.scalar(pa.scalar(day, pa.date32()))}).to_reader()
    write_deltalake(
        f"{lake.root}/{name}",
        rows,
        mode="overwrite",
        predicate=_is(day),
        partition_by=["run_date"],
        schema_mode="merge",  # a later contract may have a column more
        storage_options=lake.options,
        commit_properties=_committed(day, stamp),
    )


def _days(table: DeltaTable | None) -> set[date]:
    return set() if table is None else {date.fromisoformat(one["run_date"]) for one in table.partitions()}


def _is(day: date) -> str:
    return f"run_date = '{day.isoformat()}'"


def _app(day: date) -> str:
    return f"regulars/run_date={day.isoformat()}"


def _committed(day: date, stamp: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_app(day), stamp)])


@contextmanager
def _explained(store: Store, lake: DeltaTables) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        # A tree of causes in colours, one a line.
        causes = [_DECORATION.sub("", line).strip() for line in str(error).splitlines()]
        said = ": ".join(dict.fromkeys(cause for cause in causes if cause)) or type(error).__name__
        raise DeltaTablesBehind(
            f"publish.to: the Delta tables in {lake.root} could not be brought up to date ({said[:400]}). The "
            f"store {store.root} has every published date, the Delta tables keep what they had. Mend publish.to, "
            "publish.options or the credentials in the environment; the next nightly, backfill or rollback brings "
            "there what is missing."
        ) from error
