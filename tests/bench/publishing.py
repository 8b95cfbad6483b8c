"""What it costs to stage a large date as several files, against one file.

    python -m tests.bench.publishing [--rows 2000000] [--files 10] [--json]

The rows are lists of ten products a customer, in files of another order, as a night leaves them. The share of single
tasks is the part of the time in which stages of one task ran alone, while other cores idled.
"""

from __future__ import annotations

import tempfile
import time
from datetime import date
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.spark import files, parquet
from jobs.spark.contracts import struct_type
from jobs.store.publish import stage_tables
from jobs.store.store import Store
from schemas import contract
from tests.bench.measure import arguments, in_turn, report
from tests.bench.single_tasks import logged_session, single_tasks

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


def main() -> None:
    options = arguments(__doc__ or "", rows=2_000_000, files=10)
    with logged_session() as (spark, events), tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/store")
        parquet.write(spark, lists(spark, options.rows), f"{folder}/lists")
        rows = spark.read.parquet(f"{folder}/lists")
        shares: dict[str, float] = {}

        def stage(name: str, per_file: int) -> None:
            begun = time.time()
            staged = stage_tables(spark, store, "bench", DAY, {TABLE: rows}, per_file)
            assert staged[TABLE].rows == options.rows
            shares[name] = single_tasks(events, (begun, time.time()))[0]
            files.delete(spark, store.staging("bench"))

        per_file = -(-options.rows // options.files)
        contenders = {"one file": options.rows, f"{options.files} files": per_file}
        seconds = in_turn(
            {name: partial(stage, name, rows_of_file) for name, rows_of_file in contenders.items()}, options.rounds
        )
    table = {
        name: {"seconds": f"{seconds[name]:.1f}", "share of single tasks": f"{shares[name]:.1%}"} for name in seconds
    }
    report(f"Staging {options.rows:,} rows", table, {"seconds": seconds, "single": shares}, options.json)


if __name__ == "__main__":
    main()
