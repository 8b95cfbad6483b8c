"""What the report reads from lists, reviews and purchases."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from jobs.report.looks import complaints, list_changes, replay
from jobs.store.publish import publish
from jobs.tables.list_changes import with_changes
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.store.store import Store

DAY = date(2026, 3, 3)


def lists(spark: SparkSession, **by_user: str) -> DataFrame:
    """Lists of one letter a product, best first; its title is the letter in upper case."""
    rows = [
        {"user_id": user, "rank": rank, "item_id": item, "title": item.upper(), "prompt_hash": f"{user}-hash-of-prompt"}
        for user, items in by_user.items()
        for rank, item in enumerate(items, start=1)
    ]
    return frame(spark, "recommendations", rows)


def put(spark: SparkSession, store: Store, day: date, rows: DataFrame) -> None:
    changed = with_changes(spark, store, day, rows.drop("previous_rank", "changed"))
    publish(spark, store, f"r{day}", day, {"recommendations": changed.select(*rows.columns)})


def test_products_that_entered_and_left_and_lists_before_and_after(spark: SparkSession, store: Store) -> None:
    put(spark, store, DAY, lists(spark, anna="abc", bert="abc"))
    assert list_changes(spark, store, DAY, 10) == ([], [], [])
    put(spark, store, DAY + timedelta(days=1), lists(spark, anna="xab", bert="xac", new="xyz"))
    entered, left, examples = list_changes(spark, store, DAY + timedelta(days=1), 10)
    assert [(one.title, one.lists) for one in entered] == [("X", 2)]
    assert [(one.title, one.lists) for one in left] == [("B", 1), ("C", 1)]
    assert {one.prompt_hash for one in examples} == {"anna-hash-", "bert-hash-"}
    (anna,) = [one for one in examples if one.prompt_hash == "anna-hash-"]
    assert [one.title for one in anna.before] == ["A", "B", "C"]
    assert [(one.rank, one.title, one.previous_rank) for one in anna.after] == [
        (1, "X", None),
        (2, "A", 1),
        (3, "B", 2),
    ]
    assert len(list_changes(spark, store, DAY + timedelta(days=1), 1)[2]) == 1


def test_complaints_are_the_surest_negative_reviews(spark: SparkSession) -> None:
    rows = [
        {"review_id": "r1", "item_id": "a", "label": "negative", "p_negative": 0.9, "p_neutral": 0.1, "rating": 1},
        {"review_id": "r2", "item_id": "gone", "label": "negative", "p_negative": 0.95, "p_neutral": 0.05},
        {"review_id": "r3", "item_id": "a", "label": "negative", "p_negative": 0.8, "p_neutral": 0.2},
        {
            "review_id": "r4",
            "item_id": "a",
            "label": "positive",
            "p_negative": 0.0,
            "p_neutral": 0.0,
            "p_positive": 1.0,
        },
    ]
    texts = [("r1", "Broke"), ("r2", "x" * 500), ("r3", "bad"), ("r4", "good")]
    reviews = spark.createDataFrame(texts, "review_id string, prompt string")
    items = frame(spark, "items", [{"item_id": "a", "title": "Tea"}])
    found = complaints(reviews, frame(spark, "sentiments", rows), items, 2)
    assert [(one.title, one.rating, one.p_negative) for one in found] == [("", None, 0.95), ("Tea", 1, 0.9)]
    assert found[0].text == "x" * 280 + "…"


def test_lists_are_judged_by_the_purchases_of_the_days_after_them(spark: SparkSession, store: Store) -> None:
    put(spark, store, DAY, lists(spark, anna="abc", bert="abc", carl="abc"))
    assert replay(spark, store, DAY, 2, 3) is None
    bought = {1: [("anna", "a"), ("anna", "x")], 2: [("bert", "y"), ("stranger", "a")], 3: [("carl", "a")]}
    for days, rows in bought.items():
        made = frame(spark, "purchases_used", [{"user_id": user, "item_id": item} for user, item in rows])
        publish(spark, store, f"p{days}", DAY + timedelta(days=days), {"purchases_used": made})
    found = replay(spark, store, DAY, 2, 3)
    assert found is not None
    assert (found.customers, found.days, found.lists_of) == (2, 2, DAY)
    assert found.hit[0] == 0.5  # anna, not bert
    assert found.recall[0] == pytest.approx((0.5 + 0) / 2)
    assert found.hit[1] <= 0.5 <= found.hit[2]
