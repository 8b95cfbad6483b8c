"""Publish a run's tables, all of them or none: the only module that writes below `<store>/tables/`.

For every writing command, under the store's lock: `recover` first, `publish` last.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from jobs.spark import files, parquet
from jobs.spark.contracts import ContractError, enforce, is_true, struct_type
from jobs.spark.fault_points import point
from jobs.store.date_swap import FolderSwap, Intent, closed_intents, commit, next_publish, prepare_swap, recover_intents
from jobs.store.store import Store
from schemas import Contract, contract

#: Tables staged at a time: each is sorted by one task, and planned by one thread, so one alone leaves cores idle.
_AT_ONCE = 4


def publish(
    spark: SparkSession, store: Store, run_id: str, run_date: date, tables: Mapping[str, DataFrame]
) -> dict[str, int]:
    """Replace `run_date` of every table given, all-or-nothing, and return the rows of each.

    Every frame is computed once. Rows are sorted by key, so equal data gives equal bytes however it was partitioned;
    an empty frame replaces the date's old rows by a file without rows. Raises ContractError or UnreadableParquet
    before anything is changed. Afterwards the run's staging and work folders are gone.
    """

    def stage(one: tuple[str, DataFrame]) -> tuple[FolderSwap, int]:
        return _stage(spark, store, run_id, run_date, *one)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        staged = dict(zip(tables, pool.map(stage, tables.items()), strict=True))
    point("checked")
    swaps = [swap for swap, _ in staged.values()]
    commit(spark, store, Intent(run_id, swaps, number=next_publish(spark, store)))
    files.delete(spark, store.work(run_id))
    return {table: rows for table, (_, rows) in staged.items()}


def recover(spark: SparkSession, store: Store, keep_publishes: int = 0) -> list[str]:
    """Finish or undo what a dead run left open, and delete what earlier runs left behind; one line for each intent.

    What the last `keep_publishes` publishes replaced stays. Call it under the lock, before the run makes any folder of
    its own: whoever holds the lock is the only run alive.
    """
    done = recover_intents(spark, store)
    for folder in leftover_folders(spark, store, keep_publishes):
        files.delete(spark, folder)
    return done


def leftover_folders(spark: SparkSession, store: Store, keep_publishes: int) -> list[str]:
    """The folders of ended runs that nobody needs, except what the last `keep_publishes` publishes replaced."""
    publishes = closed_intents(spark, store)
    kept = {intent.run_id for intent in publishes[len(publishes) - min(keep_publishes, len(publishes)) :]}
    return [
        f"{store.root}/{room}/{run_id}"
        for room in ("staging", "work", "trash")
        for run_id in files.listdir(spark, f"{store.root}/{room}")
        if room != "trash" or run_id not in kept
    ]


def _stage(
    spark: SparkSession, store: Store, run_id: str, run_date: date, table: str, frame: DataFrame
) -> tuple[FolderSwap, int]:
    """Write one table where readers do not look, check it, and return what it is to replace and its rows.

    One pass: whatever computes the frame (perhaps a UDF) runs once, one task sorts the rows, and every promise of the
    contract is counted on their way to the file. A date is one file of one name however large it is: readers list a
    folder and open its files one after the other, so several files could be of two versions, and another name could be
    gone between the two.
    """
    agreed = contract(table)
    folder = f"{store.staging(run_id)}/{table}/run_date={run_date.isoformat()}"
    by = agreed.sort_columns
    rows = parquet.one_sorted_partition(enforce(frame, agreed), by).withColumn("_repeats", _repeats(agreed.key))
    seen = Observation()
    written = parquet.write(spark, rows.observe(seen, *_broken_promises(agreed)).drop("_repeats"), folder)
    count = sum(footer.rows for footer in written)
    # An observation of no rows at all has no result, not zeros.
    _refuse(agreed, {name: n for name, n in seen.get.items() if n and name != "rows"} if count else {})
    parquet.check_footers(written, struct_type(agreed), seen.get["rows"] if count else 0, f"table {table}, {run_date}")
    point("table-staged")
    return prepare_swap(spark, store, folder, store.date_folder(table, run_date)), count


def _repeats(key: tuple[str, ...]) -> Column:
    """True from the second row of a key on; needs no shuffle and no sort beyond those of `gather`."""
    if not key:
        return F.lit(False)
    same = [F.col(f"`{name}`") for name in key]
    return F.row_number().over(Window.partitionBy(*same).orderBy(*same)) > 1


def _broken_promises(agreed: Contract) -> list[Column]:
    """Count the rows, and those that break a promise of the contract: the name of each count is the complaint."""
    nulls = [
        F.count_if(F.col(f"`{column.name}`").isNull()).alias(f"{column.name} is null")
        for column in agreed.columns
        if not column.nullable
    ]
    rules = [F.count_if(~is_true(rule.expression)).alias(f"{rule.message} ({rule.name})") for rule in agreed.rules]
    repeats = F.count_if(F.col("_repeats")).alias(f"key ({', '.join(agreed.key)}) was there before")
    return [F.count(F.lit(1)).alias("rows"), *nulls, *rules, repeats]


def _refuse(agreed: Contract, broken: Mapping[str, int]) -> None:
    if broken:
        raise ContractError(
            f"table {agreed.table} breaks its contract: "
            + "; ".join(f"{complaint}: {rows:,} rows" for complaint, rows in broken.items())
            + ". Nothing was published; the tables of earlier nights stay. This is a fault of Regulars, please report "
            "it with this message."
        )
