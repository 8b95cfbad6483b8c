"""Compact a task's ledger: many small waves become one, without changing what any date would use.

For `regulars gc`, under the store's lock. Look-ups stay right at every moment: a row that is for an instant in the
merged wave and in its old one is the same answer twice.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import files, ledger, parquet
from jobs.store import Store
from jobs.swap import Intent, commit, swap_of
from jobs.waves import next_number, row_schema


def compact(
    spark: SparkSession, store: Store, task: str, result_type: str, run_id: str, keep_from: date | None = None
) -> tuple[int, int]:
    """Merge all waves into one and return the rows before and after.

    Of answers to one request on one date the newest stays. With `keep_from`, answers that were already replaced on
    that date go too: re-runs of that date and later ones stay repeatable, earlier ones would ask the model again.
    """
    waves = files.listdir(spark, store.ledger(task))
    folders = [f"{store.ledger(task)}/{wave}" for wave in waves]
    before = sum(footer.rows for folder in folders for footer in parquet.footers(spark, folder))
    if len(waves) < 2 and keep_from is None:
        return before, before
    names = row_schema(result_type).names
    # Answers that no date from keep_from on can tell apart fall into one group.
    since = F.col("scored_on") if keep_from is None else F.greatest(F.col("scored_on"), F.lit(keep_from))
    kept = (
        ledger.read(spark, store, task, result_type)
        .groupBy("key", since.alias("since"))
        .agg(F.max_by(F.struct(*names), F.struct("scored_on", "wave")).alias("answer"))
        .select("answer.*")
    )
    wave = f"wave={next_number(spark, store, task):08d}-{run_id}"
    staged = f"{store.staging(run_id)}/{task}/{wave}"
    merged = parquet.gather(kept, ["key", "scored_on"])
    written = parquet.write(spark, merged, staged)
    after = sum(footer.rows for footer in written)
    parquet.check(written, row_schema(result_type), after, f"task {task}, {wave}")
    retires = [f"ledger/{task}/{name}" for name in waves]
    commit(spark, store, Intent(run_id, [swap_of(spark, store, staged, f"{store.ledger(task)}/{wave}")], retires))
    return before, after
