"""Publishes a run's tables, all or none. No other module stages files for `<store>/tables/`.

Every writing command holds the store's lock, calls `recover` first and `publish` last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, Observation, SparkSession

from jobs.spark import files, parquet
from jobs.spark.contracts import (
    drop_marks,
    enforce,
    mark_repeated_keys,
    refuse_violations,
    struct_type,
    violation_counts,
)
from jobs.spark.fault_points import point
from jobs.spark.key_ranges import RANGE, range_count, sorted_ranges
from jobs.store.date_swap import FolderSwap, Intent, closed_intents, commit, next_publish, prepare_swap, recover_intents
from jobs.store.scratch import delete_dead_scratch
from jobs.store.store import Store
from schemas import contract

#: Most rows of one file, about, unless `publish.rows_per_file` says otherwise.
ROWS_PER_FILE = 500_000
#: Number of tables staged in parallel: one task sorts each small table, so a single one leaves cores idle.
_PARALLEL_TABLES = 4


@dataclass(frozen=True)
class StagedTable:
    """One table of a run, written to staging and checked."""

    swap: FolderSwap
    rows: int


def publish(
    spark: SparkSession,
    store: Store,
    run_id: str,
    run_date: date,
    tables: Mapping[str, DataFrame],
    rows_per_file: int = ROWS_PER_FILE,
) -> dict[str, int]:
    """Replace `run_date` in every given table, all or none, and return the number of rows by table.

    This is `stage_tables`, then `publish_staged`.
    """
    return publish_staged(spark, store, run_id, stage_tables(spark, store, run_id, run_date, tables, rows_per_file))


def stage_tables(
    spark: SparkSession,
    store: Store,
    run_id: str,
    run_date: date,
    tables: Mapping[str, DataFrame],
    rows_per_file: int = ROWS_PER_FILE,
) -> dict[str, StagedTable]:
    """Write the tables of `run_date` to staging and check them.

    A table of at most `rows_per_file` rows is one file and its frame is computed once. A larger table is several files
    of about that many rows, by ranges of the key; its frame should lie in files, because it is read once more for its
    keys. Rows are sorted by key, so equal data gives equal bytes under any partitioning. An empty frame gives a file
    without rows. Raises ContractError or UnreadableParquet before readers see a change.
    """

    def stage(one: tuple[str, DataFrame]) -> StagedTable:
        return _stage(spark, store, run_id, run_date, *one, rows_per_file)

    with ThreadPoolExecutor(_PARALLEL_TABLES) as pool:
        return dict(zip(tables, pool.map(stage, tables.items()), strict=True))


def publish_staged(spark: SparkSession, store: Store, run_id: str, staged: Mapping[str, StagedTable]) -> dict[str, int]:
    """Exchange the published folders for the staged ones, all or none, and return the number of rows by table."""
    point("checked")
    swaps = [table.swap for table in staged.values()]
    commit(spark, store, Intent(run_id, swaps, number=next_publish(spark, store)))
    return {name: table.rows for name, table in staged.items()}


@contextmanager
def temporary_folders(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    """Delete the run's work and staging folders when the block ends, also by an error: they hold customers' rows.

    The ledger keeps the finished waves, so nothing is lost. Staged tables of an open intent stay: the next command
    puts them in place.
    """
    try:
        yield
    finally:
        with suppress(OSError, Py4JError):  # the next command deletes what is left
            files.delete(spark, store.work(run_id))
            if not files.exists(spark, store.intent(run_id)):
                files.delete(spark, store.staging(run_id))


def recover(spark: SparkSession, store: Store, keep_publishes: int = 0) -> list[str]:
    """Finish or undo interrupted publishes and delete the folders of ended runs; return one line per publish.

    The trash of the last `keep_publishes` publishes is kept. Call this under the lock, before the run creates folders:
    the holder of the lock is the only running writer.
    """
    done = recover_intents(spark, store)
    for folder in leftover_folders(spark, store, keep_publishes):
        files.delete(spark, folder)
    delete_dead_scratch(spark, store)
    return done


def leftover_folders(spark: SparkSession, store: Store, keep_publishes: int) -> list[str]:
    """List the staging, work and trash folders of ended runs, without the trash of the last `keep_publishes`."""
    publishes = closed_intents(spark, store)
    kept = {intent.run_id for intent in publishes[len(publishes) - min(keep_publishes, len(publishes)) :]}
    return [
        f"{store.root}/{room}/{run_id}"
        for room in ("staging", "work", "trash")
        for run_id in files.listdir(spark, f"{store.root}/{room}")
        if room != "trash" or run_id not in kept
    ]


def _stage(
    spark: SparkSession,
    store: Store,
    run_id: str,
    run_date: date,
    table: str,
    frame: DataFrame,
    rows_per_file: int,
) -> StagedTable:
    """Write and check one table in staging.

    One pass computes the frame, sorts the rows, counts contract violations and writes the files. A reader lists a
    folder before it opens the files. A single file has a fixed name, so the reader finds the old one or the new one.
    Several files have the run's id in their names: a reader who listed the old ones finds them gone, and gets an error
    instead of files of two versions.
    """
    agreed = contract(table)
    folder = f"{store.staging(run_id)}/{table}/run_date={run_date.isoformat()}"
    rows, by = enforce(frame, agreed), agreed.sort_columns
    ranges = range_count(rows, rows_per_file)
    if ranges == 1:
        rows = mark_repeated_keys(parquet.one_sorted_partition(rows, by), agreed)
    else:
        rows = mark_repeated_keys(sorted_ranges(rows, by, ranges, rows_per_file), agreed, also_by=[RANGE])
    checks = Observation()
    checked = drop_marks(rows.observe(checks, *violation_counts(agreed))).drop(RANGE)
    written = parquet.write(spark, checked, folder, version=run_id)
    count = sum(footer.rows for footer in written)
    # Spark returns no observation for a frame without rows.
    expected = refuse_violations(agreed, checks.get) if count else 0
    parquet.check_footers(written, struct_type(agreed), expected, f"table {table}, {run_date}")
    point("table-staged")
    return StagedTable(prepare_swap(spark, store, folder, store.date_folder(table, run_date)), count)
