"""Judges published lists by what customers bought next, and the sentiment model by reviews that it never saw.

For whoever decides whether the lists are worth sending. Alone:

    regulars evaluate --config regulars.yaml --run-date 2026-02-15 --days 14 --json figures.json

A customer is judged who has a list of `run_date` and bought something in the days after it. Two questions are asked:
`new_items` (of what they had never bought: how much was in the list?) and `all_items` (of everything they bought).
The metrics are those of `lm.metrics`: hit@k, recall@k, NDCG@k with binary gains, MRR, over the whole catalogue.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from jobs import files, training_data
from jobs.config import Config
from jobs.errors import ConfigurationError, InputError
from jobs.inputs import end_of, is_before, read_inputs
from jobs.store import Store
from lm import baselines, metrics
from lm.checkpoint import CheckpointError, resolve
from lm.splits import part_of

#: Customers that are judged, and whose purchases the baselines learn from, at most; drawn by a hash of their ids.
JUDGED = 50_000
LEARNED_FROM = 200_000
#: A customer's purchases that the baselines learn from, the newest.
PURCHASES_OF_ONE = 200

Lists = list[list[str]]
Figures = dict[str, dict[str, float]]


class Judged(NamedTuple):
    """One customer: the published list, what was bought up to the run date (in order) and after it."""

    listed: list[str]
    before: list[str]
    after: list[str]


def evaluate_time_split(
    spark: SparkSession,
    config: Config,
    run_date: date,
    days: int,
    console: Console,
    json_file: Path | None = None,
    ks: Sequence[int] = (5, 10),
) -> dict[str, Any]:
    """Judge the lists published for `run_date` by the purchases of the `days` days after it, beside plain baselines.

    Prints a table, writes the figures to `json_file` and returns them: `new_items` and `all_items`, each with
    `customers` and per rival `metric -> {value, low, high}`. Baselines know purchases up to `run_date` only.
    Raises InputError where no lists are published for the date, or nobody with a list bought anything.
    """
    published = _published(spark, config, run_date)
    last = run_date + timedelta(days=days)
    needed = {name: source for name, source in config.inputs.items() if name in ("purchases", "items", "optouts")}
    work = Store(config.store).work(f"evaluate-{run_date}-{uuid.uuid4().hex[:8]}")
    try:
        used = read_inputs(spark, config.model_copy(update={"inputs": needed}), last, work).used
        bought = purchases_around(used["purchases"], is_before(end_of(run_date, config.timezone), "purchased_at"))
        judged = _judged(bought, published)
        known = _known_purchases(bought)
        sellable = used["items"].where("available").select("item_id").toArrow()["item_id"].to_pylist()
    finally:
        files.delete(spark, work)
    if not judged:
        raise InputError(
            f"nobody with a list of {run_date} has a purchase from {run_date + timedelta(days=1)} to {last}: "
            "give a --run-date with purchases after it, or more --days"
        )
    ks = [k for k in ks if k <= config.recommend.k] or [config.recommend.k]
    figures: dict[str, Any] = {
        "protocol": "time-split",
        "run_date": run_date.isoformat(),
        "days": days,
        "exclude_purchased": config.recommend.exclude_purchased,
        "new_items": compare(judged, known, sellable, ks, new_only=True),
        "all_items": compare(judged, known, sellable, ks, new_only=False),
    }
    for question in ("new_items", "all_items"):
        console.print(_table(f"{question.replace('_', ' ')}, {days} days after {run_date}", figures[question], ks[-1]))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False)
    return figures


def purchases_around(purchases: DataFrame, is_past: Any) -> DataFrame:
    """One row a customer: `before` and `after` (item ids in order of purchase; the newest 200 before, all after)."""
    line = F.struct("purchased_at", "item_id")
    newest = F.expr(
        "max_by(struct(purchased_at, item_id), struct(purchased_at, item_id), "
        f"{PURCHASES_OF_ONE}) FILTER (WHERE is_past)"
    )
    marked = purchases.withColumn("is_past", is_past)
    grouped = marked.groupBy("user_id").agg(
        newest.alias("newest"),
        F.array_sort(F.collect_list(F.when(~F.col("is_past"), line))).alias("later"),
        F.collect_set(F.when(F.col("is_past"), F.col("item_id"))).alias("ever"),
    )
    none = F.array().cast("array<string>")
    return grouped.select(
        "user_id",
        F.coalesce(F.transform(F.reverse("newest"), lambda line: line["item_id"]), none).alias("before"),
        F.transform("later", lambda line: line["item_id"]).alias("after"),
        "ever",
    )


def compare(
    judged: Sequence[Judged],
    known: Sequence[Sequence[str]],
    sellable: Sequence[str],
    ks: Sequence[int],
    *,
    new_only: bool,
) -> dict[str, Any]:
    """Figures of the lists and of each baseline, on the same customers; `new_only` leaves earlier purchases out."""
    asked = []
    for one in judged:
        relevant = set(one.after) - set(one.before) if new_only else set(one.after)
        if relevant:
            asked.append((one, relevant))
    found: dict[str, Any] = {"customers": len(asked)}
    if not asked:
        return found
    before = [one.before for one, _ in asked]
    barred = [set(one.before) if new_only else set() for one, _ in asked]
    popular = baselines.popularity(known, set(sellable))
    k = max(ks)
    listed = [[item for item in one.listed if item not in bar][:k] for (one, _), bar in zip(asked, barred, strict=True)]
    rivals = {
        "GPT-2": listed,
        "co-purchase": baselines.CoPurchases.fit(known).recommend(before, popular, barred, k),
        "popularity": baselines.recommend_popular(popular, barred, k),
    }
    if not new_only:
        rivals["buy again"] = baselines.recommend_again(before, popular, k)
    counts = Counter(item for history in known for item in history)
    relevant_items = [relevant for _, relevant in asked]
    for rival, lists in rivals.items():
        found[rival] = _figures(lists, relevant_items, counts, max(len(sellable), 1), ks)
    return found


def _figures(
    lists: Lists, relevant: Sequence[set[str]], purchases: Mapping[str, int], catalogue: int, ks: Sequence[int]
) -> Figures:
    figures = {}
    for k in ks:
        of_customers = {
            f"hit@{k}": metrics.hit_at_k(lists, relevant, k),
            f"recall@{k}": metrics.recall_at_k(lists, relevant, k),
            f"ndcg@{k}": metrics.ndcg_at_k(lists, relevant, k),
            f"mrr@{k}": metrics.reciprocal_rank(lists, relevant, k),
            f"mean_popularity@{k}": metrics.mean_popularity(lists, purchases, k),
        }
        for name, values in of_customers.items():
            mean, low, high = metrics.mean_interval(values)
            figures[name] = {"value": mean, "low": low, "high": high}
        figures[f"coverage@{k}"] = {"value": metrics.coverage(lists, catalogue, k)}
    return figures


def evaluate_sentiment_holdout(
    spark: SparkSession, config: Config, as_of: date, console: Console, json_file: Path | None = None
) -> dict[str, float]:
    """Judge models.sentiment by the rated reviews up to `as_of` that no training of ours learns from (a tenth).

    Accuracy, macro-F1 (with 95% intervals), balanced accuracy, expected calibration error, and the majority
    class's. Raises ConfigurationError without inputs.reviews or a model, InputError without such reviews.
    """
    if "reviews" not in config.inputs:
        raise ConfigurationError("inputs.reviews is missing: there are no reviews to judge by")
    from lm.classify import SentimentClassifier
    from lm.train_sentiment import UNRATED, classification_figures

    store = Store(config.store)
    work = store.work(f"evaluate-{as_of}-{uuid.uuid4().hex[:8]}")
    needed = config.model_copy(update={"inputs": {t: i for t, i in config.inputs.items() if t != "questions"}})
    try:
        used = read_inputs(spark, needed, as_of, work).used
        stars = config.sentiment
        texts, labels = training_data.reviews(used, stars.negative_stars, stars.positive_stars)
    finally:
        files.delete(spark, work)
    rows = [i for i, text in enumerate(texts) if labels[i] != UNRATED and part_of(text) == "test"]
    if not rows:
        raise InputError(f"no rated review up to {as_of} is held out: give a later date")
    try:
        classifier = SentimentClassifier.load(resolve(config.models.sentiment), dtype="float32")
    except CheckpointError as error:
        raise ConfigurationError(f"models.sentiment: {error}") from None
    p = classifier.classify([texts[i] for i in rows], config.sentiment.max_tokens)
    figures = classification_figures(p, np.array([labels[i] for i in rows]))
    table = Table("", "value", title=f"Sentiment of {len(rows):,} held-out reviews up to {as_of}", title_justify="left")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({"as_of": as_of.isoformat(), **figures}, indent=2) + "\n", encoding="utf-8")
    return figures


def _published(spark: SparkSession, config: Config, run_date: date) -> DataFrame:
    """One row a customer: `listed`, the item ids of the published list, best first."""
    folder = Store(config.store).date_folder("recommendations", run_date)
    if not files.exists(spark, folder):
        raise InputError(
            f"no recommendations of {run_date} are published in {config.store}: "
            f"run regulars nightly --run-date {run_date} first"
        )
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    lists = spark.read.parquet(files.for_reading(folder)).groupBy("user_id").agg(ranked.alias("ranked"))
    return lists.select("user_id", F.transform("ranked", lambda line: line["item_id"]).alias("listed"))


def _judged(bought: DataFrame, published: DataFrame) -> list[Judged]:
    """Customers with a list and purchases after it; `before` also holds what they bought longer ago, unordered."""
    both = bought.where(F.size("after") > 0).join(published, on="user_id", how="inner")
    older = F.array_sort(F.array_except("ever", "before"))
    drawn = both.orderBy(F.xxhash64("user_id"), "user_id").limit(JUDGED).orderBy("user_id")
    table = drawn.select("listed", F.concat(older, "before").alias("before"), "after").toArrow()
    return [Judged(**row) for row in table.to_pylist()]


def _known_purchases(bought: DataFrame) -> list[list[str]]:
    drawn = bought.where(F.size("before") > 0).orderBy(F.xxhash64("user_id"), "user_id").limit(LEARNED_FROM)
    found: list[list[str]] = drawn.orderBy("user_id").select("before").toArrow()["before"].to_pylist()
    return found


def _table(title: str, figures: Mapping[str, Any], k: int) -> Table:
    shown = [f"{name}@{k}" for name in ("hit", "recall", "ndcg", "mrr", "coverage", "mean_popularity")]
    table = Table("", *shown, title=f"{title}: {figures['customers']:,} customers", title_justify="left")
    for rival, of_rival in figures.items():
        if rival != "customers":
            table.add_row(rival, *(_cell(of_rival[name]) for name in shown))
    return table


def _cell(figure: Mapping[str, float]) -> str:
    interval = f" ({figure['low']:.3f}–{figure['high']:.3f})" if "low" in figure else ""
    return f"{figure['value']:.3f}{interval}"
