"""Compares opt-outs and catalogue with those of the night that kept its rows, and keeps tonight's catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs import optouts
from jobs.inputs.known_rows import KnownInputs, Segments
from jobs.inputs.row_accounting import ReadTable
from jobs.sources.file_versions import StartFromNothing
from jobs.spark import files

#: The products of a night, in the folder of its rows.
CATALOGUE = "catalogue"


def keep_catalogue(items: ReadTable, folder: str) -> None:
    """Write the products of the night, which the next night compares with its own."""
    kept = items.used.select("item_id", "title", "available")
    kept.write.mode("overwrite").parquet(files.uri(f"{folder}/{CATALOGUE}"))


def catalogue_of(spark: SparkSession, folder: str) -> DataFrame:
    """Return `item_id`, `title` and `available` of the products of the night that kept its rows in the folder."""
    schema = "item_id string, title string, available boolean"
    return spark.read.schema(schema).parquet(files.for_reading(f"{folder}/{CATALOGUE}"))


def opted_out_since(
    known: KnownInputs, read: ReadTable | None, pseudonym: Callable[[Column], Column] | None
) -> KnownInputs:
    """Add the customers who opted out since. Raises StartFromNothing where one opted in again.

    Also where another customer's row was left out as a duplicate: it may be one of theirs, and it is not kept.
    """
    if read is None:
        return known
    path = files.for_reading(f"{known.newest}/{optouts.TABLE}")
    before = read.written.sparkSession.read.schema(read.written.schema).parquet(path).select("user_id")
    now = read.used.select("user_id")
    if before.join(now, on="user_id", how="left_anti").head() is not None:
        raise StartFromNothing("inputs.optouts: a customer is no longer in it")
    new = now.join(before, on="user_id", how="left_anti").distinct()
    if new.head() is None:
        return known
    for table, notes in known.notes.items():
        if notes.of_others:
            raise StartFromNothing(
                f"inputs.optouts has a new customer, and inputs.{table} one key in two customers' rows"
            )
    user_id = F.col("user_id") if pseudonym is None else pseudonym(F.col("user_id"))
    return replace(known, opted_out=new.select(user_id.alias("user_id"), F.xxhash64("user_id").alias("id_hash")))


def refuse_lost_products(spark: SparkSession, known: KnownInputs, items: ReadTable) -> None:
    """Raise StartFromNothing where a kept row names a product that is no longer in the catalogue."""
    lost = catalogue_of(spark, known.newest).join(items.used.select("item_id"), on="item_id", how="left_anti")
    lost = lost.select("item_id")
    if lost.head() is None:
        return
    for table in known.notes:
        if any(relation.table == "items" for relation in schemas.contract(table).relations):
            rows = Segments(spark, table, known.folders, known.changed.get(table, 0)).valid()
            if rows.join(F.broadcast(lost), on="item_id", how="left_semi").head() is not None:
                raise StartFromNothing("inputs.items: a product that customers have rows of is no longer in it")
