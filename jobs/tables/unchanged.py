"""The customers whom nothing concerns since the date before: their prompts and lists are copied.

A night keeps one row of each customer whom it gave a list, the part `answered` of its segment. It says on what the
list depends besides the customer's own events: the products that the model named, when it was asked, and the searches
that a sentence of the list may name. Part of the task `recommend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs.kept_inputs import catalogue_of
from jobs.inputs.known_rows import MOST_BROADCAST, latest_segments, newest_segment, of_customers, read_segments
from jobs.scoring import ledger
from jobs.spark import files, parquet
from jobs.store.store import Store
from jobs.tables.earlier import Earlier
from jobs.tables.list_changes import KEPT
from jobs.tables.reasons import FREQUENT, frequent_searches, heaviest_search, plain
from jobs.tables.same_titles import with_title_keys

ANSWERED, SEARCHES = "answered", "frequent_searches"
#: Part of a segment: the searches that enough customers wrote.
_SEARCH_SCHEMA = f"_plain string, {FREQUENT} boolean"


@dataclass(frozen=True)
class Unchanged:
    """Rows to copy: `prompts` and `lists` of the customers who are not `concerned` (`user_id`)."""

    prompts: DataFrame
    lists: DataFrame
    concerned: DataFrame
    #: The numbers of customers with copied rows and of concerned ones.
    customers: int
    concerned_customers: int


@dataclass(frozen=True)
class ListTerms:
    """What decides whether a known list is still good on the run date."""

    store: Store
    run_date: date
    k: int
    max_age_days: int
    catalogue_version: str
    #: Whether a list shows one product of each title.
    same_title: bool


def find_unchanged(
    spark: SparkSession,
    earlier: Earlier,
    terms: ListTerms,
    used: Mapping[str, DataFrame],
    frequent: DataFrame | None,
    *,
    all_customers: bool,
) -> Unchanged:
    """Find the customers whom something concerns, write them to tonight's segment, and return what is copied.

    `used` are the input tables as of the run date, `frequent` the result of `keep_frequent_searches`. `all_customers`
    says that rows of customers get lists without events.
    """
    both = _compared(catalogue_of(spark, earlier.folders[-1]), used["items"], same_title=terms.same_title)
    renamed = both.where("is_renamed").select("item_id")
    switched = both.where("is_switched").select("item_id")
    answered = answered_as_of(spark, earlier)
    parts = [*earlier.changed.values(), answered.where(~F.col("is_whole")), answered.where(_is_too_old(terms))]
    if renamed.head() is not None:
        named = (rows for rows in used.values() if {"user_id", "item_id"} <= set(rows.columns))
        parts += [rows.join(F.broadcast(renamed), on="item_id", how="left_semi") for rows in named]
        parts.append(
            _any_in(answered, "candidates", renamed.withColumnRenamed("item_id", "one"))
        )  # see heaviest_search
    if switched.head() is not None:
        parts.append(_any_in(answered, "candidates", switched.withColumnRenamed("item_id", "one")))
    if frequent is not None:
        known = _frequent_before(spark, earlier)
        new = frequent.join(known, on="_plain", how="left_anti").unionByName(
            known.join(frequent, on="_plain", how="left_anti")
        )
        parts.append(_any_in(answered, "searches", new.select(F.col("_plain").alias("one"))))
    if (newer := _newer_answers(spark, earlier, terms)) is not None:
        rows = answered.join(newer, on="key", how="inner")
        parts.append(rows.where(F.col("answered_on") >= F.col("scored_on")))
    if all_customers and "customers" in used:
        ids = used["customers"].select("user_id")
        parts.append(ids.join(answered, on="user_id", how="left_anti"))
        parts.append(answered.where(~F.col("has_events")).join(ids, on="user_id", how="left_anti"))
    concerned = reduce(DataFrame.unionByName, [part.select("user_id") for part in parts]).distinct()
    path = f"{earlier.tonight}/{ANSWERED}_changed"
    concerned.coalesce(1).write.mode("overwrite").parquet(files.uri(path))
    concerned = spark.read.schema("user_id string").parquet(files.for_reading(path))
    return _copied(spark, earlier, terms, concerned, parquet.row_count(spark, path), used["items"])


def _compared(before: DataFrame, now: DataFrame, *, same_title: bool) -> DataFrame:
    """Say of each product whether its title changed, and whether that or its being on sale may change lists."""
    names = ["item_id", "title", "available"]
    before, now = before.select(*names), now.select(*names)
    if same_title:  # whether a title names a product depends on all others
        names.append("title_key")
        before, now = with_title_keys(before), with_title_keys(now)
    before = before.select("item_id", *(F.col(name).alias(f"{name}_before") for name in names[1:]))
    both = before.join(now.select(*names), on="item_id", how="full_outer")
    changed = {name: ~F.col(name).eqNullSafe(F.col(f"{name}_before")) for name in names[1:]}
    was, is_now = (F.coalesce(name, F.lit(False)) for name in ("available_before", "available"))
    is_switched = (was != is_now) | (changed["title_key"] if same_title else F.lit(False))
    return both.select("item_id", changed["title"].alias("is_renamed"), is_switched.alias("is_switched"))


def answered_as_of(spark: SparkSession, earlier: Earlier) -> DataFrame:
    """The rows of the part `answered` that hold on the earlier date."""
    rows = read_segments(spark, earlier.folders, ANSWERED)
    latest = latest_segments(spark, earlier.folders, ANSWERED)
    return newest_segment(rows, latest, earlier.named.get(ANSWERED, 0))


def keep_answered(asked: DataFrame, answers: DataFrame, lists: DataFrame, k: int, folder: str) -> None:
    """Write the part `answered` of the customers in `asked` to a segment.

    `answers` are the ledger's rows, `lists` the night's lists of these customers before any is withheld.
    """
    heaviest = plain(heaviest_search())
    of_lists = lists.groupBy("user_id").agg(
        F.count(F.lit(1)).alias("rows"),
        F.max(F.col("why_scored") == "carried").alias("is_carried"),
        F.collect_set(heaviest).alias("searches"),
    )
    candidates = F.transform("result", lambda one: one["item_id"])
    of_answers = answers.select("key", "scored_on", "catalogue_version", candidates.alias("candidates"))
    joined = asked.select("user_id", "key", "last_event_at").join(of_answers, on="key", how="left")
    is_whole = F.col("candidates").isNotNull() & (F.col("rows") == k) & ~F.col("is_carried")
    rows = joined.join(of_lists, on="user_id", how="left").select(
        "user_id",
        "key",
        "scored_on",
        "catalogue_version",
        "candidates",
        "searches",
        F.col("last_event_at").isNotNull().alias("has_events"),
        F.coalesce(is_whole, F.lit(False)).alias("is_whole"),
    )
    rows.write.mode("overwrite").parquet(files.uri(f"{folder}/{ANSWERED}"))


def keep_frequent_searches(
    spark: SparkSession, searches: DataFrame, min_customers: int, folder: str, earlier: Earlier | None
) -> DataFrame:
    """Write the searches that enough customers wrote to a segment, and return them.

    With `earlier` only those that a concerned customer wrote are counted, unless customers opted out since.
    """
    if earlier is None or earlier.opted_out:
        found = frequent_searches(searches, min_customers)
    else:
        known = _frequent_before(spark, earlier)
        found = known
        if "searches" in earlier.changed:
            theirs = searches.join(F.broadcast(earlier.changed["searches"]), on="user_id", how="left_semi")
            written = theirs.select(plain(F.col("query")).alias("_plain")).distinct()
            asked = written.join(known, on="_plain", how="left_anti")
            rows = searches.withColumn("_plain", plain(F.col("query"))).join(asked, on="_plain", how="left_semi")
            found = known.unionByName(frequent_searches(rows, min_customers))
    path = f"{folder}/{SEARCHES}"
    found.coalesce(1).write.mode("overwrite").parquet(files.uri(path))
    return spark.read.schema(_SEARCH_SCHEMA).parquet(files.for_reading(path))


def of_concerned(used: Mapping[str, DataFrame], unchanged: Unchanged) -> dict[str, DataFrame]:
    """Keep the rows of concerned customers in the tables that have customers."""
    return {
        table: of_customers(rows, unchanged.concerned, unchanged.concerned_customers)
        if "user_id" in rows.columns
        else rows
        for table, rows in used.items()
    }


def _copied(
    spark: SparkSession, earlier: Earlier, terms: ListTerms, concerned: DataFrame, count: int, items: DataFrame
) -> Unchanged:
    """The prompts and lists of the earlier date without those of concerned customers, as they are on the run date."""
    going = F.broadcast(concerned) if count <= MOST_BROADCAST else concerned
    prompts, lists = (
        spark.read.parquet(files.for_reading(terms.store.date_folder(table, earlier.day))).join(
            going, on="user_id", how="left_anti"
        )
        for table in ("prompts", "recommendations")
    )
    shown = items.select("item_id", "title", "category", "price")
    lists = lists.drop("title", "category", "price").join(shown, on="item_id", how="inner")
    lists = lists.withColumns({"previous_rank": F.col("rank"), "changed": F.lit(KEPT)})
    return Unchanged(
        prompts=prompts.select(*schemas.contract("prompts").column_names),
        lists=lists.select(*schemas.contract("recommendations").column_names),
        concerned=concerned,
        customers=prompts.count(),
        concerned_customers=count,
    )


def _is_too_old(terms: ListTerms) -> Column:
    """Whether the ledger asks the model again, because the list is of another catalogue and too old."""
    same_catalogue = F.col("catalogue_version").eqNullSafe(F.lit(terms.catalogue_version))
    return ~same_catalogue & ledger.is_too_old(terms.run_date, terms.max_age_days)


def _any_in(answered: DataFrame, column: str, values: DataFrame) -> DataFrame:
    """The rows of which any element of an array is one of the values (`one`)."""
    elements = answered.select("user_id", F.explode(column).alias("one"))
    return elements.join(F.broadcast(values), on="one", how="left_semi")


def _frequent_before(spark: SparkSession, earlier: Earlier) -> DataFrame:
    return spark.read.schema(_SEARCH_SCHEMA).parquet(files.for_reading(f"{earlier.folders[-1]}/{SEARCHES}"))


def _newer_answers(spark: SparkSession, earlier: Earlier, terms: ListTerms) -> DataFrame | None:
    """`key` and `answered_on` of the answers in waves that the earlier date did not know, as of the run date.

    A wave into which old ones were merged repeats known answers, so of such waves only later dates count.
    """
    folder = terms.store.ledger("recommend")
    new = [name for name in files.listdir(spark, folder) if name not in set(earlier.waves)]
    if not new:
        return None
    rows = spark.read.schema("key string, scored_on date").parquet(*(files.for_reading(f"{folder}/{n}") for n in new))
    is_merged = rows.metadataColumn("_metadata").getField("file_path").rlike(r"/wave=[0-9]+-gc-")
    known_by = F.when(is_merged, F.date_add(F.lit(earlier.day), 1)).otherwise(F.lit(earlier.day))
    answered_on = F.col("scored_on").alias("answered_on")
    found = rows.where((F.col("scored_on") <= F.lit(terms.run_date)) & (F.col("scored_on") >= known_by))
    return found.select("key", answered_on)
