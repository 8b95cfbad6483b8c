"""`regulars explain`: one customer's list as a night makes it, and why a product is in it.

The list is made again from today's inputs as of the date, by the configured model and rules. It says so where the
published list is another one. The model runs in a Python worker, as in a night.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs.customer_lookup import might_be_customer
from jobs.inputs.reader import read_inputs
from jobs.scoring import models
from jobs.spark import files
from jobs.spark.errors import UsageError
from jobs.spark.key_filter import rows_with
from jobs.spark.privacy_key import keyed_hash
from jobs.spark.progress import Stages
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import usual_seconds
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.list_rules import NightRules
from jobs.tasks import recommend
from jobs.tasks.task import TaskContext
from lm.recommend.same_titles import SAME_TITLE

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.recommend.recommender import Recommender, ScoredItem

#: Input tables that a list depends on, and those of them with one customer in each row.
_OF_CUSTOMERS = ("purchases", "searches", "reviews", "events", "customers")
_INPUTS = (*_OF_CUSTOMERS, "items", "optouts")


@dataclass(frozen=True)
class ExplainedEvent:
    """One event of the prompt and its weight for the explained product."""

    at: datetime
    kind: str
    text: str
    weight: float


@dataclass(frozen=True)
class ExplainedList:
    """A customer's list: one mapping a product, the events of the prompt, and the counterfactual by place of event."""

    products: list[dict[str, Any]]
    events: list[ExplainedEvent]
    without: list[int] | None
    is_verified: bool
    is_published: bool | None  # whether the published list has the same products; None: no list is published
    effects: dict[str, str]  # what each rule of the products does, by its name


def explain(
    spark: SparkSession, config: Config, user: str, run_date: date, rank: int, console: Console, config_file: str
) -> ExplainedList:
    """Explain the list of customer `user` on `run_date`, and print it.

    Raises UsageError where the customer has no event up to the date or opted out, or the list has no such `rank`. An
    unknown customer without a published list is told before all inputs are read.
    """
    store = Store(config.store)
    stages = Stages(console, usual=usual_seconds(spark, store))
    chosen = recommend.find_model(config, config_file)
    ids = {user}
    if config.privacy.pseudonyms:
        ids.add(keyed_hash(privacy_key(spark, config), user))
    published = _published(spark, store, run_date, ids)
    if published is None:
        with stages.stage("looking for the customer in the inputs"):
            is_known = might_be_customer(spark, config, run_date, _OF_CUSTOMERS, ids)
        if not is_known:
            raise _unknown_customer(run_date)
    model = models.shipped(spark, chosen)
    with scratch_folder(spark, store, "explain") as work:
        with stages.stage(f"reading the inputs up to {run_date}", like="inputs", is_part=True):
            used = read_inputs(spark, config, run_date, work, _INPUTS).used
        of_user = {
            table: rows_with(rows, "user_id", ids) if table in _OF_CUSTOMERS else rows for table, rows in used.items()
        }
        context = TaskContext(spark, config, store, f"explain-{run_date}", run_date, of_user, model)
        night = NightRules.of(config, run_date)
        items = recommend.products(context, night)
        catalogue = SellableCatalogue(items, night)
        with stages.stage("the customer's history"):
            asked = recommend.requests(context, night, items, with_events=True).collect()
        if not asked:
            raise _unknown_customer(run_date)
        request = asked[0].asDict()
        load = recommend.load_once(context, catalogue)()
        with stages.stage("the model makes the list with all events and without some of them"):
            answer = ask_worker(spark, request, load, config.recommend.k, rank)
        if answer is None:
            raise UsageError(_no_rank(rank))
        titles = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
        products = [{**one, "title": titles[one["item_id"]]} for one in answer["products"]]
    events = [
        ExplainedEvent(event["at"], event["kind"], event["text"], weight)
        for event, weight in zip(request["events"], answer["weights"], strict=True)
    ]
    listed = [one["item_id"] for one in products]
    same = None if published is None else published[: config.recommend.k] == listed  # --set may ask for a shorter list
    effects = _effects(products, night)
    result = ExplainedList(products, events, answer["without"], answer["is_verified"], same, effects)
    _print(console, result, run_date, rank)
    return result


def _no_rank(rank: int) -> str:
    if rank == 1:
        return "the customer's list is empty: no product on sale is left that the rules and the exclusions allow"
    return f"the customer's list has no rank {rank}: give a smaller --rank"


