"""What a training reads, as plain arrays: customers' histories, the catalogue, rated reviews; all as of one date.

Part of `regulars train`. Memory on the driver is bounded: a shop beyond the bounds is trained on a sample of
customers and reviews that is drawn by a hash of their ids, the same one every time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.tables import sentiments
from jobs.tables.histories import histories
from lm.text.prompt import Event

if TYPE_CHECKING:
    from lm.recommend.training_examples import CustomerEvents

#: Input tables that a training reads; that of sentiment those of `tables_of_reviews`.
TABLES = ("purchases", "items", "searches", "reviews", "optouts")
CUSTOMERS = 200_000
REVIEWS = 500_000
#: Events of one customer, and of all: some 100 bytes each on the driver.
EVENTS_OF_ONE = 200
EVENTS = 10_000_000
UNRATED = -1


class Histories(NamedTuple):
    """Customers in the order of their ids, and the span of their events."""

    customers: list[CustomerEvents]
    window: dict[str, Any]


def customers(used: Mapping[str, DataFrame]) -> Histories:
    """Collect the customers who bought something: the newest events of each, and the shop's day of each event."""
    from lm.recommend.training_examples import CustomerEvents

    buyers = used["purchases"].select("user_id").distinct()
    drawn = buyers.orderBy(F.xxhash64("user_id"), "user_id").limit(CUSTOMERS)
    count = drawn.count()
    events = min(EVENTS_OF_ONE, max(20, EVENTS // max(count, 1)))
    of_drawn = {
        name: frame.join(drawn, on="user_id", how="left_semi") if "user_id" in frame.columns else frame
        for name, frame in used.items()
    }
    table = _histories_with_days(histories(of_drawn, events)).toArrow()
    known: dict[Event, Event] = {}
    collected = []
    first = last = None
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            made = [Event(*(event[name] for name in Event._fields)) for event in row["events"]]
            collected.append(
                CustomerEvents([known.setdefault(event, event) for event in made], row["days"], row["moments"])
            )
        first = min(filter(None, [first, min(batch["first_on"].to_pylist(), default=None)]), default=None)
        last = max(filter(None, [last, max(batch["last_on"].to_pylist(), default=None)]), default=None)
    window = {
        "customers": count,
        "events": sum(len(customer.events) for customer in collected),
        "first_event_on": first and first.isoformat(),
        "last_event_on": last and last.isoformat(),
    }
    return Histories(collected, window)


def _histories_with_days(rows: DataFrame) -> DataFrame:
    """One row a customer, by id; days and dates are those of the session's (the shop's) time zone."""
    days = F.transform("events", lambda event: F.unix_date(event["at"].cast("date")))
    moments = F.transform("events", lambda event: F.unix_micros(event["at"]))
    on = F.transform("events", lambda event: event["at"].cast("date"))
    events = F.transform("events", lambda event: F.struct(*(event[name].alias(name) for name in Event._fields)))
    return rows.select(
        "user_id",
        events.alias("events"),
        days.alias("days"),
        moments.alias("moments"),
        F.array_min(on).alias("first_on"),
        F.array_max(on).alias("last_on"),
    ).orderBy("user_id")


def titles(used: Mapping[str, DataFrame]) -> dict[str, str]:
    """item_id -> title of the whole catalogue, by id; also what is sold out, for histories name it."""
    table = used["items"].select("item_id", "title").orderBy("item_id").toArrow()
    return dict(zip(table["item_id"].to_pylist(), table["title"].to_pylist(), strict=True))


def tables_of_reviews(inputs: Collection[str]) -> list[str]:
    """What is read of these for the reviews: the catalogue, which a shop without one has in its purchases."""
    catalogue = "items" if "items" in inputs else "purchases"
    return [table for table in (catalogue, "reviews", "optouts") if table in inputs]


class Reviews(NamedTuple):
    """Texts in the order of their review ids, their labels (0 negative, 1 neutral, 2 positive, -1 unrated), and the
    categories of their products, empty where the catalogue has none.
    """

    texts: list[str]
    labels: list[int]
    categories: list[str]


def reviews(used: Mapping[str, DataFrame], negative: Sequence[int], positive: Sequence[int]) -> Reviews:
    """Collect reviews, labelled by their stars; stars that are neither negative nor positive are neutral."""
    rating = F.col("rating")
    label = (
        F.when(rating.isNull(), UNRATED)
        .when(rating.isin(list(negative)), 0)
        .when(rating.isin(list(positive)), 2)
        .otherwise(1)
    )
    drawn = used["reviews"].orderBy(F.xxhash64("review_id"), "review_id").limit(REVIEWS)
    about = sentiments.with_category(drawn, used.get("items"))
    table = about.orderBy("review_id").select("text", label.alias("label"), "category").toArrow()
    return Reviews(*(table[name].to_pylist() for name in ("text", "label", "category")))
