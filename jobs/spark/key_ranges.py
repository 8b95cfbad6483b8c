"""Partitions rows by ranges of their key, with the same ranges whatever the input's partitions are.

Spark's own range partitioning draws its sample by partition, so its ranges differ from run to run. Here a hash of the
key draws the sample. The sample stays in the executors: no key reaches the driver or a plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.spark.plan_size import size_of

#: The column with the number of a row's range, in the result of `sorted_ranges`.
RANGE = "_key_range"
_BOUNDS = "_bounds"
#: Sampled keys for each range. The rows of a range then differ from the mean by about 7%.
_SAMPLED = 200


def range_count(frame: DataFrame, rows_per_range: int) -> int:
    """Return how many ranges of at most about this many rows the frame needs; at least 1.

    A frame that is smaller in bytes than one range in rows is not counted: each row has at least a byte.
    """
    return 1 if size_of(frame) <= rows_per_range else max(1, -(-frame.count() // rows_per_range))


def sorted_ranges(frame: DataFrame, by: Sequence[str], ranges: int, rows_per_range: int) -> DataFrame:
    """Put the rows of each of `ranges` ranges of the columns `by` into one partition, in order, and sort them.

    Adds the column RANGE. Equal keys are in one partition. The frame is computed twice: its keys first.
    """
    key = F.struct(*(F.col(f"`{name}`") for name in by))
    of_sample = F.pmod(F.xxhash64(*(F.col(f"`{name}`") for name in by)), F.lit(max(1, rows_per_range // _SAMPLED))) == 0
    ordered = frame.where(of_sample).select(F.sort_array(F.collect_list(key)).alias("keys"))
    places = F.transform(
        F.sequence(F.lit(1), F.lit(ranges - 1)),
        lambda number: F.get("keys", F.floor(F.size("keys") * number / ranges).cast("int")),
    )
    numbered = frame.crossJoin(F.broadcast(ordered.select(places.alias(_BOUNDS))))
    numbered = numbered.withColumn(RANGE, bounds_up_to(key, F.col(_BOUNDS), ranges - 1)).drop(_BOUNDS)
    return numbered.repartitionById(ranges, F.col(RANGE)).sortWithinPartitions(RANGE, *(f"`{name}`" for name in by))


def bounds_up_to(key: Column, bounds: Column, count: int) -> Column:
    """Return how many of `count` sorted bounds are at most the key, by binary search."""
    steps = F.array(*(F.lit(1 << power) for power in reversed(range(count.bit_length()))))

    def step(found: Column, width: Column) -> Column:
        return F.when(F.get(bounds, found + width - 1) <= key, found + width).otherwise(found)

    return F.aggregate(steps, F.lit(0), step)
