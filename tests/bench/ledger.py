"""What the ledger itself costs: looking up, appending and compacting millions of answers, with no model in the way.

    python -m tests.bench.ledger [--keys 10000000] [--requests 1000000] [--listed 15] [--compaction 0] [--json]

The ledger is as compaction leaves it, with three later waves of 1%. Nine tenths of the requests are known, the others
are new. The catalogue is another one, so the products of each known list are held against it. A ledger of a tenth of
the size is asked the same number of requests beside it. Seconds of the processor are those of all cores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.scoring import ledger
from jobs.scoring.compaction import compact
from jobs.scoring.ledger_files import starts_of_ranges
from jobs.scoring.waves import AnswerTerms, row_schema
from jobs.spark import files, parquet
from jobs.spark.session import create_session
from jobs.store.store import Store
from tests.bench.measure import arguments, console, report

RESULT = "array<struct<item_id:string,score:double>>"
ITEMS, LATER_WAVES = 20_000, 3
ROWS_PER_FILE = 200_000
DAY = date(2026, 3, 1)
HEX = np.array([f"{byte:02x}".encode() for byte in range(256)])
#: Columns whose values repeat.
REPEATED = ["result.list.element.item_id", "model_version", "catalogue_version", "scored_on", "why_scored", "run_id"]


def keys(size: int, draw: np.random.Generator, first: int, last: int) -> pa.Array:
    """Sorted keys as real ones are, 64 random hexadecimal digits, whose first four are in [first, last)."""
    digests = draw.integers(0, 256, (size, 32), dtype=np.uint8)
    digests[:, :2] = draw.integers(first, last, size, dtype=np.uint16).astype(">u2")[:, None].view(np.uint8)
    digests = digests[np.argsort(digests[:, :8].copy().view(">u8").ravel())]
    return hexadecimal(digests)


def hexadecimal(digests: np.ndarray) -> pa.Array:
    """Each row of bytes as text."""
    size, width = digests.shape
    offsets = np.arange(0, (size + 1) * 2 * width, 2 * width, dtype=np.int32)
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(HEX[digests].tobytes()))


def answers(of: pa.Array, draw: np.random.Generator, listed: int) -> pa.Table:
    """Ledger rows of these keys: random products each, with float32 log-probabilities as engines give them."""
    size = len(of)
    names = pa.array([f"P{n:06d}" for n in range(ITEMS)])
    items = pa.DictionaryArray.from_arrays(draw.integers(0, ITEMS, size * listed, dtype=np.int32), names)
    scores = np.sort(-draw.gamma(4.0, 1.5, (size, listed)).astype(np.float32), axis=1)[:, ::-1]
    lists = pa.StructArray.from_arrays(
        [items.dictionary_decode(), pa.array(scores.ravel().astype(np.float64))], names=["item_id", "score"]
    )
    same = {
        "model_version": "0123456789abcdef",
        "catalogue_version": "catalogue-1",
        "scored_on": DAY,
        "why_scored": "new",
        "run_id": "bench",
    }
    columns = {
        "key": of,
        "prompt_hash": hexadecimal(draw.integers(0, 256, (size, 16), dtype=np.uint8)),
        "result": pa.ListArray.from_arrays(np.arange(0, (size + 1) * listed, listed, dtype=np.int32), lists),
        **{name: pa.repeat(pa.scalar(value), size) for name, value in same.items()},
        "failure": pa.nulls(size, pa.string()),
    }
    return pa.table(columns)


def write(rows: pa.Table, path: str) -> None:
    """One file, compressed as ours are."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd", use_dictionary=REPEATED)


