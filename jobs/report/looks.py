"""What only the tables themselves, or only the running night, can tell: Spark queries of a few rows each."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.report.facts import Complaint, ItemCount, ListedItem, ListExample, Replay
from jobs.spark import files
from jobs.spark.key_filter import rows_with
from jobs.store.store import Store, published_dates
from jobs.tables.list_changes import ENTERED, KEPT, earlier_lists, list_kind
from lm.metrics.metrics import hit_at_k, mean_interval, recall_at_k

#: Products in the lists of those that entered and left, characters of a complaint, digits of a prompt's hash.
_PRODUCTS, _TEXT, _HASH_DIGITS = 8, 280, 10
#: Most customers that a replay judges; drawn by a hash.
_JUDGED = 50_000
#: Columns that explain a row of a list, and what stands before them. Lists of an earlier release have none.
_REASONS = {"because": "", "rule": "rule: "}


def complaints(reviews: DataFrame, sentiments: DataFrame, items: DataFrame | None, most: int) -> list[Complaint]:
    """Return the surest negative reviews. `reviews` has `review_id` and the redacted text `prompt`.

    `items` has the titles of their products; None in a shop without a catalogue.
    """
    surest = sentiments.where("label = 'negative'").orderBy(F.desc("p_negative"), "review_id").limit(most)
    if items is None:
        surest = surest.withColumn("title", F.lit(""))
    else:
        surest = surest.join(items.select("item_id", "title"), on="item_id", how="left")
    rows = (
        surest.join(reviews.select("review_id", "prompt"), on="review_id", how="inner")
        .orderBy(F.desc("p_negative"), "review_id")
        .select("title", "p_negative", "rating", "prompt")
    )
    return [
        Complaint(
            title=row["title"] or "", p_negative=row["p_negative"], rating=row["rating"], text=_cut(row["prompt"])
        )
        for row in rows.collect()
    ]


def list_changes(
    spark: SparkSession, store: Store, run_date: date, most: int
) -> tuple[list[ItemCount], list[ItemCount], list[ListExample]]:
    """Return the products that entered and left most lists, and lists of `most` customers before and after."""
    before = earlier_lists(spark, store, run_date)
    after = spark.read.parquet(files.for_reading(store.date_folder("recommendations", run_date)))
    if before is None or "changed" not in after.columns:
        return [], [], []
    customers = after.where("changed IS NOT NULL").select("user_id").distinct()
    stays = after.select("user_id", "item_id")
    gone = before.join(customers, on="user_id", how="left_semi").join(stays, on=["user_id", "item_id"], how="left_anti")
    entered = after.where(F.col("changed") == ENTERED)
    return _counted(entered), _counted(gone), _examples(before, after, most)


def list_shares(spark: SparkSession, store: Store, run_date: date) -> tuple[int, int, dict[str, float]]:
    """Return the customers with a published list, the rows of all lists, and the shares of lists by kind.

    A list is `changed`, `unchanged` or, without an earlier one, `first`. All lists of an
    earlier release are `first`.
    """
    lists = spark.read.parquet(files.for_reading(store.date_folder("recommendations", run_date)))
    if "changed" not in lists.columns:
        lists = lists.withColumn("changed", F.lit(None).cast("string"))
    by_customer = lists.groupBy("user_id").agg(list_kind().alias("kind"), F.count("*").alias("rows"))
    found = by_customer.groupBy("kind").agg(F.count("*").alias("customers"), F.sum("rows").alias("rows")).collect()
    customers = sum(row["customers"] for row in found)
    return customers, sum(row["rows"] for row in found), {row["kind"]: row["customers"] / customers for row in found}


def replay(spark: SparkSession, store: Store, lists_of: date, days: int, k: int) -> Replay | None:
    """Judge the lists of a date by the published purchases of the `days` days after it; None where nobody bought."""
    window = {lists_of + timedelta(days=number) for number in range(1, days + 1)}
    found = [day for day in published_dates(spark, store, "purchases_used") if day in window]
    if not found:
        return None
    folders = [files.for_reading(store.date_folder("purchases_used", day)) for day in found]
    bought = spark.read.parquet(*folders).groupBy("user_id").agg(F.collect_set("item_id").alias("bought"))
    lists = spark.read.parquet(files.for_reading(store.date_folder("recommendations", lists_of)))
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    listed = lists.groupBy("user_id").agg(ranked.alias("ranked"))
    both = listed.join(bought, on="user_id", how="inner").orderBy(F.xxhash64("user_id")).limit(_JUDGED)
    rows = (
        both.select(F.transform("ranked", lambda one: one["item_id"]).alias("listed"), "bought").toArrow().to_pylist()
    )
    if not rows:
        return None
    ours, relevant = [row["listed"] for row in rows], [set(row["bought"]) for row in rows]
    hit, recall = hit_at_k(ours, relevant, k), recall_at_k(ours, relevant, k)
    return Replay(
        lists_of=lists_of,
        days=days,
        k=k,
        customers=len(rows),
        hit=mean_interval(hit),
        recall=mean_interval(recall),
    )


def _counted(rows: DataFrame) -> list[ItemCount]:
    counts = rows.groupBy("item_id").agg(F.max("title").alias("title"), F.count("*").alias("lists"))
    top = counts.orderBy(F.desc("lists"), "item_id").limit(_PRODUCTS)
    return [ItemCount(title=row["title"], lists=row["lists"]) for row in top.collect()]


def _examples(before: DataFrame, after: DataFrame, most: int) -> list[ListExample]:
    """Lists of customers drawn by a hash among those whose lists changed, so always the same ones."""
    changed = after.where(F.col("changed") != KEPT).select("user_id").distinct()
    drawn = [row["user_id"] for row in changed.orderBy(F.xxhash64("user_id"), "user_id").limit(most).collect()]
    then, now = _lists(before, drawn), _lists(after, drawn)
    return [
        ListExample(
            prompt_hash=str(now[user][0]["prompt_hash"])[:_HASH_DIGITS],
            before=[ListedItem(rank=row["rank"], title=row["title"]) for row in then.get(user, [])],
            after=[_listed(row) for row in now[user]],
        )
        for user in drawn
    ]


def _lists(rows: DataFrame, users: list[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    names = [name for name in ("previous_rank", *_REASONS) if name in rows.columns]
    wanted = rows_with(rows, "user_id", users).select("user_id", "rank", "title", "prompt_hash", *names)
    for row in wanted.orderBy("user_id", "rank").collect():
        found.setdefault(row["user_id"], []).append(row.asDict())
    return found


def _listed(row: dict[str, Any]) -> ListedItem:
    said = [f"{before}{row[name]}" for name, before in _REASONS.items() if isinstance(row.get(name), str) and row[name]]
    reason = "; ".join(said) or None
    return ListedItem(rank=row["rank"], title=row["title"], previous_rank=row["previous_rank"], reason=reason)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT].rstrip()}…"
