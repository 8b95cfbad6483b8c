"""Compares the published lists of one date with what customers bought in the days after it.

For whoever decides whether the lists are worth sending. Alone:

    regulars evaluate --config regulars.yaml --run-date 2026-02-15 --days 14 --json figures.json

The figures cover customers who have a list of `run_date` and bought something in the days after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.config.config import Config
from jobs.evaluation import ranking_figures
from jobs.evaluation.ranking_figures import JudgedCustomer, compare_with_baselines
from jobs.evaluation.training_cutoff import refuse_lists_of_later_model
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.spark import files
from jobs.spark.errors import InputError
from jobs.spark.progress import warn
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage
from jobs.training.training_data import collect_sellable, sample_by_hash

#: The most customers that are judged and that the baselines learn from; drawn by a hash of their ids.
MAX_JUDGED_CUSTOMERS = 50_000
MAX_BASELINE_CUSTOMERS = 200_000
#: The most purchases of one customer that the baselines learn from: the newest ones.
MAX_PURCHASES_PER_CUSTOMER = 200

LISTS_ARE_OF_NEW_ITEMS = (
    "The lists leave out what a customer bought before (recommend.exclude_purchased), and the baselines of the last "
    "table do not. So the table of new items says how good the lists are."
)


class NobodyToJudge(InputError):
    """The date has no published lists, or nobody with a list bought anything after it."""


def evaluate_time_split(
    spark: SparkSession,
    config: Config,
    run_date: date,
    days: int,
    console: Console,
    json_file: Path | None = None,
    ks: Sequence[int] = (5, 10),
) -> dict[str, Any]:
    """Judge the lists published for `run_date` as `judge_lists` does; print the figures and write them to `json_file`.

    Raises as judge_lists does.
    """
    figures = judge_lists(spark, config, run_date, days, console, ks)
    for items in ("new_items", "all_items"):
        title = f"{items.replace('_', ' ')}, {days} days after {run_date}"
        ranking_figures.print_figures(console, title, figures[items], _shown(ks, config)[-1])
    if config.recommend.exclude_purchased and figures["all_items"]["customers"]:
        console.print(LISTS_ARE_OF_NEW_ITEMS, highlight=False)
    ranking_figures.write_json(console, figures, json_file)
    return figures


def judge_lists(
    spark: SparkSession, config: Config, run_date: date, days: int, console: Console, ks: Sequence[int] = (5, 10)
) -> dict[str, Any]:
    """Judge the lists published for `run_date` by the purchases of the `days` days after it, beside the baselines.

    Warns where the purchases end before these days do. Returns the figures: `new_items` and `all_items`, each with
    `customers` and `metric -> {value, low, high}` of the model and every baseline at each k of `ks`; `decisive` names
    the one of the two that `recommend.exclude_purchased` makes the shop's aim. The baselines learn from purchases up
    to `run_date`.
    Raises InputError where the model of the lists was trained on later events, and its subclass NobodyToJudge.
    """
    published = _published_lists(spark, config, run_date)
    refuse_lists_of_later_model(spark, config, run_date, console)
    last, store = run_date + timedelta(days=days), Store(config.store)
    with (
        reading_stage(spark, store, console, f"reading the purchases up to {last}"),
        scratch_folder(spark, store, "evaluate") as work,
    ):
        used = read_inputs(spark, config, last, work, ("purchases", "items", "optouts")).used
        bought = purchases_around(used["purchases"], is_before(end_of_date(run_date, config.timezone), "purchased_at"))
        judged = _judged_customers(bought, published)
        known = _known_purchases(bought)
        sellable = collect_sellable(used)
        newest = used["purchases"].agg(F.max(F.to_date("purchased_at"))).collect()[0][0]
    if not judged:
        raise NobodyToJudge(
            f"no customer with a list of {run_date} has a purchase from {run_date + timedelta(days=1)} to {last}: "
            "give a --run-date with purchases after it, or more --days"
        )
    if newest < last:
        told = f"the newest purchase up to {last} is of {newest}"
        warn(console, f"{told}: {(newest - run_date).days} of the {days} days are judged")
    ks = _shown(ks, config)
    figures: dict[str, Any] = {
        "protocol": "time-split",
        "run_date": run_date.isoformat(),
        "days": days,
        "newest_purchase_on": newest.isoformat(),
        "exclude_purchased": config.recommend.exclude_purchased,
        "decisive": "new_items" if config.recommend.exclude_purchased else "all_items",
        "new_items": compare_with_baselines(judged, known, sellable, ks, new_only=True),
        "all_items": compare_with_baselines(judged, known, sellable, ks, new_only=False),
    }
    return figures | ranking_figures.headline_figures(figures[figures["decisive"]])


def _shown(ks: Sequence[int], config: Config) -> list[int]:
    """The lengths of lists that are judged: those that a list has."""
    return [k for k in ks if k <= config.recommend.k] or [config.recommend.k]


def purchases_around(purchases: DataFrame, is_past: Any) -> DataFrame:
    """Return one row per customer: `user_id`, `before`, `after` and `ever`, all item ids.

    `is_past` is a boolean column or expression of the purchases. `before` holds the newest 200 past purchases and
    `after` all later ones, both oldest first. `ever` is the set of items among all past purchases.
    """
    purchase = F.struct("purchased_at", "item_id")
    newest = F.expr(
        "max_by(struct(purchased_at, item_id), struct(purchased_at, item_id), "
        f"{MAX_PURCHASES_PER_CUSTOMER}) FILTER (WHERE is_past)"
    )
    marked = purchases.withColumn("is_past", is_past)
    grouped = marked.groupBy("user_id").agg(
        newest.alias("newest"),
        F.array_sort(F.collect_list(F.when(~F.col("is_past"), purchase))).alias("later"),
        F.collect_set(F.when(F.col("is_past"), F.col("item_id"))).alias("ever"),
    )
    none = F.array().cast("array<string>")
    return grouped.select(
        "user_id",
        F.coalesce(F.transform(F.reverse("newest"), lambda one: one["item_id"]), none).alias("before"),
        F.transform("later", lambda one: one["item_id"]).alias("after"),
        "ever",
    )


def _published_lists(spark: SparkSession, config: Config, run_date: date) -> DataFrame:
    """Return one row per customer: `user_id` and `listed`, the item ids of the published list, best first."""
    folder = Store(config.store).date_folder("recommendations", run_date)
    if not files.exists(spark, folder):
        raise NobodyToJudge(
            f"no recommendations of {run_date} are published in {config.store}: "
            f"run first {config.command('nightly', f'--run-date {run_date}')}"
        )
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    lists = spark.read.parquet(files.for_reading(folder)).groupBy("user_id").agg(ranked.alias("ranked"))
    return lists.select("user_id", F.transform("ranked", lambda row: row["item_id"]).alias("listed"))


def _judged_customers(bought: DataFrame, published: DataFrame) -> list[JudgedCustomer]:
    """Collect the customers with a list and purchases after it.

    Their `before` starts with the items bought before the newest 200 purchases, sorted by id.
    """
    both = bought.where(F.size("after") > 0).join(published, on="user_id", how="inner")
    older = F.array_sort(F.array_except("ever", "before"))
    sample = sample_by_hash(both, "user_id", MAX_JUDGED_CUSTOMERS).orderBy("user_id")
    table = sample.select("listed", F.concat(older, "before").alias("before"), "after").toArrow()
    return [JudgedCustomer(**row) for row in table.to_pylist()]


def _known_purchases(bought: DataFrame) -> list[list[str]]:
    """Collect the past purchases of the customers that the baselines learn from."""
    buyers = bought.where(F.size("before") > 0)
    sample = sample_by_hash(buyers, "user_id", MAX_BASELINE_CUSTOMERS)
    histories: list[list[str]] = sample.orderBy("user_id").select("before").toArrow()["before"].to_pylist()
    return histories
