"""Completes the catalogue: products that purchases name, and products that can no longer be sold.

Each function writes what it adds to a folder of the run. Part of `jobs/inputs/reader.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.input_settings import InputSettings
from jobs.inputs.delisted import earlier_snapshots, items_left_out, items_of_snapshots, most_frequent_titles
from jobs.inputs.row_accounting import ReadTable, RowAccount
from jobs.inputs.validation import RULE
from jobs.sources.source_errors import translating_errors
from jobs.spark import files
from jobs.spark.errors import InputError


def derive_items(spark: SparkSession, purchases: DataFrame, path: str) -> ReadTable:
    """Derive the catalogue from the purchases: each item's most frequent title; without one its id."""
    items = most_frequent_titles(purchases).select(
        "item_id",
        F.coalesce("title", "item_id").alias("title"),
        F.lit(None).cast("string").alias("category"),
        F.lit(None).cast("string").alias("brand"),
        F.lit(None).cast("decimal(12,2)").alias("price"),
        F.lit(True).alias("available"),
        F.lit(None).cast("string").alias(RULE),
    )
    items.write.mode("overwrite").parquet(files.uri(path))
    written = spark.read.schema(items.schema).parquet(files.for_reading(path))
    n = written.count()
    return ReadTable(written, RowAccount(read=n, used=n), {})


def with_left_out(spark: SparkSession, source: InputSettings, items: ReadTable, path: str) -> ReadTable:
    """Add the products that `where` leaves out: they cannot be sold, and their purchases are history."""
    if source.where is None:
        return items
    with translating_errors("items", source, "inputs.items", scan=True):
        return with_delisted(spark, items, items_left_out(spark, source, items.excluded_files), path)


def with_earlier_snapshots(
    spark: SparkSession, source: InputSettings, run_date: date, items: ReadTable, path: str
) -> ReadTable:
    """Add the products that earlier snapshots of the items had, if the source is kept as one snapshot per date."""
    snapshots = earlier_snapshots(spark, source, run_date)
    if not snapshots:
        return items
    try:
        with translating_errors("items", source, "inputs.items", scan=True):
            return with_delisted(spark, items, items_of_snapshots(spark, source, snapshots), path)
    except InputError as error:
        note = f"the earlier snapshots cannot be read, so delisted products of them are quarantined: {error}"
        return replace(items, notes=[*items.notes, note])


def with_delisted(spark: SparkSession, items: ReadTable, delisted: DataFrame, path: str) -> ReadTable:
    """Add the `delisted` products that `items` lacks. They are no rows of the source, so its account stays."""
    new = delisted.join(items.used.select("item_id"), on="item_id", how="left_anti")
    new.write.mode("overwrite").parquet(files.uri(path))
    written = spark.read.schema(new.schema).parquet(files.for_reading(path))
    return replace(items, written=items.written.unionByName(written, allowMissingColumns=True))
