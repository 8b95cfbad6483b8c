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


def short_lists(
    prompts: DataFrame, published: DataFrame, items: DataFrame, k: int, late: DataFrame | None = None
) -> DataFrame:
    """Count the customers with fewer than k rows by reason: columns `reason`, `customers`.

    The only right reasons are that fewer than k sellable products were left to the customer, either because the
    catalogue is that small or because the rest was bought before, and that a deadline came first or the model failed
    (`late` has the `user_id` of such customers and `because`); anything else is `unexplained`: the night fails on it.
    """
    sellable = items.where("available").select("item_id")
    left = (
        prompts.select("user_id", F.explode_outer("excluded").alias("item_id"))
        .join(sellable.withColumn("is_sellable", F.lit(1)), on="item_id", how="left")
        .groupBy("user_id")
        .agg(F.coalesce(F.sum("is_sellable"), F.lit(0)).alias("bought_sellable"))
        .crossJoin(sellable.agg(F.count("*").alias("sellable")))
    )
    rows = published.groupBy("user_id").agg(F.count("*").alias("rows"))
    short = (
        left.join(rows, on="user_id", how="left")
        .fillna(0, subset=["rows"])
        .where(F.col("rows") < k)
        .withColumn("expected", F.least(F.lit(k), F.col("sellable") - F.col("bought_sellable")))
    )
    because = F.lit(None)
    if late is not None:
        short = short.join(late.select("user_id", "because"), on="user_id", how="left")
        because = F.col("because")
    reason = (
        F.when(because.isNotNull(), because)
        .when(F.col("rows") != F.col("expected"), "unexplained")
        .when(F.col("sellable") < k, "catalogue_smaller_than_k")
        .otherwise("fewer_than_k_not_bought_before")
    )
    return short.groupBy(reason.alias("reason")).agg(F.count("*").alias("customers"))


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
