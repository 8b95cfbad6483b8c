"""Events to prompts against DuckDB, Spark's overhead around the engine, and the memory of two workers, local[2].

    python -m tests.bench.pipeline [--data FOLDER] [--events 10000000] [--quick] [--json]

10 million events of 500,000 customers become the `prompts` table, by our jobs and by DuckDB on the same files. DuckDB
is given our renderer for each different event, so that its rows are the same to the last character (`rows_differing`
counts those that are not); `vs_duckdb_text_only` compares with SQL that only strings the newest 20 lines together,
without redaction and without counting a token. Both use two threads.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.bench import events, material, prompts_duckdb, spark_job
from tests.bench.measure import arguments, in_turn, report

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUDGET, HISTORY, LINES = 256, 50, 20
EVENTS, OF_A_CUSTOMER = 10_000_000, 20


def main() -> None:
    from jobs.spark.session import create_session

    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # DuckDB's lines are counted with both threads
    options = arguments(__doc__ or "", events=EVENTS)
    asked = options.events // OF_A_CUSTOMER
    customers = 16 if options.quick else 128
    with tempfile.TemporaryDirectory() as folder:
        spark = create_session("bench", conf={"spark.master": "local[2]"})
        prompts = to_prompts(spark, Path(folder), options, options.events, asked)
        spark.stop()
        spark = create_session("bench", conf={"spark.master": "local[2]"})
        job = spark_job.Job(spark, Path(folder) / "job", options.data, customers)
        memory = spark_job.memory(job, 8)  # first: it needs workers that have loaded nothing
        around = spark_job.overhead(job, options.rounds)
        spark.stop()
    figures = {
        "vs_duckdb": prompts["seconds"]["ours"] / prompts["seconds"]["DuckDB"],
        "vs_duckdb_text_only": prompts["seconds"]["ours"] / prompts["seconds"]["DuckDB, text only"],
        "spark_overhead": around["spark"] / around["alone"],
        "memory_vs_weights": (memory["held"] - memory["activations"]) / memory["weights"],
        **prompts,
        "events": options.events,
        "customers": asked,
        "scored_customers": customers,
        "scoring_seconds": around,
        "memory_bytes": memory,
    }
    rows = {name: {"seconds": f"{seconds:.1f}"} for name, seconds in prompts["seconds"].items()}
    rows["ours"]["peak"] = f"{prompts['peak_bytes'] / 2**30:.1f} GiB"
    rows["lists by Spark"] = {"seconds": f"{around['spark']:.1f}"}
    rows["lists by the engine alone"] = {"seconds": f"{around['alone']:.1f}"}
    report(f"{figures['events']:,} events to prompts; {customers} customers' lists", rows, figures, options.json)


def to_prompts(spark: SparkSession, folder: Path, options: Any, count: int, customers: int) -> dict[str, Any]:
    """Seconds of each contender, bytes at ours' peak, and how many rows of the two tables differ."""
    import duckdb

    from jobs.scoring import models
    from lm.text.prompt import PromptEncoder

    path = material.save_tokenizer(folder / "model", options.data)
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("set timezone = 'UTC'")
    events.write(connection, folder, count, customers, sorted(set(material.reviews(options.data, 30_000))))
    load = models.Model(str(path), "bench").encoder_loader()
    ours = folder / "prompts"
    peak = Peak()

    def by_spark() -> None:
        with peak:
            with_spark(spark, folder, load, ours)

    by_duckdb = folder / "duckdb.parquet"
    contenders = {
        "ours": by_spark,
        # A fresh encoder each time: one that has seen the events would have their lines in its cache.
        "DuckDB": lambda: prompts_duckdb.exact(
            connection, folder, PromptEncoder.load(path), BUDGET, HISTORY, by_duckdb
        ),
        "DuckDB, text only": lambda: prompts_duckdb.plain(connection, folder, LINES, folder / "plain.parquet"),
    }
    spark.range(10).selectExpr("sum(id)").collect()  # the JVM's start is not counted
    seconds = in_turn(contenders, options.rounds)
    differing = connection.execute(f"""
        select count(*) from (select * from '{ours}/*.parquet') a full join '{by_duckdb}' b using (user_id)
        where {" or ".join(f"a.{name} is distinct from b.{name}" for name in COMPARED)}""").fetchone()
    rows = connection.execute(f"select count(*) from '{by_duckdb}'").fetchone()
    return {"seconds": seconds, "peak_bytes": peak.bytes, "rows": rows[0], "rows_differing": differing[0]}


COMPARED = (
    "prompt", "prompt_hash", "tokens", "events_used", "events_dropped", "last_event_at", "excluded", "excluded_hash",
)  # fmt: skip


def with_spark(spark: SparkSession, folder: Path, load: Any, target: Path) -> None:
    """The night's own functions, from files to a file."""
    from jobs.tables.histories import histories
    from jobs.tables.prompts import prompts

    tables = ("purchases", "searches", "reviews", "items")
    used = {name: spark.read.parquet(f"{folder}/{name}.parquet") for name in tables}
    prompts(histories(used, HISTORY), load, BUDGET).write.mode("overwrite").parquet(str(target))


class Peak:
    """The most memory of this process' children, the JVM and its Python workers, while it is entered."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()

    def __enter__(self) -> Peak:
        self._ended.clear()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            children = psutil.Process().children(recursive=True)
            self.bytes = max(self.bytes, sum(filter(None, map(_pss, children))))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


if __name__ == "__main__":
    main()
