"""Carried lists keep the items that can still be recommended, are marked, and have ranks from 1."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from jobs.store.publish import publish
from jobs.store.store import Store
from jobs.tables.carried_lists import with_carried
from jobs.tables.metrics import short_lists
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = date(2026, 3, 3)


def test_carried_lists_hold_only_what_is_still_right(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    items = frame(
        spark,
        "items",
        [{"item_id": item, "title": f"{item} today", "available": item != "c"} for item in "abcd"],
    )
    asked = spark.createDataFrame(
        [("late", ["b"]), ("unknown", []), ("scored", [])], "user_id string, excluded array<string>"
    )
    late = asked.where("user_id != 'scored'").withColumn("because", F.lit("deadline"))
    tonight = frame(spark, "recommendations", [{"user_id": "scored", "rank": 1, "item_id": "d", "why_scored": "new"}])
    assert with_carried(spark, store, DAY, tonight, late, items, 3).collect() == tonight.collect()

    def earlier(listed: str, **values: object) -> list[dict[str, object]]:
        rows = [{"user_id": "late", "rank": n, "item_id": item, **values} for n, item in enumerate(listed, start=1)]
        return [*rows, {"user_id": "gone", "item_id": "a"}, {"user_id": "scored", "item_id": "a"}]

    older, yesterday, tomorrow = (DAY + timedelta(days=days) for days in (-5, -1, 1))
    values = {"prompt_hash": "p", "model_version": "m", "scored_on": older, "why_scored": "new", "score": -2.0}
    for day, listed in ((older, "d"), (yesterday, "xcbda"), (tomorrow, "a")):
        publish(
            spark,
            store,
            f"r{day}",
            day,
            {"recommendations": frame(spark, "recommendations", earlier(listed, **values))},
        )
    rows = with_carried(spark, store, DAY, tonight, late, items, 3).orderBy("user_id", "rank").collect()
    # Of x (no product any more), c (sold out), b (bought since), d and a the last two are left.
    assert [(r["user_id"], r["rank"], r["item_id"], r["title"], r["why_scored"]) for r in rows] == [
        ("late", 1, "d", "d today", "carried"),
        ("late", 2, "a", "a today", "carried"),
        ("scored", 1, "d", "x", "new"),
    ]
    assert {r["scored_on"] for r in rows if r["user_id"] == "late"} == {older}
    assert {r["prompt_hash"] for r in rows if r["user_id"] == "late"} == {"p"}
    (first,) = with_carried(spark, store, DAY, tonight, late, items, 1).where("user_id = 'late'").collect()
    assert first["item_id"] == "d"

    published = with_carried(spark, store, DAY, tonight, late, items, 3)
    reasons = {r["reason"]: r["customers"] for r in short_lists(asked, published, items, 3, late).collect()}
    assert reasons == {"deadline": 2, "unexplained": 1}  # three products are left to the customer who was scored
