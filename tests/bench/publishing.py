"""What it costs to stage a large date as several files, against one file.

    python -m tests.bench.publishing [--rows 2000000] [--files 10] [--json]

The rows are lists of ten products a customer, in files of another order, as a night leaves them. The share of single
tasks is the part of the tasks' time in stages of one task, while other cores idle.
"""

from __future__ import annotations

import tempfile
from datetime import date
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.spark import files, parquet
from jobs.spark.contracts import struct_type
from jobs.spark.session import create_session
from jobs.store.publish import stage_tables
from jobs.store.store import Store
from schemas import contract
from tests.bench.measure import arguments, in_turn, report

TABLE, LISTED = "recommendations", 10
DAY = date(2026, 3, 1)


def lists(spark: SparkSession, rows: int) -> DataFrame:
    """`rows` rows of the table, in no order."""
    columns = {
        "user_id": F.sha2((F.col("id") / LISTED).cast("bigint").cast("string"), 224),
        "rank": (F.col("id") % LISTED + 1).cast("int"),
        "item_id": F.format_string("P%06d", F.pmod(F.xxhash64("id"), F.lit(20_000))),
        "title": F.format_string("a product with number %d", F.pmod(F.xxhash64("id"), F.lit(20_000))),
        "score": -F.rand(1) - 1,
        "scored_on": F.lit(DAY),
        "why_scored": F.lit("new"),
    }
    frame = spark.range(rows).repartition(8, F.xxhash64("id"))
    wanted = [
        columns.get(field.name, F.lit(None if field.nullable else "x")).cast(field.dataType).alias(field.name)
        for field in struct_type(contract(TABLE)).fields
    ]
    return frame.select(*wanted)


def single_share(spark: SparkSession, known: set[int]) -> float:
    """The share of stages of one task in the tasks' time, of the stages that are not `known`."""
    stages = [stage for stage in stages_of(spark) if stage.stageId() not in known]
    spent = [(stage.numTasks(), int(stage.executorRunTime())) for stage in stages]
    return sum(time for tasks, time in spent if tasks == 1) / max(1, sum(time for _, time in spent))


def stages_of(spark: SparkSession) -> list[Any]:
    """The stages so far, as Spark's status store has them."""
    context: Any = spark.sparkContext._jsc
    found = context.sc().statusStore().stageList(None, False, False, [], None)
    return [found.apply(number) for number in range(found.size())]


def main() -> None:
    options = arguments(__doc__ or "", rows=2_000_000, files=10)
    spark = create_session("bench")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/store")
        parquet.write(spark, lists(spark, options.rows), f"{folder}/lists")
        rows = spark.read.parquet(f"{folder}/lists")
        shares: dict[str, float] = {}

        def stage(name: str, per_file: int) -> None:
            known = {one.stageId() for one in stages_of(spark)}
            staged = stage_tables(spark, store, "bench", DAY, {TABLE: rows}, per_file)
            assert staged[TABLE].rows == options.rows
            shares[name] = single_share(spark, known)
            files.delete(spark, store.staging("bench"))

        per_file = -(-options.rows // options.files)
        contenders = {"one file": options.rows, f"{options.files} files": per_file}
        seconds = in_turn(
            {name: partial(stage, name, rows_of_file) for name, rows_of_file in contenders.items()}, options.rounds
        )
    spark.stop()
    table = {
        name: {"seconds": f"{seconds[name]:.1f}", "share of single tasks": f"{shares[name]:.1%}"} for name in seconds
    }
    report(f"Staging {options.rows:,} rows", table, {"seconds": seconds, "single": shares}, options.json)


if __name__ == "__main__":
    main()
