"""Compacts a task's ledger: many small waves become one, split by ranges of the key; no date's answers change.

`regulars gc` runs it under the store's lock. Look-ups stay right at every moment: a row that lies in the merged wave
and in its old wave is the same answer twice.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.scoring import ledger
from jobs.scoring.ledger_files import MAX_RANGES, ledger_files, range_column
from jobs.scoring.waves import next_number, row_schema
from jobs.spark import files, parquet
from jobs.spark.key_ranges import RANGE
from jobs.store.date_swap import Intent, commit, prepare_swap
from jobs.store.store import Store

#: Rows of one range of keys, about: one file.
_ROWS_PER_RANGE = 200_000
#: Most rows to drop that are broadcast. The broadcast avoids a shuffle of all rows.
_BROADCAST_ROWS = 200_000


def compact(
    spark: SparkSession,
    store: Store,
    task: str,
    result_type: str,
    run_id: str,
    keep_from: date | None = None,
    in_use: DataFrame | None = None,
) -> tuple[int, int]:
    """Merge all waves into one without the rows of `unused_rows`; returns the rows before and after.

    Keys alone are shuffled to find what goes. What stays is shuffled once, into its ranges.
    """
    waves = files.listdir(spark, store.ledger(task))
    before = rows_of(spark, store, task)
    if len(waves) < 2 and keep_from is None:
        return before, before
    rows = ledger.read(spark, store, task, result_type)
    going = unused_rows(rows, keep_from, in_use)
    folder = f"{store.work(run_id)}/{task}_going"
    gone = sum(footer.rows for footer in parquet.write(spark, going, folder))
    is_split = before <= _ROWS_PER_RANGE or all(file.ranges > 1 for file in ledger_files(spark, store, task))
    if not gone and len(waves) == 1 and is_split:
        files.delete(spark, store.work(run_id))
        return before, before  # merged already, and nothing to drop
    going = spark.read.schema(going.schema).parquet(files.for_reading(folder))
    if gone <= _BROADCAST_ROWS:
        going = F.broadcast(going)
    stays = rows.withColumn("wave_number", ledger.wave_number()).join(going, on=going.columns, how="left_anti")
    wave = f"wave={next_number(spark, store, task):08d}-{run_id}"
    staged = f"{store.staging(run_id)}/{task}/{wave}"
    ranges = max(1, min(MAX_RANGES, -(-(before - gone) // _ROWS_PER_RANGE)))
    columns = row_schema(result_type).names
    ranged = stays.select(*columns, range_column(ranges).alias(RANGE)).repartitionById(ranges, F.col(RANGE))
    ordered = ranged.sortWithinPartitions("key", "scored_on").select(*columns)
    written = parquet.write(spark, ordered, staged, ranges=ranges)
    parquet.check_footers(written, row_schema(result_type), before - gone, f"task {task}, {wave}")
    retires = [f"ledger/{task}/{name}" for name in waves]
    commit(spark, store, Intent(run_id, [prepare_swap(spark, store, staged, f"{store.ledger(task)}/{wave}")], retires))
    files.delete(spark, store.work(run_id))
    return before, before - gone


def unused_rows(rows: DataFrame, keep_from: date | None = None, in_use: DataFrame | None = None) -> DataFrame:
    """The rows of the ledger that no date asks for, as `key`, `scored_on`, `wave_number`.

    Only the newest of several answers to one request on one date is asked for. With `keep_from`, answers that were
    already replaced on that date go too. So do older answers whose `prompt_hash` is not `in_use`. Dates from keep_from
    on stay repeatable without the model; earlier ones would ask it again.
    """
    narrow = rows.select("key", "scored_on", "prompt_hash", ledger.wave_number().alias("wave_number"))
    # Dates from keep_from on see only the newest answer of each of these groups.
    since = F.col("scored_on") if keep_from is None else F.greatest(F.col("scored_on"), F.lit(keep_from))
    grouped = narrow.select("*", since.alias("since"), ledger.place().alias("place"))
    newest = grouped.groupBy("key", "since").agg(F.max("place").alias("newest"), F.count("*").alias("rows"))
    replaced = grouped.join(newest.where("rows > 1"), on=["key", "since"], how="inner").where("place < newest")
    going = replaced.select("key", "scored_on", "wave_number")
    if keep_from is None:
        return going
    unused = narrow.where(F.col("scored_on") < F.lit(keep_from))
    if in_use is not None:
        unused = unused.join(in_use.select("prompt_hash").distinct(), on="prompt_hash", how="left_anti")
    return going.unionByName(unused.select(*going.columns)).distinct()


def rows_of(spark: SparkSession, store: Store, task: str) -> int:
    """Rows of a task's ledger, from the footers of its files."""
    folders = [f"{store.ledger(task)}/{wave}" for wave in files.listdir(spark, store.ledger(task))]
    return sum(footer.rows for folder in folders for footer in parquet.footers(spark, folder))


def result_type_of(spark: SparkSession, store: Store, task: str) -> str | None:
    """The DDL type of a task's results as its newest wave has it; None where there is no wave."""
    found = max(ledger_files(spark, store, task), key=lambda file: file.wave, default=None)
    if found is None:
        return None
    return parquet.footer(spark, found.path).schema["result"].dataType.simpleString()
