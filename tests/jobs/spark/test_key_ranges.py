"""Ranges of keys: every row once, in order, also for skewed keys, nulls and more ranges than keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from jobs.spark.key_ranges import RANGE, range_count, sorted_ranges

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.parametrize("keys", [[None, *"abcdefghij"] * 3, ["a"] * 30, [], [f"{n:03d}" for n in range(300)]])
def test_ranges_are_ordered_and_hold_each_row_once(spark: SparkSession, keys: list[str | None]) -> None:
    frame = spark.createDataFrame([(key, n) for n, key in enumerate(keys)], "key string, n int")
    ranged = sorted_ranges(frame, ["key"], 5, 60)
    rows = [tuple(row) for row in ranged.select(RANGE, F.spark_partition_id(), "key", "n").collect()]
    assert all(of == partition for of, partition, _, _ in rows)
    placed = [(of, key is not None, key or "") for of, _, key, _ in rows]
    assert placed == sorted(placed)
    assert sorted(n for *_, n in rows) == list(range(len(keys)))
    assert len({(of, key) for of, _, key, _ in rows}) == len(set(keys))
    assert len({of for of, *_ in rows}) == (5 if len(keys) == 300 else min(len(set(keys)), 5))


def test_small_frames_are_one_range(spark: SparkSession) -> None:
    frame = spark.range(1000).select(F.col("id").cast("string").alias("key"))
    assert [range_count(frame, rows) for rows in (300, 999, 1000, 10_000)] == [4, 2, 1, 1]
