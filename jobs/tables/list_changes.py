"""Says of each row of a list where the product stood in the customer's earlier list.

The earlier list is that of the newest published date before run_date. For mailings that show only what is new, and for
the report of the night.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.inputs.known_rows import of_customers
from jobs.spark import files
from jobs.store.store import Store, published_dates

#: Values of `changed`; it is null for a customer without an earlier list.
ENTERED, MOVED, KEPT = "entered", "moved", "kept"
#: The kind of a list whose products all kept their ranks.
UNCHANGED = "unchanged"
#: The columns that this module adds to a list.
COLUMNS = ("previous_rank", "changed")


def with_changes(
    spark: SparkSession, store: Store, run_date: date, lists: DataFrame, of: tuple[DataFrame, int] | None = None
) -> DataFrame:
    """Add `previous_rank` and `changed` to `lists` (`user_id`, `rank`, `item_id`).

    `of` are the customers (`user_id`) of these lists and their number, where they are known to be few.
    """
    before = earlier_lists(spark, store, run_date)
    if before is not None and of is not None:
        before = of_customers(before, *of)
    return compare_lists(lists, before)


def earlier_lists(spark: SparkSession, store: Store, run_date: date) -> DataFrame | None:
    """Return the lists of the newest published date before `run_date`; None where there is none."""
    dates = [day for day in published_dates(spark, store, "recommendations") if day < run_date]
    return spark.read.parquet(files.for_reading(store.date_folder("recommendations", dates[-1]))) if dates else None


def compare_lists(lists: DataFrame, before: DataFrame | None) -> DataFrame:
    """Add `previous_rank` and `changed` to `lists`, compared with the lists `before`.

    A product has the rank null where it was not in the customer's earlier list.
    """
    if before is None:
        return lists.withColumns({"previous_rank": F.lit(None).cast("int"), "changed": F.lit(None).cast("string")})
    ranks = F.map_from_entries(F.collect_list(F.struct("item_id", "rank")))
    earlier = before.groupBy("user_id").agg(ranks.alias("__ranks"))
    rank = F.col("__ranks")[F.col("item_id")]
    changed = (
        F.when(F.col("__ranks").isNull(), F.lit(None))
        .when(F.col("previous_rank").isNull(), ENTERED)
        .when(F.col("previous_rank") == F.col("rank"), KEPT)
        .otherwise(MOVED)
    )
    joined = lists.join(earlier, on="user_id", how="left")
    return joined.withColumn("previous_rank", rank).withColumn("changed", changed).drop("__ranks")


def list_kind() -> Column:
    """Aggregate the rows of one list: `first` without an earlier list, else `changed` or `unchanged`."""
    is_changed = F.max(F.when(F.col("changed") != KEPT, 1).otherwise(0)) == 1
    return F.when(F.max("changed").isNull(), "first").when(is_changed, "changed").otherwise(UNCHANGED)
