"""What the ledger itself costs: looking up, appending and compacting millions of keys, with no model in the way.

    python -m tests.bench.ledger [--keys 10000000] [--quick] [--json]

The ledger is filled with lists of 15 products in twenty waves. The look-up asks for nine tenths of the keys and as
many new ones as were left out, against another catalogue, so that every list's products are held against it: which
lists are good is one figure, reading those and writing them out as well another.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.scoring import ledger
from jobs.scoring.compaction import compact
from jobs.scoring.waves import AnswerTerms, row_schema
from jobs.spark import files, parquet
from jobs.spark.session import create_session
from jobs.store.store import Store
from tests.bench.measure import arguments, console, report

RESULT = "array<struct<item_id:string,score:double>>"
ITEMS, LISTED, WAVES = 20_000, 15, 20
DAY = date(2026, 3, 1)


def keys(spark: SparkSession, first: int, last: int) -> DataFrame:
    """Keys as real ones are: 64 hexadecimal digits without any pattern."""
    return spark.range(first, last, numPartitions=2).select(F.sha2(F.col("id").cast("string"), 256).alias("key"))


def wave(first: int, last: int) -> pa.Table:
    """Ledger rows of `keys`: 15 random products each, with float32 log-probabilities as engines give them."""
    size = last - first
    draw = np.random.default_rng(first)
    names = pa.array([f"P{n:06d}" for n in range(ITEMS)])
    items = pa.DictionaryArray.from_arrays(draw.integers(0, ITEMS, size * LISTED, dtype=np.int32), names)
    scores = np.sort(-draw.gamma(4.0, 1.5, (size, LISTED)).astype(np.float32), axis=1)[:, ::-1]
    listed = pa.StructArray.from_arrays(
        [items.dictionary_decode(), pa.array(scores.ravel().astype(np.float64))], names=["item_id", "score"]
    )
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, last)]
    same = {
        "model_version": "0123456789abcdef",
        "catalogue_version": "catalogue-1",
        "scored_on": DAY,
        "why_scored": "new",
        "run_id": "bench",
    }
    columns = {
        "key": pa.array(digests),
        "prompt_hash": pa.array([hashlib.sha256(digest.encode()).hexdigest()[:32] for digest in digests]),
        "result": pa.ListArray.from_arrays(np.arange(0, (size + 1) * LISTED, LISTED, dtype=np.int32), listed),
        **{name: pa.repeat(pa.scalar(value), size) for name, value in same.items()},
        "failure": pa.nulls(size, pa.string()),
    }
    return pa.table(columns)


def write(rows: pa.Table, folder: str) -> None:
    """One file, compressed as ours are."""
    Path(folder).mkdir(parents=True)
    pq.write_table(rows, f"{folder}/part-00000.parquet", compression="zstd")


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
        for number, (first, last) in enumerate(pairwise(cuts), start=1):
            write(wave(first, last), f"{store.ledger('recommend')}/wave={number:08d}-bench")

    timed(f"fill with {total:,} keys in {WAVES} waves", fill)
    size = files.disk_usage(spark, store.ledger("recommend"))[1]
    parquet.write(spark, keys(spark, total // 10, total + total // 10), f"{store.root}/asked")
    asked = spark.read.parquet(f"{store.root}/asked")
    terms = AnswerTerms("recommend", RESULT, "bench", DAY, "0123456789abcdef", "catalogue-2", 30)
    enough = ledger.enough_sellable([f"P{n:06d}" for n in range(ITEMS)], 10)

    def look_up(folder: str) -> None:
        known = ledger.lookup(spark, store, terms, asked, enough)
        parquet.write(spark, known, f"{store.root}/{folder}")

    def read_answers(folder: str) -> None:
        found = spark.read.parquet(f"{store.root}/{folder}")
        rows = parquet.write(spark, ledger.usable_answers(spark, store, terms, found, total), f"{store.root}/answers")
        assert sum(part.rows for part in rows) == total - total // 10
        files.delete(spark, f"{store.root}/answers")

    seconds["look-up"] = timed("look-up", lambda: look_up("found"))
    seconds["reading the answers found"] = timed("reading the answers found", lambda: read_answers("found"))
    new = total // 100
    write(wave(2 * total, 2 * total + new), f"{store.root}/new")

    def append() -> None:
        rows = spark.read.schema(row_schema(RESULT)).parquet(f"{store.root}/new")
        parquet.write(
            spark,
            parquet.one_sorted_partition(rows, ["key"]),
            f"{store.ledger('recommend')}/wave={WAVES + 1:08d}-bench",
        )

    seconds["append of 1%"] = timed(f"append of {new:,}", append)
    seconds["compaction"] = timed("compaction", lambda: compact(spark, store, "recommend", RESULT, "gc"))
    compacted = files.disk_usage(spark, store.ledger("recommend"))[1]
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
