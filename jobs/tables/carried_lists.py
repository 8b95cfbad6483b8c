"""Lists of an earlier date for customers whom the model did not reach before the deadline.

Nothing that sold out or that the customer bought since is listed, ranks have no gaps, and `why_scored` says `carried`;
prompt, model, catalogue and date stay those under which the list was really scored.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.spark import files
from jobs.store.store import Store, published_dates
from schemas import contract

CARRIED = "carried"


def with_carried(
    spark: SparkSession, store: Store, run_date: date, lists: DataFrame, late: DataFrame, items: DataFrame, k: int
) -> DataFrame:
    """Add to tonight's `lists` those of the newest published date before `run_date`, for the customers of `late`.

    `late` has `user_id` and `excluded`. Customers without an earlier list get none.
    """
    dates = [day for day in published_dates(spark, store, "recommendations") if day < run_date]
    if not dates:
        return lists
    before = spark.read.parquet(files.for_reading(store.date_folder("recommendations", dates[-1])))
    return lists.unionByName(carried(late, before, items, k))


def carried(late: DataFrame, before: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """The rows of `before` that are still right for the customers of `late`, in the `recommendations` contract."""
    sellable = items.where("available").select("item_id", F.col("title").alias("title_today"))
    is_bought = F.array_contains("excluded", F.col("item_id"))
    kept = (
        before.join(late.select("user_id", "excluded"), on="user_id", how="inner")
        .join(sellable, on="item_id", how="inner")
        .where(~F.coalesce(is_bought, F.lit(False)))
    )
    in_order = Window.partitionBy("user_id").orderBy("rank")
    ranked = kept.withColumn("rank_today", F.row_number().over(in_order)).where(F.col("rank_today") <= k)
    return (
        ranked.drop("rank", "title")
        .withColumnsRenamed({"rank_today": "rank", "title_today": "title"})
        .withColumn("why_scored", F.lit(CARRIED))
        .select(*contract("recommendations").column_names)
    )
