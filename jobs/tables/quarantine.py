"""Selects the rejected input rows of `quarantine` that are new on the date, and replaces ids by keyed hashes.

Every night rejects all bad rows of the sources again. Each row is published once, on the first date that rejects it.
Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

import schemas
from jobs.spark import files
from jobs.spark.contracts import enforce, struct_type
from jobs.spark.privacy_key import DIGITS, keyed_hashes
from jobs.store.store import Store, published_dates

#: What identifies a rejected row. Its file does not: exports give their files new names every night.
_ROW = ("table", "rule", "key_hash")


def hashed(rejected: DataFrame, key: bytes, *, has_pseudonyms: bool = False) -> DataFrame:
    """Return rows of `quarantine_rows` in the `quarantine` contract: keyed hashes replace plain ones and ids.

    With `has_pseudonyms` the ids are keyed hashes already.
    """
    of = keyed_hashes(key)
    user_hash = F.col("user_id") if has_pseudonyms else of(F.col("user_id"))
    rows = rejected.withColumns({"key_hash": of(F.col("key_hash")), "user_hash": user_hash})
    return enforce(rows, schemas.contract("quarantine"))


def new_rejections(spark: SparkSession, store: Store, run_date: date, rejected: DataFrame, key: bytes) -> DataFrame:
    """Keep the `hashed` rows of `rejected` that no published date before `run_date` has.

    Later dates are ignored, so a backfilled date does not depend on the nights after it.
    """
    contract = schemas.contract("quarantine")
    dates = [day for day in published_dates(spark, store, "quarantine") if day < run_date]
    if not dates:
        return enforce(rejected, contract)
    paths = [files.for_reading(store.date_folder("quarantine", day)) for day in dates]
    published = spark.read.schema(struct_type(contract)).parquet(*paths)
    is_plain = F.length("key_hash") > DIGITS  # of an earlier release
    comparable = F.when(is_plain, keyed_hashes(key)(F.col("key_hash"))).otherwise(F.col("key_hash"))
    return not_published(rejected, published.withColumn("key_hash", comparable))


def not_published(rejected: DataFrame, published: DataFrame) -> DataFrame:
    """Keep the rows of `rejected` beyond those of `published`: of equal rows, as many as are more than before."""
    known = published.groupBy(*_ROW).agg(F.count(F.lit(1)).alias("__published"))
    copies = Window.partitionBy(*_ROW).orderBy("source_file", "detail")
    frame = copies.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    numbered = rejected.withColumn("__number", F.row_number().over(frame))
    is_new = F.col("__number") > F.coalesce("__published", F.lit(0))
    return enforce(numbered.join(known, on=list(_ROW), how="left").where(is_new), schemas.contract("quarantine"))
