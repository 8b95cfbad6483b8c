"""Writes the customers of a large shop whom the training of the recommender does not hold in memory, as Parquet.

Part of `regulars train --task recommend`: `lm.recommend_training.further_customers` reads the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.spark import executor_files, files
from jobs.training import training_data
from lm.checkpoint.manifest import BROWSED_EVENTS
from lm.text.template import BROWSING

if TYPE_CHECKING:
    from lm.recommend_training.further_customers import FurtherCustomers

#: Customers of one file of purchases.
_ROWS_PER_FILE = 1_000_000


class WrittenCustomers(NamedTuple):
    """Customers in files, and the counts and dates of the events of those whom GPT-2 learns from."""

    customers: FurtherCustomers
    window: dict[str, Any]


def write_further_customers(used: Mapping[str, DataFrame], most: int, folder: str) -> WrittenCustomers | None:
    """Write what the training reads of customers beyond `training_data.CUSTOMERS_AT_ONCE`; None where there are none.

    `folder` does not exist yet. Histories are of the customers among the first `most` in the order of a hash, in
    parts of about equal size; purchases are of all further customers, the newest of each.
    """
    from lm.recommend_training.further_customers import FurtherCustomers

    at_once = training_data.CUSTOMERS_AT_ONCE
    buyers = used["purchases"].select("user_id").distinct()
    everyone = buyers.count()
    if everyone <= min(most, at_once):
        return None
    spark = buyers.sparkSession
    in_memory = training_data.sample_by_hash(buyers, "user_id", min(most, at_once))
    purchases = used["purchases"].join(in_memory, on="user_id", how="left_anti")
    written = f"{folder}/purchases"
    _newest_purchases(purchases).coalesce(-(-everyone // _ROWS_PER_FILE)).write.parquet(files.uri(written))
    row = F.xxhash64("user_id", "items", "days").cast("decimal(20,0)")
    totals = spark.read.parquet(files.uri(written)).agg(F.count("*").alias("customers"), F.sum(row).alias("hashes"))
    counted = totals.first()
    assert counted is not None, "an aggregate without groups has one row"
    parts, window = -(-min(everyone, most) // at_once), {}
    histories = f"{folder}/histories"
    if parts > 1:
        chosen = training_data.sample_by_hash(buyers, "user_id", most).join(in_memory, on="user_id", how="left_anti")
        part = F.pmod(F.xxhash64("user_id", F.lit("part")), F.lit(parts - 1)).cast("int") + 1
        rows = training_data.histories_with_days(used, chosen, at_once).withColumn("part", part)
        rows.repartition(parts - 1, "part").sortWithinPartitions("part", "user_id").write.parquet(files.uri(histories))
        window = _window(spark.read.parquet(files.uri(histories)))
    customers = FurtherCustomers(
        _local(buyers, written),
        _local(buyers, histories) if parts > 1 else None,
        parts,
        counted["customers"],
        f"{int(counted['hashes']) % 2**64:016x}",
    )
    return WrittenCustomers(customers, window)


def joined_window(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The counts and dates of two groups of customers together."""
    joined = dict(first)
    for name, value in second.items():
        if name == "first_event_on":
            joined[name] = min(value, joined[name])
        elif name == "last_event_on":
            joined[name] = max(value, joined[name])
        else:
            joined[name] += value
    return joined


def _newest_purchases(purchases: DataFrame) -> DataFrame:
    """Return `user_id`, `items` and `days` of each customer's newest purchases, oldest first."""
    newest = f"max_by(struct(purchased_at, item_id), struct(purchased_at, item_id), {training_data.PURCHASES_COUNTED})"
    rows = purchases.groupBy("user_id").agg(F.expr(f"reverse({newest})").alias("bought"))
    days = F.transform("bought", lambda one: F.unix_date(one["purchased_at"].cast("date")))
    return rows.select("user_id", F.col("bought.item_id").alias("items"), days.alias("days"))


def _window(rows: DataFrame) -> dict[str, Any]:
    browsed = F.filter("events", lambda event: event["kind"].isin(list(BROWSING)))
    found = rows.agg(
        F.count("*").alias("customers"),
        F.sum(F.size("events")).alias("events"),
        F.sum(F.size(browsed)).alias(BROWSED_EVENTS),
        F.min("first_on").alias("first_event_on"),
        F.max("last_on").alias("last_event_on"),
    ).first()
    assert found is not None, "an aggregate without groups has one row"
    values = found.asDict().items()
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values}


def _local(frame: DataFrame, folder: str) -> Path:
    """The folder on the driver, copied there from a cluster's file system."""
    return files.local(folder) or executor_files.fetch_folder(frame.sparkSession, folder)