def timed(name: str, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor for one piece of work.

    Each is done once, because it changes the ledger or takes minutes.
    """
    started, used = time.perf_counter(), processor_seconds()
    work()
    seconds, used = time.perf_counter() - started, processor_seconds() - used
    console.print(f"[dim]{name}: {seconds:.1f} s, of the processor {used:.1f} s[/dim]", highlight=False)
    return seconds, used


def processor_seconds() -> float:
    """Seconds that this process and its children have computed so far."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def fill(store: Store, total: int, requests: int, listed: int) -> int:
    """Write the merged wave, the later ones and the requests; return the number of known requests."""
    draw = np.random.default_rng(0)
    folder, ranges = f"{store.ledger('recommend')}/wave=00000001-bench", -(-total // ROWS_PER_FILE)
    starts = [0, *(int(start, 16) for start in starts_of_ranges(ranges)), 1 << 16]
    asked, per_file = [keys(requests // 10, draw, 0, 1 << 16)], total // ranges
    for number in range(ranges):
        of = keys(per_file, draw, starts[number], starts[number + 1])
        asked.append(of.take(draw.choice(per_file, min(per_file, requests * 9 // 10 // ranges), replace=False)))
        name = parquet.part_name(number, f"of-{ranges:05d}") if ranges > 1 else parquet.part_name(0)
        write(answers(of, draw, listed), f"{folder}/{name}")
    for number in range(LATER_WAVES):
        of = keys(total // 100, draw, 0, 1 << 16)
        write(answers(of, draw, listed), f"{store.ledger('recommend')}/wave={number + 2:08d}-bench/part-00000.parquet")
    write(pa.table({"key": pa.concat_arrays(asked)}), f"{store.root}/asked/part-00000.parquet")
    return sum(map(len, asked[1:]))


def measure(
    spark: SparkSession, store: Store, total: int, requests: int, listed: int, *, compacts: bool
) -> dict[str, tuple[float, float]]:
    """Seconds of each step, of the clock and of the processor."""
    known = 0

    def filled() -> None:
        nonlocal known
        known = fill(store, total, requests, listed)

    timed(f"fill with {total:,} answers", filled)
    terms = AnswerTerms("recommend", RESULT, "bench", DAY, "0123456789abcdef", "catalogue-2", 30)
    enough = ledger.enough_sellable([f"P{n:06d}" for n in range(ITEMS)], min(10, listed))
    asked = spark.read.parquet(f"{store.root}/asked")

    def look_up(keys_asked: int, folder: str) -> None:
        of = asked if keys_asked == requests else asked.where("key < '00'").limit(keys_asked)
        found = ledger.look_up(spark, store, terms, of, f"{store.root}/{folder}", enough)
        assert keys_asked < requests or found.asked - found.missing_count == known, found
        files.delete(spark, f"{store.root}/{folder}")

    seconds = {f"look-up of {requests:,} requests": timed("look-up", lambda: look_up(requests, "found"))}
    seconds["look-up of 100 requests"] = timed("look-up of 100", lambda: look_up(100, "found-100"))
    if compacts:
        write(answers(keys(total // 100, np.random.default_rng(1), 0, 1 << 16), np.random.default_rng(1), listed),
              f"{store.root}/new/part-00000.parquet")  # fmt: skip

        def append() -> None:
            rows = spark.read.schema(row_schema(RESULT)).parquet(f"{store.root}/new")
            wave = f"{store.ledger('recommend')}/wave={LATER_WAVES + 2:08d}-bench"
            parquet.write(spark, parquet.one_sorted_partition(rows, ["key"]), wave)

        seconds["append of 1%"] = timed("append", append)
        seconds["compaction"] = timed("compaction", lambda: compact(spark, store, "recommend", RESULT, "gc"))
        seconds["look-up after it"] = timed("look-up after it", lambda: look_up(requests, "again"))
    return seconds


def main() -> None:
    options = arguments(__doc__ or "", keys=10_000_000, requests=1_000_000, listed=15, compaction=1)
    spark = create_session("bench")
    figures = {}
    for total in (max(1, options.keys // 10), options.keys):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(str(Path(folder) / "store"))
            compacts = options.compaction > 0
            figures[total] = measure(spark, store, total, options.requests, options.listed, compacts=compacts)
    spark.stop()
    rows = {
        name: {f"{total:,} answers": "{:.1f} s, processor {:.1f} s".format(*figures[total][name]) for total in figures}
        for name in figures[options.keys]
    }
    report(f"Ledger, {options.listed} products a list", rows, {"figures": figures}, options.json)


if __name__ == "__main__":
    main()
