"""Finds products that left the catalogue: their purchases and reviews are history, but no list may contain them.

Their titles come from the last earlier snapshot of the items that had them, or from the purchases. Products that the
condition `inputs.items.where` leaves out are treated alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import TITLE, InputSettings
from jobs.config.run_date import dates_in, fill_path, glob_of_dates, has_run_date
from jobs.inputs.column_mapping import input_columns, map_columns
from jobs.inputs.validation import RULE, validate_rows
from jobs.sources.sources import SOURCE_FILE, open_source
from jobs.spark import files


def earlier_snapshots(spark: SparkSession, source: InputSettings, run_date: date) -> list[str]:
    """Return the paths of the source's snapshots before `run_date`, oldest first; none without {run_date} in a path.

    A snapshot of a month or another span counts from its first day. Formats whose order is not that of the dates, such
    as %d.%m.%Y, give none: the last snapshot of a product could not be found.
    """
    jvm: Any = spark._jvm
    matches = jvm.org.apache.hadoop.fs.GlobPattern
    found: set[tuple[date, str]] = set()
    for template in source.paths:
        if not has_run_date(template):
            continue
        for path in files.glob(spark, glob_of_dates(template)):
            for day in dates_in(path, template):
                snapshot = fill_path(template, day)
                is_earlier = day < run_date and snapshot != fill_path(template, run_date)
                if is_earlier and matches(f"*{_without_scheme(snapshot).rstrip('/')}").matches(path):
                    found.add((day, snapshot))
    snapshots = [snapshot for _, snapshot in sorted(found)]
    return snapshots if snapshots == sorted(snapshots) or len(source.paths) > 1 else []


def items_of_snapshots(spark: SparkSession, source: InputSettings, snapshots: list[str]) -> DataFrame:
    """Return each product of the earlier snapshots as its last one had it: the columns of `items`, not available.

    Raises the errors of `open_source` and `map_columns`.
    """
    earlier = source.model_copy(update={"path": snapshots, "where": None})
    raw = map_columns(open_source(spark, "items", earlier).rows, "items", earlier)
    rows = validate_rows(raw, "items", input_columns("items")).where(F.col(RULE).isNull())
    snapshot_date = F.regexp_extract(SOURCE_FILE, r".*(\d{4}-\d{2}-\d{2})", 1)
    last = F.max_by(F.struct("title", "category", "brand", "price"), F.struct(snapshot_date, SOURCE_FILE)).alias("last")
    products = rows.groupBy("item_id").agg(last).select("item_id", "last.*")
    return _unavailable(products)


def items_left_out(spark: SparkSession, source: InputSettings, excluded_files: Sequence[str]) -> DataFrame:
    """Return each valid product of the source that `where` may leave out: the columns of `items`, not available.

    Of several rows of a product, that with the first title counts. Raises the errors of `open_source`.
    """
    whole = source.model_copy(update={"where": None})
    raw = map_columns(open_source(spark, "items", whole, excluded_files).rows, "items", whole)
    rows = validate_rows(raw, "items", input_columns("items")).where(F.col(RULE).isNull())
    first = F.min(F.struct("title", "category", "brand", "price")).alias("first")
    return _unavailable(rows.groupBy("item_id").agg(first).select("item_id", "first.*"))


def items_of_purchases(purchases: DataFrame) -> DataFrame:
    """Return each product that some purchase names by a title: the columns of `items`, not available."""
    return _unavailable(most_frequent_titles(purchases).where(F.col("title").isNotNull()))


def most_frequent_titles(purchases: DataFrame) -> DataFrame:
    """Return `item_id` and its most frequent `title` among the purchases, ties by text; null if none has a title."""
    title = F.btrim(F.col(TITLE))
    counted = (
        purchases.select("item_id", F.when(title != "", title).alias("title"))
        .groupBy("item_id", "title")
        .agg(F.count(F.lit(1)).alias("rows"))
    )
    # min_by ignores rows whose order is null: rows without a title.
    order = F.when(F.col("title").isNotNull(), F.struct(-F.col("rows"), "title"))
    return counted.groupBy("item_id").agg(F.min_by("title", order).alias("title"))


def _unavailable(products: DataFrame) -> DataFrame:
    """Select the columns of `items`; those that `products` lacks are null, none can be sold."""
    values = {name: F.col(name) for name in products.columns} | {"available": F.lit(False)}
    columns = schemas.contract("items").columns
    return products.select(*(values.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in columns))


def _without_scheme(path: str) -> str:
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?", "", path)
