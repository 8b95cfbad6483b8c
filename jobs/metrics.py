"""Writes `metrics`: what a night looks like in a few numbers, for the analyst who watches the trend.

Runs inside the night: `regulars nightly --run-date D`. Names and slices:
`customers`; `rows` by table, with the control group's lists; `short_lists` by reason; `coverage` (share of sellable
products in some list); `top_score` (mean log-probability of rank 1); `label_share` by label; `disagreements`,
`abstained` (no label for lack of confidence) and `shortened` (head and tail read), shares of the reviews.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.recommendations import short_lists


def night_metrics(
    outputs: Mapping[str, DataFrame], prompts: DataFrame, items: DataFrame, k: int, late: DataFrame | None = None
) -> DataFrame:
    """One row per metric and slice in the `metrics` contract, from the tables about to be published.

    `prompts` carries each customer's `excluded` items and `late` the customers whom a deadline left out: both explain
    short lists.
    """
    lists = outputs["recommendations"]
    parts = [
        _one(prompts, "customers", F.count("*").cast("double"), F.count("*")),
        _one(lists.where("rank = 1"), "top_score", F.avg("score"), F.count("*")),
        _coverage(lists, items),
        short_lists(prompts, lists, items, k, late).select(
            F.lit("short_lists").alias("metric"),
            F.col("reason").alias("slice"),
            F.col("customers").cast("double").alias("value"),
            F.col("customers").alias("n"),
        ),
    ]
    if "sentiments" in outputs:
        labelled = outputs["sentiments"]
        total = labelled.agg(F.count("*").alias("n"))
        given = labelled.where("label IS NOT NULL").groupBy(F.col("label").alias("slice"))
        shares = given.agg(F.count("*").alias("rows")).crossJoin(total)
        parts += [
            shares.select(
                F.lit("label_share").alias("metric"), "slice", (F.col("rows") / F.col("n")).alias("value"), "n"
            ),
            _one(labelled, "disagreements", F.avg(F.col("disagrees").cast("int")), F.count("*")),
            _one(labelled, "abstained", F.avg(F.col("label").isNull().cast("int")), F.count("*")),
            _one(labelled, "shortened", F.avg(F.col("shortened").cast("int")), F.count("*")),
        ]
    return reduce(DataFrame.unionByName, parts).where("value IS NOT NULL")


def table_rows(spark: SparkSession, tables: Mapping[str, int]) -> DataFrame:
    """Rows for `metrics`: the rows of each output table."""
    rows = [("rows", table, float(n), n) for table, n in tables.items()]
    return spark.createDataFrame(rows, "metric string, slice string, value double, n bigint")


def _one(rows: DataFrame, metric: str, value: Column, n: Column) -> DataFrame:
    return rows.agg(value.alias("value"), n.alias("n")).select(
        F.lit(metric).alias("metric"), F.lit("all").alias("slice"), "value", "n"
    )


def _coverage(lists: DataFrame, items: DataFrame) -> DataFrame:
    shown = lists.agg(F.countDistinct("item_id").alias("shown"))
    sellable = items.where("available").agg(F.count("*").alias("n"))
    share = F.when(F.col("n") > 0, F.col("shown") / F.col("n"))
    return shown.crossJoin(sellable).select(
        F.lit("coverage").alias("metric"), F.lit("all").alias("slice"), share.alias("value"), "n"
    )
