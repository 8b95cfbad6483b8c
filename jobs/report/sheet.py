"""A sheet of random customers with history and list side by side, for a person to mark.

For whoever decides whether lists may be sent: figures do not show a product that nobody would send. Alone:

    regulars evaluate --sheet sheet.html --config regulars.yaml --run-date 2026-03-01

The page works without scripts and has no id of a customer. Titles and texts are redacted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs.reader import read_inputs
from jobs.report.html import environment, style
from jobs.spark import files
from jobs.spark.errors import InputError
from jobs.spark.privacy_key import keyed_hashes
from jobs.spark.progress import Stages
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store, published_dates
from jobs.tables.histories import histories
from lm.redaction.redact import redact

CUSTOMERS = 60
#: The newest events of a customer that the sheet shows, and the characters of a text.
_EVENTS, _TEXT = 40, 160
_INPUTS = ("purchases", "searches", "reviews", "events", "customers", "items", "optouts")
#: What a person marks at a product, and at a list as a whole.
PRODUCT_MARKS = ("odd", "double", "unsuitable")
LIST_MARKS = ("would send it", "would change it", "would not send it")


@dataclass(frozen=True)
class SheetEvent:
    """One event of the history; `what` is a title or a text."""

    at: datetime
    kind: str
    what: str
    rating: int | None


@dataclass(frozen=True)
class SheetProduct:
    """One product of the list; `category` and `because` may be empty."""

    title: str
    category: str
    because: str


@dataclass(frozen=True)
class SheetCustomer:
    """One customer: the newest events, newest first, how many there are in all, and the list, best first."""

    events: list[SheetEvent]
    events_total: int
    products: list[SheetProduct]


def write_sheet(
    spark: SparkSession, config: Config, run_date: date | None, console: Console, file: Path, most: int = CUSTOMERS
) -> int:
    """Write the sheet of the lists of `run_date`, by default the newest published date; returns its customers.

    Customers with a published list are drawn by a hash of their ids and `train.seed`.
    Raises InputError where no lists of the date are published.
    """
    store = Store(config.store)
    published = published_dates(spark, store, "recommendations")
    run_date = run_date or max(published, default=None)
    if run_date not in published or run_date is None:
        named = "any date" if run_date is None else str(run_date)
        raise InputError(
            f"no lists of {named} are published in {config.store}: run first "
            + config.command("nightly", f"--run-date {run_date or 'DATE'}")
        )
    with Stages(console).stage(f"lists of {run_date} and the histories of {most} customers"):
        lists = spark.read.parquet(files.for_reading(store.date_folder("recommendations", run_date)))
        with scratch_folder(spark, store, "sheet") as work:
            inputs = read_inputs(spark, config, run_date, work, _INPUTS, optouts_as_of=max(published))
            if inputs.opted_out is not None:  # they may have opted out since the lists were published
                gone = inputs.opted_out
                if config.privacy.pseudonyms:
                    gone = gone.select(keyed_hashes(privacy_key(spark, config))(F.col("user_id")).alias("user_id"))
                lists = lists.join(gone, on="user_id", how="left_anti")
            drawn = drawn_customers(lists, most, config.train.seed)
            of_drawn = {table: _of(drawn, rows) for table, rows in inputs.used.items()}
            customers = collect_customers(
                lists.join(drawn, on="user_id", how="left_semi"), histories(of_drawn, _EVENTS)
            )
    file.write_text(render(customers, run_date, config.timezone, config.train.seed), encoding="utf-8")
    console.print(f"Wrote {file}: {len(customers)} customers", highlight=False, markup=False)
    return len(customers)


def drawn_customers(lists: DataFrame, most: int, seed: int) -> DataFrame:
    """Return the `user_id` of `most` customers with a list, drawn by a hash of id and seed."""
    order = F.xxhash64("user_id", F.lit(seed))
    return lists.select("user_id").distinct().orderBy(order, "user_id").limit(most)


def collect_customers(lists: DataFrame, past: DataFrame) -> list[SheetCustomer]:
    """Collect `lists` (rows of recommendations) and `past` (rows of `histories`), in an order that no id decides."""
    shown = [F.col(name) if name in lists.columns else F.lit("").alias(name) for name in ("category", "because")]
    product = F.struct("rank", "title", *shown)
    listed = lists.groupBy("user_id").agg(F.array_sort(F.collect_list(product)).alias("products"))
    rows = listed.join(past.select("user_id", "events", "events_total"), on="user_id", how="left")
    found = []
    for row in rows.orderBy(F.xxhash64("user_id")).toLocalIterator():
        events = [
            SheetEvent(event["at"], event["kind"], _shown(event["title"], event["text"]), event["rating"])
            for event in reversed(row["events"] or [])
        ]
        products = [
            SheetProduct(_shown(one["title"]), one["category"] or "", one["because"] or "") for one in row["products"]
        ]
        found.append(SheetCustomer(events, row["events_total"] or 0, products))
    return found


def render(customers: list[SheetCustomer], run_date: date, timezone: str, seed: int) -> str:
    """Return the sheet as HTML; days are those of the shop's `timezone`."""
    zone = ZoneInfo(timezone)
    pages = environment()
    pages.filters["day"] = lambda at: f"{at.astimezone(zone):%Y-%m-%d}"
    text: str = pages.get_template("sheet.html.jinja").render(
        customers=customers,
        run_date=run_date,
        seed=seed,
        css=style("sheet.css"),
        product_marks=PRODUCT_MARKS,
        list_marks=LIST_MARKS,
    )
    return text


def _of(drawn: DataFrame, rows: DataFrame) -> DataFrame:
    """The rows of the drawn customers; all rows of a table without customers."""
    return rows.join(F.broadcast(drawn), on="user_id", how="left_semi") if "user_id" in rows.columns else rows


def _shown(*texts: str | None) -> str:
    """Join texts, redacted and cut."""
    text = ": ".join(redact(text) for text in texts if text)
    return text if len(text) <= _TEXT else f"{text[:_TEXT].rstrip()}…"
