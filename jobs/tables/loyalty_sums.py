"""The sums of `loyalty` of every customer, of which a night computes only those of customers with new rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from jobs.inputs.known_rows import latest_segments, newest_segment, of_customers, read_segments
from jobs.spark import files, parquet
from jobs.tables import loyalty
from jobs.tables.earlier import Earlier
from jobs.tables.runs import Night

SUMS = "loyalty_sums"


def sums_of_night(
    spark: SparkSession,
    night: Night,
    used: Mapping[str, DataFrame],
    labels: DataFrame | None,
    segment: str | None = None,
    earlier: Earlier | None = None,
) -> DataFrame:
    """Return the sums (`loyalty.sum_customers`) as of the run date; write them to tonight's `segment`, if there is one.

    `labels` are tonight's rows of `sentiments`. With `earlier` only customers with new purchases, reviews or labels are
    summed, and the kept sums of all others are returned with them.
    """
    if earlier is None:
        sums = _sums(spark, night, used, labels, None)
        if segment is None:
            return sums
        sums.write.mode("overwrite").parquet(files.uri(f"{segment}/{SUMS}"))
        return spark.read.schema(sums.schema).parquet(files.for_reading(f"{segment}/{SUMS}"))
    parts = [earlier.changed[table] for table in ("purchases", "reviews") if table in earlier.changed]
    parts += [] if labels is None else [labels.select("user_id")]
    path = f"{earlier.tonight}/{SUMS}_changed"
    reduce(DataFrame.unionByName, parts).distinct().coalesce(1).write.mode("overwrite").parquet(files.uri(path))
    changed = spark.read.schema("user_id string").parquet(files.for_reading(path))
    count = parquet.row_count(spark, path)
    night.named[SUMS] = count
    theirs = {table: of_customers(used[table], changed, count) for table in ("purchases", "reviews") if table in used}
    sums = _sums(spark, night, theirs, labels, theirs.get("reviews"))
    sums.write.mode("overwrite").parquet(files.uri(f"{earlier.tonight}/{SUMS}"))
    folders = [*earlier.folders, earlier.tonight]
    rows = read_segments(spark, folders, SUMS)
    return newest_segment(rows, latest_segments(spark, folders, SUMS), earlier.named.get(SUMS, 0) + count)


def _sums(
    spark: SparkSession,
    night: Night,
    used: Mapping[str, DataFrame],
    labels: DataFrame | None,
    reviews: DataFrame | None,
) -> DataFrame:
    scores = None
    if "reviews" in used:
        published = loyalty.labels_as_of(spark, night.store, night.run_date, labels, reviews)
        scores = loyalty.review_scores(used["reviews"], published)
    return loyalty.sum_customers(used["purchases"], scores)
