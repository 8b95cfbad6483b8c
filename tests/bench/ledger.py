"""What the ledger itself costs: looking up, appending and compacting millions of keys, with no model in the way.

    python -m tests.bench.ledger [--keys 10000000] [--quick] [--json]

The ledger is filled with lists of 15 products in twenty waves. The look-up asks for nine tenths of the keys and as
many new ones as were left out, against another catalogue, so that every list's products are held against it: which
lists are good is one figure, reading those and writing them out as well another.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import files, ledger, parquet
from jobs.compact import compact
from jobs.session import create_session
from jobs.store import Store
from jobs.waves import Terms, row_schema
from tests.bench.measure import arguments, console, report

RESULT = "array<struct<item_id:string,score:double>>"
ITEMS, LISTED, WAVES = 20_000, 15, 20
DAY = date(2026, 3, 1)


def keys(spark: SparkSession, first: int, last: int) -> DataFrame:
    """Keys as real ones are: 64 hexadecimal digits without any pattern."""
    return spark.range(first, last, numPartitions=2).select(F.sha2(F.col("id").cast("string"), 256).alias("key"))


def answers(keys_: DataFrame, run_id: str) -> DataFrame:
    """A ledger row for each key: 15 products that differ from list to list, and float32 log-probabilities."""

    def one(position: Column) -> Column:
        number = F.pmod(F.xxhash64("key", position), F.lit(ITEMS))
        score = -F.log(position) - F.abs(F.xxhash64(position, "key").cast("double")) / F.lit(2.0**63)
        return F.struct(
            F.concat(F.lit("P"), F.lpad(number.cast("string"), 6, "0")).alias("item_id"),
            score.cast("float").cast("double").alias("score"),
        )

    lists = keys_.withColumn("result", F.transform(F.sequence(F.lit(1), F.lit(LISTED)), one))
    return lists.select(
        "key",
        F.substring(F.sha2("key", 256), 1, 32).alias("prompt_hash"),
        "result",
        F.lit("0123456789abcdef").alias("model_version"),
        F.lit("catalogue-1").alias("catalogue_version"),
        F.lit(DAY).alias("scored_on"),
        F.lit("new").alias("why_scored"),
        F.lit(run_id).alias("run_id"),
        F.lit(None).cast("string").alias("failure"),
    )


def timed(name: str, work: Callable[[], object]) -> float:
    """Seconds of one piece of work; each is done once, because it changes the ledger or takes minutes."""
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    console.print(f"[dim]{name}: {seconds:.1f} s[/dim]", highlight=False)
    return seconds


def measure(spark: SparkSession, store: Store, total: int) -> dict[str, float]:
    """Seconds of each step and bytes per key, before and after compaction."""
    seconds = {}
    cuts = [total * n // WAVES for n in range(WAVES + 1)]

    def fill() -> None:
        for n in range(WAVES):  # by all cores, which a night's small waves do not need
            rows = answers(keys(spark, cuts[n], cuts[n + 1]), "bench").select(*row_schema(RESULT).names)
            parquet.write(
                spark, rows.sortWithinPartitions("key"), f"{store.ledger('recommend')}/wave={n + 1:08d}-bench"
            )

    timed(f"fill with {total:,} keys in {WAVES} waves", fill)
    size = files.usage(spark, store.ledger("recommend"))[1]
    asked = keys(spark, total // 10, total + total // 10)
    terms = Terms("recommend", RESULT, "bench", DAY, "0123456789abcdef", "catalogue-2", 30)
    enough = ledger.enough_sellable([f"P{n:06d}" for n in range(ITEMS)], 10)

    def look_up(folder: str) -> None:
        known = ledger.lookup(spark, store, terms, asked, enough)
        parquet.write(spark, known, f"{store.root}/{folder}")

    def read_answers(folder: str) -> None:
        found = spark.read.parquet(f"{store.root}/{folder}")
        rows = parquet.write(spark, ledger.answers(spark, store, terms, found, total), f"{store.root}/answers")
        assert sum(part.rows for part in rows) == total - total // 10
        files.delete(spark, f"{store.root}/answers")

    seconds["look-up"] = timed("look-up", lambda: look_up("found"))
    seconds["reading the answers found"] = timed("reading the answers found", lambda: read_answers("found"))
    new = total // 100

    def append() -> None:
        rows = answers(keys(spark, 2 * total, 2 * total + new), "bench").select(*row_schema(RESULT).names)
        parquet.write(spark, parquet.gather(rows, ["key"]), f"{store.ledger('recommend')}/wave={WAVES + 1:08d}-bench")

    seconds["append of 1%"] = timed(f"append of {new:,}", append)
    seconds["compaction"] = timed("compaction", lambda: compact(spark, store, "recommend", RESULT, "gc"))
    compacted = files.usage(spark, store.ledger("recommend"))[1]
    seconds["look-up after it"] = timed("look-up after it", lambda: look_up("found-again"))
    return seconds | {"bytes per key": size / total, "bytes per key, compacted": compacted / (total + new)}


def main() -> None:
    options = arguments(__doc__ or "", keys=10_000_000)
    spark = create_session("bench")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(spark, Store(str(Path(folder) / "store")), options.keys)
    spark.stop()
    rows = {
        name: {"": f"{value:.0f} bytes" if name.startswith("bytes") else f"{value / 60:.2f} minutes"}
        for name, value in figures.items()
    }
    report(f"Ledger of {options.keys:,} keys", rows, {"keys": options.keys} | figures, options.json)


if __name__ == "__main__":
    main()
