"""Copies published dates to Delta tables: the option `publish.format: delta`.

Object stores have no atomic rename, so the store stays on a file system and its rows are copied to
`<publish.to>/<table>`, partitioned by `run_date`. One commit replaces one date of one table, so readers see it old or
new. The table `runs` comes last: a date in it has all its tables.

Each commit carries an application transaction per date, whose version is the modification time of the store's file.
After a crash, a rollback or an outage, `update_delta_tables` compares these versions and copies what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.fs import FileSystem
from pyspark.sql import SparkSession

from jobs.config.settings import PublishSettings
from jobs.spark import files, parquet
from jobs.spark.errors import DeltaTablesBehind
from jobs.store.store import Store, published_dates
from schemas import OUTPUTS

#: Transaction version of a date that the store no longer has.
_GONE = 0
_LOG_RETENTION = "delta.logRetentionDuration"
#: Colours and arrows in the library's error messages.
_DECORATION = re.compile("\x1b\\[[0-9;]*m|↳")


@dataclass(frozen=True)
class DeltaTables:
    """The root of the Delta tables and the deltalake library's storage options."""

    root: str
    options: dict[str, str]

    @staticmethod
    def of(settings: PublishSettings) -> DeltaTables | None:
        """Return the configured Delta tables; None where only Parquet is published."""
        if settings.format == "parquet":
            return None
        assert settings.to is not None, "the configuration asks for it"
        return DeltaTables(settings.to.rstrip("/"), dict(settings.options))

    def table(self, name: str) -> DeltaTable | None:
        """Open the newest version of a table; None where it was never written."""
        try:
            return DeltaTable(f"{self.root}/{name}", storage_options=self.options)
        except TableNotFoundError:
            return None


def update_delta_tables(spark: SparkSession, store: Store, delta: DeltaTables) -> list[str]:
    """Copy each published date whose Delta copy is missing or old; return the copied dates as table/date.

    Call this under the store's lock. Raises DeltaTablesBehind where the storage fails.
    """
    names = files.listdir(spark, store.tables)
    done = []
    with _translated_errors(store, delta):
        for name in sorted(set(names) & set(OUTPUTS), key=lambda table: (table == "runs", table)):
            known = delta.table(name)
            dates = published_dates(spark, store, name)
            for day in dates:
                folder = store.date_folder(name, day)
                parts = [f"{folder}/{part}" for part in parquet.parts(spark, folder)]
                if not parts:
                    raise FileNotFoundError(f"{folder}: no Parquet file")
                stamp = round(max(files.each(partial(files.modified_at, spark), parts)) * 1000)
                if known is None or known.transaction_version(_app(day)) != stamp:
                    _replace(delta, name, day, parts, stamp)
                    done.append(f"{name}/{day}")
            for day in sorted(_days(known) - set(dates)):
                assert known is not None, "no table has no dates"
                known.delete(_is(day), commit_properties=_committed(day, _GONE))
                done.append(f"{name}/{day}")
    return done


def vacuum_delta_tables(delta: DeltaTables, store: Store, *, dry_run: bool) -> int:
    """Delete files that no version of the last week needs (Delta's default); return their number."""
    with _translated_errors(store, delta):
        tables = [delta.table(name) for name in OUTPUTS]
        return sum(len(table.vacuum(dry_run=dry_run)) for table in tables if table is not None)


def forget_delta_history(delta: DeltaTables, store: Store) -> None:
    """Delete all earlier versions of every table, also their log, whose statistics hold the smallest and largest id.

    Readers of an earlier version fail from now on. The newest version stays as it is.
    """
    with _translated_errors(store, delta):
        for name in OUTPUTS:
            table = delta.table(name)
            if table is None:
                continue
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
            table.alter.set_table_properties({_LOG_RETENTION: "interval 0 days"})
            table.create_checkpoint()
            table.cleanup_metadata()
            table.alter.set_table_properties({_LOG_RETENTION: "interval 30 days"})  # Delta's default


def _replace(delta: DeltaTables, name: str, day: date, parts: Sequence[str], stamp: int) -> None:
    """Replace the rows of one date with the rows of these files, in one commit."""
    found = [FileSystem.from_uri(files.uri(part)) for part in parts]
    source = ds.dataset([path for _, path in found], filesystem=found[0][0], format="parquet")
    columns: dict[str, Any] = {column: ds.field(column) for column in source.schema.names}
    rows = source.scanner(columns | {"run_date": pc.scalar(pa.scalar(day, pa.date32()))}).to_reader()
    write_deltalake(
        f"{delta.root}/{name}",
        rows,
        mode="overwrite",
        predicate=_is(day),
        partition_by=["run_date"],
        schema_mode="merge",  # a later contract may add columns
        storage_options=delta.options,
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
def _translated_errors(store: Store, delta: DeltaTables) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        # The message is a coloured tree with one cause per line.
        causes = [_DECORATION.sub("", line).strip() for line in str(error).splitlines()]
        said = ": ".join(dict.fromkeys(cause for cause in causes if cause)) or type(error).__name__
        raise DeltaTablesBehind(
            f"publish.to: the Delta tables in {delta.root} could not be brought up to date ({said[:400]}). The "
            f"store {store.root} has every published date, the Delta tables keep their old versions. Correct "
            "publish.to, publish.options or the credentials in the environment; the next nightly, backfill or rollback "
            "copies what is missing."
        ) from error
