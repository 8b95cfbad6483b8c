"""Compact a task's ledger: many small waves become one, without changing what any date would use.

For `regulars gc`, under the store's lock. Look-ups stay right at every moment: a row that is for an instant in the
merged wave and in its old one is the same answer twice.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.scoring import ledger
from jobs.scoring.waves import next_number, row_schema
from jobs.spark import files, parquet
from jobs.store.date_swap import Intent, commit, prepare_swap
from jobs.store.store import Store

#: One file holds about so many rows.
_ROWS_PER_FILE = 1_000_000


def compact(
    spark: SparkSession,
    store: Store,
    task: str,
    result_type: str,
    run_id: str,
    keep_from: date | None = None,
    in_use: DataFrame | None = None,
) -> tuple[int, int]:
    """Merge all waves into one and return the rows before and after; see `needless` for what goes.

    Only keys are shuffled, to find what goes; what stays is read and written once, in whatever order it comes.
    """
    waves = files.listdir(spark, store.ledger(task))
    before = rows_of(spark, store, task)
    if len(waves) < 2 and keep_from is None:
        return before, before
    rows = ledger.read(spark, store, task, result_type)
    going = needless(rows, keep_from, in_use)
    folder = f"{store.work(run_id)}/{task}_going"
    gone = sum(footer.rows for footer in parquet.write(spark, going, folder))
    going = spark.read.schema(going.schema).parquet(files.for_reading(folder))
    if gone <= ledger.BROADCAST_KEYS:
        going = F.broadcast(going)
    stays = rows.withColumn("wave_number", ledger.wave_number()).join(going, on=going.columns, how="left_anti")
    wave = f"wave={next_number(spark, store, task):08d}-{run_id}"
    staged = f"{store.staging(run_id)}/{task}/{wave}"
    parts = max(1, -(-(before - gone) // _ROWS_PER_FILE))
    written = parquet.write(spark, stays.select(*row_schema(result_type).names).coalesce(parts), staged)
    parquet.check_footers(written, row_schema(result_type), before - gone, f"task {task}, {wave}")
    retires = [f"ledger/{task}/{name}" for name in waves]
    commit(spark, store, Intent(run_id, [prepare_swap(spark, store, staged, f"{store.ledger(task)}/{wave}")], retires))
    files.delete(spark, store.work(run_id))
    return before, before - gone


def needless(rows: DataFrame, keep_from: date | None = None, in_use: DataFrame | None = None) -> DataFrame:
    """Of the ledger's `rows` those that no date asks for, as `key`, `scored_on`, `wave_number`.

    Of answers to one request on one date only the newest counts. With `keep_from`, answers that were already replaced
    on that date go too, and so do those older than it whose `prompt_hash` is not `in_use`: dates from keep_from on
    stay repeatable without the model, earlier ones would ask it again.
    """
    narrow = rows.select("key", "scored_on", "prompt_hash", ledger.wave_number().alias("wave_number"))
    # Answers that no date from keep_from on can tell apart fall into one group.
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
    """Rows of a task's ledger, by its files' own word."""
    folders = [f"{store.ledger(task)}/{wave}" for wave in files.listdir(spark, store.ledger(task))]
    return sum(footer.rows for folder in folders for footer in parquet.footers(spark, folder))


def result_type_of(spark: SparkSession, store: Store, task: str) -> str | None:
    """The DDL type of a task's results as its newest wave has it; None where there is no wave."""
    waves = files.listdir(spark, store.ledger(task))
    footers = parquet.footers(spark, f"{store.ledger(task)}/{waves[-1]}") if waves else []
    return footers[0].schema["result"].dataType.simpleString() if footers else None
