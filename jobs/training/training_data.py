"""Collects what a training reads on the driver: customers' histories, the catalogue and rated reviews.

Part of `regulars train`. Driver memory is bounded: it holds a sample of a larger shop's customers and reviews. A hash
of their ids draws it, so every run draws the same one. `jobs.training.further_customers` has the other customers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import RecommendSettings
from jobs.tables import sentiments
from jobs.tables.histories import histories
from jobs.tables.same_titles import with_title_keys
from lm.checkpoint.manifest import BROWSED_EVENTS
from lm.sentiment.labels import LABELS, UNRATED
from lm.text.prompt import Event
from lm.text.template import BROWSING

if TYPE_CHECKING:
    from lm.recommend_training.training_examples import CustomerEvents

#: Input tables that histories, titles and the sample of customers are read from.
HISTORY_TABLES = ("purchases", "items", "searches", "reviews", "events", "optouts")
#: Customers whose histories are in memory at once.
CUSTOMERS_AT_ONCE = 200_000
MAX_REVIEWS = 500_000
#: The most events of one customer and of all in memory; an event takes some 100 bytes on the driver.
MAX_EVENTS_PER_CUSTOMER = 200
MAX_EVENTS = 10_000_000
#: The newest purchases of a further customer that are counted: no fewer than those among MAX_EVENTS_PER_CUSTOMER.
PURCHASES_COUNTED = 200


class CustomerHistories(NamedTuple):
    """Customers sorted by id, and the counts and dates of their events for the model's manifest."""

    customers: list[CustomerEvents]
    window: dict[str, Any]


def sample_by_hash(rows: DataFrame, key: str, most: int) -> DataFrame:
    """Return at most `most` rows, drawn by a hash of the column `key`; every run and cluster draws the same ones."""
    return rows.orderBy(F.xxhash64(key), key).limit(most)


def collect_customers(used: Mapping[str, DataFrame], most: int = CUSTOMERS_AT_ONCE) -> CustomerHistories:
    """Collect the customers with a purchase: their newest events, with the day of each in the shop's time zone.

    Of more than `most` or CUSTOMERS_AT_ONCE customers, a sample is collected.
    """
    from lm.recommend_training.further_customers import customers_of

    buyers = used["purchases"].select("user_id").distinct()
    sample = sample_by_hash(buyers, "user_id", min(most, CUSTOMERS_AT_ONCE))
    count = sample.count()
    table = histories_with_days(used, sample, count).orderBy("user_id").toArrow()
    batches = table.to_batches(max_chunksize=4096)
    collected = list(customers_of(batches))
    first = last = None
    for batch in batches:
        first = min(filter(None, [first, min(batch["first_on"].to_pylist(), default=None)]), default=None)
        last = max(filter(None, [last, max(batch["last_on"].to_pylist(), default=None)]), default=None)
    window = {
        "customers": count,
        "events": sum(len(customer.events) for customer in collected),
        BROWSED_EVENTS: sum(event.kind in BROWSING for customer in collected for event in customer.events),
        "first_event_on": first and first.isoformat(),
        "last_event_on": last and last.isoformat(),
    }
    return CustomerHistories(collected, window)


def histories_with_days(used: Mapping[str, DataFrame], sample: DataFrame, at_once: int) -> DataFrame:
    """Return one row for each customer of `sample`; days and dates use the session's time zone, which is the shop's.

    The number of events is bounded so that `at_once` customers fit into memory.
    """
    events = min(MAX_EVENTS_PER_CUSTOMER, max(20, MAX_EVENTS // max(at_once, 1)))
    of_sample = {
        name: frame.join(sample, on="user_id", how="left_semi") if "user_id" in frame.columns else frame
        for name, frame in used.items()
    }
    rows = histories(of_sample, events)
    days = F.transform("events", lambda event: F.unix_date(event["at"].cast("date")))
    moments = F.transform("events", lambda event: F.unix_micros(event["at"]))
    dates = F.transform("events", lambda event: event["at"].cast("date"))
    fields = F.transform("events", lambda event: F.struct(*(event[name].alias(name) for name in Event._fields)))
    return rows.select(
        "user_id",
        fields.alias("events"),
        days.alias("days"),
        moments.alias("moments"),
        F.array_min(dates).alias("first_on"),
        F.array_max(dates).alias("last_on"),
    )


def collect_titles(used: Mapping[str, DataFrame]) -> dict[str, str]:
    """Collect `item_id -> title` of the whole catalogue, sorted by id; histories name unavailable items too."""
    table = used["items"].select("item_id", "title").orderBy("item_id").toArrow()
    return dict(zip(table["item_id"].to_pylist(), table["title"].to_pylist(), strict=True))


def collect_title_keys(used: Mapping[str, DataFrame], settings: RecommendSettings) -> dict[str, str]:
    """Collect `item_id -> title_key` of the whole catalogue, equal for equal titles; empty without `same_title`."""
    if not settings.same_title:
        return {}
    table = with_title_keys(used["items"]).select("item_id", "title_key").toArrow()
    return dict(zip(table["item_id"].to_pylist(), table["title_key"].to_pylist(), strict=True))


def collect_sellable(used: Mapping[str, DataFrame]) -> list[str]:
    """Collect the ids of the items that can be sold."""
    ids: list[str] = used["items"].where("available").select("item_id").toArrow()["item_id"].to_pylist()
    return ids


def tables_of_reviews(inputs: Collection[str]) -> list[str]:
    """Return the tables among `inputs` that a reader of reviews needs."""
    catalogue = "items" if "items" in inputs else "purchases"  # without items, purchases carry the catalogue
    return [table for table in (catalogue, "reviews", "optouts") if table in inputs]


class LabelledReviews(NamedTuple):
    """Parallel lists sorted by review id.

    `labels` are indices into `lm.sentiment.labels.LABELS` or UNRATED. `categories` are the products' ones, "" if none.
    `writers` are the customers who wrote the reviews.
    """

    texts: list[str]
    labels: list[int]
    categories: list[str]
    writers: list[str]


def collect_reviews(used: Mapping[str, DataFrame], negative: Sequence[int], positive: Sequence[int]) -> LabelledReviews:
    """Collect the reviews with a text, labelled by their stars: `negative`, `positive`, and all others neutral."""
    rating = F.col("rating")
    label = (
        F.when(rating.isNull(), UNRATED)
        .when(rating.isin(list(negative)), LABELS.index("negative"))
        .when(rating.isin(list(positive)), LABELS.index("positive"))
        .otherwise(LABELS.index("neutral"))
    )
    sample = sample_by_hash(used["reviews"].where("trim(text) <> ''"), "review_id", MAX_REVIEWS)
    rows = sentiments.with_category(sample, used.get("items"))
    table = rows.orderBy("review_id").select("text", label.alias("label"), "category", "user_id").toArrow()
    return LabelledReviews(*(table[name].to_pylist() for name in ("text", "label", "category", "user_id")))
