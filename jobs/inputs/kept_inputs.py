"""Compares opt-outs and catalogue with those of the night that kept its rows, and keeps those of tonight.

Of the customers who opted out, only keyed hashes are kept: a list of them is personal data too.
"""

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


def keep_optouts(read: ReadTable, folder: str, keyed_hashes: Callable[[Column], Column]) -> None:
    """Write the keyed hash of each customer who opted out, which the next night compares with its own."""
    kept = read.used.select(keyed_hashes(F.col("user_id")).alias("id_hash"))
    kept.write.mode("overwrite").parquet(files.uri(f"{folder}/{optouts.TABLE}"))


def catalogue_of(spark: SparkSession, folder: str) -> DataFrame:
    """Return `item_id`, `title` and `available` of the products of the night that kept its rows in the folder."""
    schema = "item_id string, title string, available boolean"
    return spark.read.schema(schema).parquet(files.for_reading(f"{folder}/{CATALOGUE}"))


def opted_out_since(
    known: KnownInputs, read: ReadTable | None, keyed_hashes: Callable[[Column], Column], *, has_pseudonyms: bool
) -> KnownInputs:
    """Add the customers who opted out, and those of them since. Raises StartFromNothing where one opted in again.

    `keyed_hashes` hashes the ids of a column. With `has_pseudonyms` these hashes are the ids of kept rows. Raises
    StartFromNothing also where another customer's row was left out as a duplicate: it may be one of theirs, and it is
    not kept.
    """
    if read is None:
        return known
    spark, user_id = read.used.sparkSession, F.col("user_id")
    before = spark.read.schema("id_hash string").parquet(files.for_reading(f"{known.newest}/{optouts.TABLE}"))
    hashed = read.used.select(user_id, keyed_hashes(user_id).alias("id_hash"))
    hashed.write.mode("overwrite").parquet(files.uri(f"{known.work}/optouts_hashed"))
    now = spark.read.schema(hashed.schema).parquet(files.for_reading(f"{known.work}/optouts_hashed"))
    if before.join(now, on="id_hash", how="left_anti").head() is not None:
        raise StartFromNothing("inputs.optouts: a customer is no longer in it")
    kept_id, id_number = F.col("id_hash") if has_pseudonyms else user_id, optouts.id_number("user_id")
    known = replace(known, all_opted_out=now.select(kept_id.alias("user_id")))
    new = now.join(before, on="id_hash", how="left_anti").distinct()
    if new.head() is None:
        return known
    for table, notes in known.notes.items():
        if notes.of_others:
            raise StartFromNothing(
                f"inputs.optouts has a new customer, and inputs.{table} one key in two customers' rows"
            )
    return replace(known, opted_out=new.select(kept_id.alias("user_id"), id_number.alias("id_number")))


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