def _unknown_customer(run_date: date) -> UsageError:
    return UsageError(
        f"there is no customer with this id and an event up to {run_date}, or they opted out. Ids are compared as "
        "text: see the user_id of the table recommendations"
    )


def ask_worker(
    spark: SparkSession, request: Mapping[str, Any], load: Callable[[], Recommender], k: int, rank: int
) -> dict[str, Any] | None:
    """Have a Python worker explain the list of a request (`prompt`, `excluded` and, with rules, `rules`).

    Returns `products`, `weights`, `without` and `is_verified`, or None where the list has no such rank.
    """

    def explain_rows(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from lm.recommend.explanation import explain_list

        model = load()
        for batch in batches:
            for row in batch.to_dict("records"):
                ask = partial(_lists, model, list(row["excluded"]), row["rules"], k)
                try:
                    found = explain_list(model, row["prompt"], ask, rank)
                except IndexError:
                    yield pd.DataFrame({"explanation": ["null"]})
                    continue
                products = [
                    {"item_id": item.item_id, "score": item.score, "rules": item.rules, "parts": part._asdict()}
                    for item, part in zip(found.items, found.parts, strict=True)
                ]
                rest = {"weights": found.weights, "without": found.without, "is_verified": found.is_verified}
                yield pd.DataFrame({"explanation": [json.dumps({"products": products, **rest})]})

    asked = [(request["prompt"], request["excluded"], request.get("rules"))]
    rows = spark.createDataFrame(asked, "prompt string, excluded array<string>, rules string")
    found: dict[str, Any] | None = json.loads(rows.mapInPandas(explain_rows, "explanation string").collect()[0][0])
    return found


def _effects(products: Iterable[Mapping[str, Any]], night: NightRules) -> dict[str, str]:
    """Say of each rule that a product names what it does."""
    known = {rule.name: rule.effect for rule in night.rules}
    known[SAME_TITLE] = (
        "leaves out products whose title the list or the customer has already; the next ones move up "
        "(recommend.same_title)"
    )
    named = dict.fromkeys(name for product in products for name in product["rules"])
    return {name: known[name] for name in named if name in known}


def _lists(
    model: Recommender, excluded: list[str], rules: str | None, k: int, prompts: Sequence[str]
) -> list[list[ScoredItem]]:
    return model.recommend(prompts, [excluded] * len(prompts), k, [rules] * len(prompts))


def _published(spark: SparkSession, store: Store, run_date: date, ids: set[str]) -> list[str] | None:
    """Return the products of the customer's published list, best first; None where there is none."""
    folder = store.date_folder(recommend.TABLE, run_date)
    if not files.exists(spark, folder):
        return None
    lists = spark.read.schema("user_id string, rank int, item_id string").parquet(files.for_reading(folder))
    rows = rows_with(lists, "user_id", ids).orderBy("rank")
    return [row["item_id"] for row in rows.select("item_id").collect()] or None


def _print(console: Console, found: ExplainedList, run_date: date, rank: int) -> None:
    history = Table("#", "when", "what", "", "weight", title=f"What the model read, up to {run_date}")
    for number, event in enumerate(found.events, 1):
        history.add_row(str(number), f"{event.at:%Y-%m-%d}", event.kind, _plain(event.text), f"{event.weight:+.3f}")
    console.print(history)
    console.print(
        f"weight: by how much the score of rank {rank} falls without the event.", style="dim", highlight=False
    )
    parts = list(found.products[0]["parts"])
    lists = Table("rank", "product", "score", *(part.replace("_", " ") for part in parts), "rules", title="List")
    for place, product in enumerate(found.products, 1):
        values = [f"{product['parts'][part]:+.2f}" for part in parts]
        lists.add_row(
            str(place), _plain(product["title"]), f"{product['score']:.2f}", *values, ", ".join(product["rules"])
        )
    console.print(lists)
    for name, effect in found.effects.items():
        console.print(f"rule {name}: {effect}.", style="dim", highlight=False, markup=False)
    title = _plain(found.products[rank - 1]["title"])
    if found.without is None:
        console.print(f"“{title}” would be in the list without any of these events.", highlight=False)
    else:
        numbers = ", ".join(str(event + 1) for event in found.without)
        console.print(
            f"Without event {numbers}, “{title}” would not be in the list "
            f"({'the model made the list again' if found.is_verified else 'not verified'}).",
            highlight=False,
        )
    if found.is_published is False:
        console.print("The published list of this date has other products: data, model or settings changed since.")
    elif found.is_published is None:
        console.print("No list of this customer is published for this date.")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
