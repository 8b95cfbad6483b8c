"""One row per customer: the newest events in a total order, and everything ever bought.

What prompts are rendered from and what training learns from. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

#: An event; structs compare field by field from the left, so this is also the total order of a customer's events.
_EVENT = ("at", "kind", "item_id", "text", "rating", "title")


def histories(used: Mapping[str, DataFrame], events: int) -> DataFrame:
    """Gather each customer's newest `events` events from the night's `used` input tables.

    Returns `user_id`, `events` array<struct<at, kind, item_id, title, text, rating>> (oldest first), `purchased`
    (every item ever bought, sorted), `events_total` and `last_event_at`. Ties of time are broken by kind, item and
    text, so the rows depend on neither input order nor partitions. Memory per customer is bounded by `events` and by
    the catalogue: a top-k aggregate keeps no more at any time.
    """
    titled = _all_events(used).join(F.broadcast(used["items"].select("item_id", "title")), on="item_id", how="left")
    event = F.struct(*(F.col(name) for name in _EVENT))
    bought = F.when(F.col("kind") == "bought", F.col("item_id"))
    # The groups need a shuffle anyway; half made top-k lists are larger than the events that they are made of.
    grouped = (
        titled.repartition("user_id")
        .groupBy("user_id")
        .agg(
            F.expr(f"max_by(struct({', '.join(_EVENT)}), struct({', '.join(_EVENT)}), {int(events)})").alias("newest"),
            F.array_sort(F.collect_set(bought)).alias("purchased"),
            F.count(event).alias("events_total"),
            F.max("at").alias("last_event_at"),
        )
    )
    return grouped.select(
        "user_id",
        F.transform(F.reverse("newest"), _in_order).alias("events"),
        "purchased",
        "events_total",
        "last_event_at",
    )


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
    return reduce(DataFrame.unionByName, parts)


def _event(
    rows: DataFrame,
    kind: str,
    at: str,
    item_id: Column | None = None,
    text: Column | None = None,
    rating: Column | None = None,
) -> DataFrame:
    nothing = F.lit(None)
    return rows.select(
        "user_id",
        F.col(at).alias("at"),
        F.lit(kind).alias("kind"),
        (nothing if item_id is None else item_id).cast("string").alias("item_id"),
        (nothing if text is None else text).cast("string").alias("text"),
        (nothing if rating is None else rating).cast("int").alias("rating"),
    )


def _in_order(event: Column) -> Column:
    return F.struct(*(event[name].alias(name) for name in ("at", "kind", "item_id", "title", "text", "rating")))
