"""Compact a task's ledger: many small waves become one, without changing what any date would use.

For `regulars gc`, under the store's lock. Look-ups stay right at every moment: a row that is for an instant in the
merged wave and in its old one is the same answer twice.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import files, ledger, parquet
from jobs.store import Store
from jobs.swap import Intent, commit, swap_of
from jobs.waves import next_number, row_schema

#: One task sorts and writes one file of about so many rows.
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
    """Merge all waves into one and return the rows before and after; see `kept` for what goes."""
    waves = files.listdir(spark, store.ledger(task))
    before = rows_of(spark, store, task)
    if len(waves) < 2 and keep_from is None:
        return before, before
    wave = f"wave={next_number(spark, store, task):08d}-{run_id}"
    staged = f"{store.staging(run_id)}/{task}/{wave}"
    merged = kept(ledger.read(spark, store, task, result_type), result_type, before, keep_from, in_use)
    written = parquet.write(spark, merged.sortWithinPartitions("key", "scored_on"), staged)
    after = sum(footer.rows for footer in written)
    parquet.check(written, row_schema(result_type), after, f"task {task}, {wave}")
    retires = [f"ledger/{task}/{name}" for name in waves]
    commit(spark, store, Intent(run_id, [swap_of(spark, store, staged, f"{store.ledger(task)}/{wave}")], retires))
    return before, after


def kept(
    rows: DataFrame,
    result_type: str,
    total: int,
    keep_from: date | None = None,
    in_use: DataFrame | None = None,
) -> DataFrame:
    """Of the ledger's `rows` (about `total`) those that stay, spread by key over files of a bounded size.

    Of answers to one request on one date the newest stays. With `keep_from`, answers that were already replaced on
    that date go too, and so do those older than it whose `prompt_hash` is not `in_use`: dates from keep_from on stay
    repeatable without the model, earlier ones would ask it again.
    """
    names = row_schema(result_type).names
    if in_use is None:
        marked = rows.withColumn("is_used", F.lit(False))
    else:
        used = in_use.select("prompt_hash").distinct().withColumn("is_used", F.lit(True))
        marked = rows.join(used, on="prompt_hash", how="left")
    # Answers that no date from keep_from on can tell apart fall into one group.
    since = F.col("scored_on") if keep_from is None else F.greatest(F.col("scored_on"), F.lit(keep_from))
    newest = (
        # By the key alone, so that one shuffle serves the grouping and the files.
        marked.repartition(max(1, -(-total // _ROWS_PER_FILE)), "key")
        .groupBy("key", since.alias("since"))
        .agg(F.max_by(F.struct(*names, "is_used"), F.struct("scored_on", "wave")).alias("answer"))
        .select("answer.*")
    )
    if keep_from is not None:
        is_young = F.col("scored_on") >= F.lit(keep_from)
        newest = newest.where(is_young | F.coalesce("is_used", F.lit(False)))
    return newest.select(*names)


def rows_of(spark: SparkSession, store: Store, task: str) -> int:
    """Rows of a task's ledger, by its files' own word."""
    folders = [f"{store.ledger(task)}/{wave}" for wave in files.listdir(spark, store.ledger(task))]
    return sum(footer.rows for folder in folders for footer in parquet.footers(spark, folder))


def result_type_of(spark: SparkSession, store: Store, task: str) -> str | None:
    """The DDL type of a task's results as its newest wave has it; None where there is no wave."""
    waves = files.listdir(spark, store.ledger(task))
    footers = parquet.footers(spark, f"{store.ledger(task)}/{waves[-1]}") if waves else []
    return footers[0].schema["result"].dataType.simpleString() if footers else None
