"""Each row of a list says where its product stood in the customer's earlier list."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from jobs.store.publish import publish
from jobs.tables.list_changes import with_changes
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.store.store import Store

DAY = date(2026, 3, 3)


def lists(spark: SparkSession, **by_user: str) -> DataFrame:
    """Lists of one letter a product, best first."""
    rows = [
        {"user_id": user, "rank": rank, "item_id": item}
        for user, items in by_user.items()
        for rank, item in enumerate(items, start=1)
    ]
    return frame(spark, "recommendations", rows).drop("previous_rank", "changed")


def changes(rows: DataFrame) -> dict[str, list[tuple[str, int | None, str | None]]]:
    found: dict[str, list[tuple[str, int | None, str | None]]] = {}
    for row in rows.orderBy("user_id", "rank").collect():
        found.setdefault(row["user_id"], []).append((row["item_id"], row["previous_rank"], row["changed"]))
    return found


def test_changes_are_against_the_newest_earlier_date(spark: SparkSession, store: Store) -> None:
    tonight = lists(spark, stays="abc", other="cxa", first="ab", all_new="xy")
    nothing = {"first": [("a", None, None), ("b", None, None)]}
    assert changes(with_changes(spark, store, DAY, tonight))["first"] == nothing["first"]
    earlier = {
        -2: {"first": "ab"},
        -1: {"stays": "abc", "other": "abc", "all_new": "ab", "gone": "a"},
        1: {"first": "b"},
    }
    for days, by_user in earlier.items():
        published = frame(spark, "recommendations", [r.asDict() for r in lists(spark, **by_user).collect()])
        publish(spark, store, f"r{days + 5}", DAY + timedelta(days=days), {"recommendations": published})
    assert changes(with_changes(spark, store, DAY, tonight)) == nothing | {
        "stays": [("a", 1, "kept"), ("b", 2, "kept"), ("c", 3, "kept")],
        "other": [("c", 3, "moved"), ("x", None, "entered"), ("a", 1, "moved")],
        "all_new": [("x", None, "entered"), ("y", None, "entered")],
    }
