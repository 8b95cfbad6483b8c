"""Gathers one row per customer: the newest events in a total order, and all items ever bought.

Prompts and training examples are made from these rows. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.spark.plan_size import broadcast_if_small

#: The fields of an event. Structs compare field by field, so this order is the total order of a customer's events.
_ORDERED_FIELDS = ("at", "kind", "item_id", "text", "rating", "title")


#: What the prompts call the kinds of the table events (`lm.text.template.BROWSING`).
_BROWSING = {"view": "viewed", "cart": "in cart", "wish": "wished"}


def histories(used: Mapping[str, DataFrame], events: int) -> DataFrame:
    """Gather each customer's newest `events` events from the input tables `used`, and as many of the table events.

    Returns `user_id`, `events` array<struct<at, kind, item_id, title, text, rating>> (oldest first), `purchased`
    (every item ever bought, sorted), `events_total` and `last_event_at`.
    Kind, item and text break ties of time, so rows depend on neither input order nor partitions.
    A top-k aggregate bounds the memory per customer by `events` and by the catalogue.
    """
    titled = _all_events(used).join(
        broadcast_if_small(used["items"].select("item_id", "title")), on="item_id", how="left"
    )
    event = F.struct(*(F.col(name) for name in _ORDERED_FIELDS))
    order = f"struct({', '.join(_ORDERED_FIELDS)})"
    newest = f"max_by({order}, {order}, {int(events)})"
    is_browsing = f"kind IN ({', '.join(map(repr, _BROWSING.values()))})"
    with_browsing = "events" in used
    bought = F.when(F.col("kind") == "bought", F.col("item_id"))
    # The repartition comes first because partial top-k lists are larger than the events that they hold.
    grouped = (
        titled.repartition("user_id")
        .groupBy("user_id")
        .agg(
            F.expr(f"{newest} FILTER (WHERE NOT {is_browsing})" if with_browsing else newest).alias("newest"),
            *([F.expr(f"{newest} FILTER (WHERE {is_browsing})").alias("browsing")] if with_browsing else []),
            F.array_sort(F.collect_set(bought)).alias("purchased"),
            F.count(event).alias("events_total"),
            F.max("at").alias("last_event_at"),
        )
    )
    oldest_first = F.reverse("newest")
    if with_browsing:  # a customer may have events of one sort only
        both = F.array_compact(F.array("newest", "browsing"))
        oldest_first = F.array_sort(F.flatten(both))
    return grouped.select(
        "user_id",
        F.transform(oldest_first, _with_title_before_text).alias("events"),
        "purchased",
        "events_total",
        "last_event_at",
    )


def with_all_customers(histories: DataFrame, customers: DataFrame) -> DataFrame:
    """Add an empty history for each of `customers` (`user_id`, ...) who has no event."""
    without = customers.select("user_id").distinct().join(histories.select("user_id"), on="user_id", how="left_anti")
    empty = {"events_total": F.lit(0), "last_event_at": F.lit(None)}
    empty |= {name: F.array() for name in ("events", "purchased")}
    types = {field.name: field.dataType for field in histories.schema}
    columns = [empty[name].cast(types[name]).alias(name) for name in histories.columns if name != "user_id"]
    return histories.unionByName(without.select("user_id", *columns))


def _all_events(used: Mapping[str, DataFrame]) -> DataFrame:
    parts = [
        _event(used["purchases"], "bought", "purchased_at", F.col("item_id")),
        *([_event(used["searches"], "searched", "searched_at", text=F.col("query"))] if "searches" in used else []),
        *(
            [_event(used["reviews"], "reviewed", "reviewed_at", F.col("item_id"), F.col("text"), F.col("rating"))]
            if "reviews" in used
            else []
        ),
    ]
    if "events" in used:
        kind = F.create_map(*(F.lit(word) for pair in _BROWSING.items() for word in pair))[F.col("kind")]
        parts.append(_event(used["events"], kind, "happened_at", F.col("item_id")))
    return reduce(DataFrame.unionByName, parts)


def _event(
    rows: DataFrame,
    kind: str | Column,
    at: str,
    item_id: Column | None = None,
    text: Column | None = None,
    rating: Column | None = None,
) -> DataFrame:
    nothing = F.lit(None)
    return rows.select(
        "user_id",
        F.col(at).alias("at"),
        (F.lit(kind) if isinstance(kind, str) else kind).alias("kind"),
        (nothing if item_id is None else item_id).cast("string").alias("item_id"),
        (nothing if text is None else text).cast("string").alias("text"),
        (nothing if rating is None else rating).cast("int").alias("rating"),
    )


def _with_title_before_text(event: Column) -> Column:
    """Reorder an event's fields to those of the result."""
    return F.struct(*(event[name].alias(name) for name in ("at", "kind", "item_id", "title", "text", "rating")))
