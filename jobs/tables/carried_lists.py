"""Carries lists of an earlier date over to customers whom the model did not reach before the deadline.

Items that are sold out or that the customer has bought since are dropped, and the ranks are closed up.
`why_scored` becomes `carried`; prompt, model, catalogue and scoring date stay those of the original list.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.store.store import Store
from jobs.tables.list_changes import earlier_lists

CARRIED = "carried"


def with_carried(
    spark: SparkSession, store: Store, run_date: date, lists: DataFrame, late: DataFrame, items: DataFrame, k: int
) -> DataFrame:
    """Add to tonight's `lists` those of the newest published date before `run_date`, for the customers of `late`.

    `late` has `user_id` and `excluded` (item ids not to list), `items` the catalogue; a list has at most `k` rows.
    Customers without an earlier list get none. With rules, `late` has `rules` and `items` has `never`: products that a
    rule never lists are dropped too. Other rules held when the list was made and are not checked again.
    """
    before = earlier_lists(spark, store, run_date)
    if before is None:
        return lists
    carried = _carried_rows(late, before, items, k)
    known = [name for name in lists.columns if name in carried.columns]  # dates of earlier releases have fewer columns
    return lists.unionByName(carried.select(*known), allowMissingColumns=True)


def _carried_rows(late: DataFrame, before: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """Return the rows of `before` that `late` customers can still be shown, in the columns of `before`."""
    has_rules = "rules" in late.columns
    title = F.col("title").alias("title_today")
    sellable = items.where("available").select("item_id", title, *(["never"] if has_rules else []))
    is_bought = F.array_contains("excluded", F.col("item_id"))
    kept = (
        before.join(late.select("user_id", "excluded", *(["rules"] if has_rules else [])), on="user_id", how="inner")
        .join(sellable, on="item_id", how="inner")
        .where(~F.coalesce(is_bought, F.lit(False)))
    )
    if has_rules:
        numbers = F.from_json("rules", "rules array<int>")["rules"]
        is_denied = F.exists(numbers, lambda n: F.col("never")[n])
        kept = kept.where(~F.coalesce(is_denied, F.lit(False)))
    by_rank = Window.partitionBy("user_id").orderBy("rank")
    ranked = kept.withColumn("rank_today", F.row_number().over(by_rank)).where(F.col("rank_today") <= k)
    return (
        ranked.drop("rank", "title")
        .withColumnsRenamed({"rank_today": "rank", "title_today": "title"})
        .withColumn("why_scored", F.lit(CARRIED))
    )
