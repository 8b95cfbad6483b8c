"""Who is in the control group: decided by a keyed hash of the customer's id and by nothing else.

The same id has the same group on every date, in every backfill and re-run and on every cluster, because SHA-256 is
the same everywhere. A larger share only adds customers to the control group: no one of it ever leaves it.
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

#: Hexadecimal digits of the hash that are used: 52 bits, which a double holds exactly.
_DIGITS = 13


def group_of(user_id: Column, settings: LoyaltySettings) -> Column:
    """`treated` or `control` of a customer; pure Spark SQL, so it runs where the rows are."""
    # The separator cannot occur in an id (inputs strip control characters): no key and id run into another pair.
    digest = F.sha2(F.concat(F.lit(settings.key), F.lit("\x1f"), user_id), 256)
    position = F.conv(F.substring(digest, 1, _DIGITS), 16, 10).cast("double") / float(16**_DIGITS)
    return F.when(position < settings.control_share, CONTROL).otherwise(TREATED)


def withholds(settings: LoyaltySettings, run_date: date) -> bool:
    """Whether the control group's lists of this date stay unpublished."""
    return settings.control_share > 0 and settings.starts_on is not None and run_date >= settings.starts_on


def published_lists(lists: DataFrame, settings: LoyaltySettings, run_date: date) -> DataFrame:
    """Drop the lists of the control group, which were computed like all others, from what is published."""
    if not withholds(settings, run_date):
        return lists
    return lists.where(group_of(F.col("user_id"), settings) == TREATED)


def switched(before: DataFrame, settings: LoyaltySettings) -> int:
    """Count the customers of an earlier `loyalty` table whom these settings would put into another group."""
    return before.where(F.col("group") != group_of(F.col("user_id"), settings)).count()


def refuse_group_changes(spark: SparkSession, store: Store, settings: LoyaltySettings) -> None:
    """ConfigurationError if the newest table since the start has a customer in another group than these settings."""
    if settings.starts_on is None:
        return
    dates = [day for day in published_dates(spark, store, "loyalty") if day >= settings.starts_on]
    if not dates:
        return
    moved = switched(spark.read.parquet(files.for_reading(store.date_folder("loyalty", dates[-1]))), settings)
    if moved:
        raise ConfigurationError(
            f"loyalty.key or loyalty.control_share was changed: {moved:,} customers of {dates[-1]} would switch group "
            f"while the experiment of {settings.starts_on} runs. Put the old values back; or begin a new experiment: "
            "set loyalty.starts_on to a date after the newest published one; or end it: remove loyalty.starts_on and "
            "loyalty.control_share"
        )
