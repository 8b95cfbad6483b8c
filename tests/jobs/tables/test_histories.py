"""Histories keep the newest events in a total order, whatever the partitions and the input order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobs.tables.histories import histories, with_all_customers
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Event = tuple[Any, ...]


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def used(spark: SparkSession, **rows: list[dict[str, Any]]) -> dict[str, DataFrame]:
    tables: dict[str, list[dict[str, Any]]] = {"purchases": [], "items": [], **rows}
    return {table: frame(spark, table, values) for table, values in tables.items()}


def collected(df: DataFrame) -> dict[str, Row]:
    """Rows of customers, with times in minutes after START."""
    minutes = f"CAST((unix_timestamp(e.at) - {int(START.timestamp())}) / 60 AS int)"
    events = f"transform(events, e -> struct({minutes} AS at, e.kind, e.item_id, e.title, e.text, e.rating)) AS events"
    last = f"CAST((unix_timestamp(last_event_at) - {int(START.timestamp())}) / 60 AS int) AS last_event_at"
    rows = df.selectExpr("user_id", events, "purchased", "events_total", last).collect()
    assert len({row.user_id for row in rows}) == len(rows), "one row a customer"
    return {row.user_id: row for row in rows}


def events_of(row: Row) -> list[Event]:
    return [tuple(event) for event in row.events]


def test_the_three_kinds_in_order_with_titles(spark: SparkSession) -> None:
    tables = used(
        spark,
        items=[{"item_id": "i1", "title": "Tea"}, {"item_id": "i2", "title": "Cup"}],
        purchases=[
            {"user_id": "a", "item_id": "i2", "purchased_at": at(3)},
            {"user_id": "a", "item_id": "i1", "purchased_at": at(1)},
            {"user_id": "b", "item_id": "i1", "purchased_at": at(9)},
        ],
        searches=[{"user_id": "a", "query": "cup", "searched_at": at(2), "clicked_item_id": "i2"}],
        reviews=[
            {"review_id": "r1", "user_id": "a", "item_id": "i1", "rating": 4, "text": "warm", "reviewed_at": at(5)},
            {"review_id": "r2", "user_id": "c", "item_id": "i2", "rating": None, "text": "ok", "reviewed_at": at(4)},
        ],
    )
    df = histories(tables, 50)
    event = "struct<at:timestamp,kind:string,item_id:string,title:string,text:string,rating:int>"
    assert {field.name: field.dataType.simpleString() for field in df.schema.fields} == {
        "user_id": "string",
        "events": f"array<{event}>",
        "purchased": "array<string>",
        "events_total": "bigint",
        "last_event_at": "timestamp",
    }
    rows = collected(df)
    assert events_of(rows["a"]) == [
        (1, "bought", "i1", "Tea", None, None),
        (2, "searched", None, None, "cup", None),
        (3, "bought", "i2", "Cup", None, None),
        (5, "reviewed", "i1", "Tea", "warm", 4),
    ]
    assert (rows["a"].purchased, rows["a"].events_total, rows["a"].last_event_at) == (["i1", "i2"], 4, 5)
    assert events_of(rows["b"]) == [(9, "bought", "i1", "Tea", None, None)]
    assert events_of(rows["c"]) == [(4, "reviewed", "i2", "Cup", "ok", None)]
    assert rows["c"].purchased == [], "a reviewer who bought nothing"


def test_only_the_newest_are_kept_but_all_purchases_are_remembered(spark: SparkSession) -> None:
    items = [{"item_id": f"i{n:02d}", "title": f"T{n}"} for n in range(30)]
    bought = [{"user_id": "a", "item_id": f"i{n:02d}", "purchased_at": at(n)} for n in range(30)]
    row = collected(histories(used(spark, items=items, purchases=bought), 4))["a"]
    assert [(minute, title) for minute, _, _, title, _, _ in events_of(row)] == [
        (26, "T26"),
        (27, "T27"),
        (28, "T28"),
        (29, "T29"),
    ]
    assert row.purchased == [f"i{n:02d}" for n in range(30)]
    assert (row.events_total, row.last_event_at) == (30, 29)


def test_customers_without_events_have_an_empty_history(spark: SparkSession) -> None:
    bought = [{"user_id": "a", "item_id": "i1", "purchased_at": at(1)}]
    known = histories(used(spark, items=[{"item_id": "i1"}], purchases=bought), 4)
    customers = spark.createDataFrame([("a", "N"), ("new", "S"), ("new", "S")], "user_id string, region string")
    everybody = with_all_customers(known, customers)
    assert everybody.dtypes == known.dtypes
    rows = {row.user_id: row for row in everybody.collect()}
    assert set(rows) == {"a", "new"}
    assert (rows["new"].events, rows["new"].purchased, rows["new"].events_total) == ([], [], 0)
    assert rows["new"].last_event_at is None


def test_ties_of_time_are_broken_by_content_before_the_cut(spark: SparkSession) -> None:
    tables = used(
        spark,
        items=[{"item_id": item, "title": "same"} for item in ("i1", "i2", "i3")],
        purchases=[{"user_id": "a", "item_id": item, "purchased_at": at(1)} for item in ("i3", "i1", "i2")],
        searches=[{"user_id": "a", "query": query, "searched_at": at(1)} for query in ("x", "y")],
    )
    row = collected(histories(tables, 4))["a"]
    assert [(kind, item, text) for _, kind, item, _, text, _ in events_of(row)] == [
        ("bought", "i2", None),
        ("bought", "i3", None),
        ("searched", None, "x"),
        ("searched", None, "y"),
    ]


def test_a_plain_model_agrees_whatever_the_partitions_and_the_order(spark: SparkSession) -> None:
    dice = random.Random(3)
    purchases = [
        {
            "user_id": f"u{dice.randrange(40)}",
            "item_id": f"i{dice.randrange(9)}",
            "purchased_at": at(dice.randrange(60)),
        }
        for _ in range(1500)
    ]
    searches = [
        {"user_id": f"u{dice.randrange(50)}", "query": f"q{dice.randrange(5)}", "searched_at": at(dice.randrange(60))}
        for _ in range(500)
    ]
    items = [{"item_id": f"i{n}", "title": f"T{n}"} for n in range(9)]
    # Strings are held against null first, as Spark orders them.
    model: dict[str, list[Event]] = {}
    for row in purchases:
        minute = int((row["purchased_at"] - START).total_seconds() / 60)
        model.setdefault(row["user_id"], []).append((minute, "bought", row["item_id"], ""))
    for row in searches:
        minute = int((row["searched_at"] - START).total_seconds() / 60)
        model.setdefault(row["user_id"], []).append((minute, "searched", "", row["query"]))

    tables = used(spark, items=items, purchases=purchases, searches=searches)
    first = collected(histories(tables, 7))
    assert set(first) == set(model)
    for user, events in model.items():
        kept = [(minute, kind, item or "", text or "") for minute, kind, item, _, text, _ in events_of(first[user])]
        assert kept == sorted(events)[-7:]
        assert first[user].events_total == len(events)
        assert first[user].purchased == sorted({item for _, kind, item, _ in events if kind == "bought"})

    dice.shuffle(purchases)
    dice.shuffle(searches)
    shuffled = used(spark, items=items[::-1], purchases=purchases, searches=searches)
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    try:
        again = collected(histories({t: df.repartition(5) for t, df in shuffled.items()}, 7))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    assert again == first


def test_a_customer_with_many_events_keeps_the_newest_few(spark: SparkSession) -> None:
    """200,000 events of one customer; the result has the newest few."""
    many = spark.range(200_000).selectExpr(
        "'a' AS user_id",
        "CAST(id % 5 AS string) AS item_id",
        f"timestamp_seconds({int(START.timestamp())} + 60 * id) AS purchased_at",
    )
    tables = {
        "purchases": many,
        "items": frame(spark, "items", [{"item_id": str(n), "title": str(n)} for n in range(5)]),
    }
    df = histories(tables, 3)
    plan = df._jdf.queryExecution().executedPlan().toString()
    assert "partial_max_by" in plan.lower(), "the top-k aggregate runs on each side of the shuffle"
    row = collected(df)["a"]
    assert [minute for minute, *_ in events_of(row)] == [199_997, 199_998, 199_999]
    assert (row.events_total, row.purchased) == (200_000, ["0", "1", "2", "3", "4"])
