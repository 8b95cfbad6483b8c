"""Titles that are the same to a customer: they differ in case, spacing, punctuation or the width of characters.

Runs inside the night: `regulars nightly --run-date D`. `lm.recommend.same_titles` keeps lists to one product of each.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lm.recommend.plain_titles import COMMON_PRODUCTS, COMMON_SHARE, MISSING_TITLES

#: Full-width forms of ASCII, as Chinese and Japanese catalogues write them.
_WIDE = "".join(chr(code) for code in range(0xFF01, 0xFF5F))
_NARROW = "".join(chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F))
#: Scripts that put no spaces between words.
_UNSPACED = r"\p{IsHan}\p{IsHiragana}\p{IsKatakana}"


def with_title_keys(items: DataFrame) -> DataFrame:
    """Add `title_key` to products: equal for equal titles, and the product's own where the title names no product.

    That is a title without letters and digits, one that stands for a missing title, and one that most products share.
    """
    keyed = items.withColumn("title_key", _plain(F.col("title")))
    by_key = keyed.groupBy("title_key").agg(F.count("*").alias("products"))
    most, total = F.max("products").alias("most"), F.sum("products").alias("total")
    common = by_key.agg(F.max_by("title_key", "products").alias("common"), most, total).where(
        (F.col("most") > COMMON_SHARE * F.col("total")) & (F.col("most") >= COMMON_PRODUCTS)
    )
    joined = keyed.join(F.broadcast(common.select("common")), on=F.col("title_key") == F.col("common"), how="left")
    names_none = F.col("title_key").isin(sorted(MISSING_TITLES)) | F.col("common").isNotNull()
    own = F.concat(F.lit("item_id "), F.col("item_id"))
    key = F.when(names_none, own).otherwise(F.concat(F.lit("title "), F.col("title_key")))
    return joined.withColumn("title_key", key).drop("common")


def one_of_each_title(candidates: DataFrame, k: int) -> DataFrame:
    """Drop the products of a list (`user_id`, `position`, `title_key`) whose title is above them, while k remain.

    The engine lists none. A list of the ledger may hold some whose titles have become the same since.
    """
    above = Window.partitionBy("user_id", "title_key").orderBy("position").rowsBetween(Window.unboundedPreceding, -1)
    repeated = candidates.withColumn("repeated", F.count("*").over(above) > 0)
    place = F.row_number().over(Window.partitionBy("user_id").orderBy("repeated", "position"))
    return (
        repeated.withColumn("place", place).where(~F.col("repeated") | (F.col("place") <= k)).drop("repeated", "place")
    )


def _plain(title: Column) -> Column:
    """A title in one case and width, with single spaces for punctuation."""
    narrow = F.lower(F.translate(title, _WIDE, _NARROW))
    spaced = F.regexp_replace(narrow, r"[\p{P}\p{Z}\p{C}\s]+", " ")
    return F.trim(F.regexp_replace(spaced, f"(?<=[{_UNSPACED}]) | (?=[{_UNSPACED}])", ""))
