"""Assigns customers to the treated or the control group by a keyed hash (SHA-256) of the customer's id.

A customer keeps the group on every date, in every re-run and on every cluster.
A larger control share only adds customers to the control group.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.settings import LoyaltySettings
from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.store.store import Store, published_dates

TREATED, CONTROL = "treated", "control"

#: Hexadecimal digits of the hash that decide: 52 bits, which a double holds exactly.
_HASH_DIGITS = 13


def group_of(user_id: Column, settings: LoyaltySettings) -> Column:
    """Return a column with `treated` or `control`, computed by Spark SQL alone."""
    # Ids cannot contain the separator (inputs strip control characters), so every pair of key and id is distinct.
    digest = F.sha2(F.concat(F.lit(settings.key), F.lit("\x1f"), user_id), 256)
    position = F.conv(F.substring(digest, 1, _HASH_DIGITS), 16, 10).cast("double") / float(16**_HASH_DIGITS)
    return F.when(position < settings.control_share, CONTROL).otherwise(TREATED)


def withholds(settings: LoyaltySettings, run_date: date) -> bool:
    """Return whether the control group's lists of this date stay unpublished."""
    return settings.control_share > 0 and settings.starts_on is not None and run_date >= settings.starts_on


def published_lists(lists: DataFrame, settings: LoyaltySettings, run_date: date) -> DataFrame:
    """Drop the control group's rows from the computed `lists` if this date withholds them."""
    if not withholds(settings, run_date):
        return lists
    return lists.where(group_of(F.col("user_id"), settings) == TREATED)


def count_group_changes(before: DataFrame, settings: LoyaltySettings) -> int:
    """Count the customers of an earlier `loyalty` table whose group differs under `settings`."""
    return before.where(F.col("group") != group_of(F.col("user_id"), settings)).count()


def refuse_group_changes(spark: SparkSession, store: Store, settings: LoyaltySettings) -> None:
    """Raise ConfigurationError if `settings` change the group of a customer in the newest table since the start."""
    if settings.starts_on is None:
        return
    dates = [day for day in published_dates(spark, store, "loyalty") if day >= settings.starts_on]
    if not dates:
        return
    newest = spark.read.parquet(files.for_reading(store.date_folder("loyalty", dates[-1])))
    changed = count_group_changes(newest, settings)
    if changed:
        raise ConfigurationError(
            f"loyalty.key or loyalty.control_share was changed: {changed:,} customers of {dates[-1]} would switch "
            f"group while the experiment of {settings.starts_on} runs. Put the old values back; or begin a new "
            "experiment: set loyalty.starts_on to a date after the newest published one; or end it: remove "
            "loyalty.starts_on and loyalty.control_share"
        )
