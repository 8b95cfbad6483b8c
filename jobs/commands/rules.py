"""`regulars rules`: what each rule costs, on a sample of the customers of one date. Writes nothing that a reader sees.

The lists of the sample are made with all rules, then again without each rule for the customers whom it concerns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.config.config import Config
from jobs.evaluation.ranking_figures import write_json
from jobs.evaluation.rule_bill import Interval, RuleBill, rule_bill
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.scoring import models
from jobs.spark import files, parquet
from jobs.spark.errors import ConfigurationError
from jobs.spark.progress import Stages, warn
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import usual_seconds
from jobs.tables import customer_rules, list_rules, prompts, recommendations
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.list_rules import NightRules
from jobs.tasks import recommend
from jobs.tasks.task import TaskContext, model_warnings
from jobs.training.training_data import sample_by_hash
from lm.recommend.same_titles import SAME_TITLE


def show_rules(
    spark: SparkSession,
    config: Config,
    run_date: date,
    days: int,
    customers: int,
    console: Console,
    config_file: str,
    json_file: Path | None = None,
) -> list[RuleBill]:
    """Print and return the cost of each rule that holds on `run_date`, on at most `customers` customers.

    The purchases of the `days` days after it judge the lists. `json_file` gets all figures, with the ids of the
    customers whose lists change most; the terminal shows no id. `recommend.same_title` is shown like a rule where
    products share a title. Raises ConfigurationError where there is neither, and the errors of a night about its rules,
    inputs and model.
    """
    night = NightRules.of(config, run_date)
    stages = Stages(console, usual=usual_seconds(spark, Store(config.store)))
    model = recommend.find_model(config, config_file)
    for warning in model_warnings(recommend.NAME, model, config, run_date):
        warn(console, warning)
    with scratch_folder(spark, Store(config.store), "rules") as scratch:
        with stages.stage("reading the inputs", like="inputs"):
            used = read_inputs(spark, config, run_date, f"{scratch}/inputs").used
        shipped = models.shipped(spark, model)
        context = TaskContext(spark, config, Store(config.store), "rules", run_date, used, shipped)
        items = recommend.products(context, night)
        catalogue = SellableCatalogue(items, night)
        if not night.rules and catalogue.same_titles is None:
            raise ConfigurationError(f"no rule holds on {run_date}: name one in the section `rules` of {config_file}")
        list_rules.refuse_empty_lists(
            catalogue.members, catalogue.never, customer_rules.sets_of_rules(used, night), night
        )
        with stages.stage("the model makes the lists with all rules and without each of them"):
            lists = _lists(context, night, items, catalogue, customers, scratch)
        last = run_date + timedelta(days=days)
        with stages.stage(f"reading the purchases up to {last}", like="inputs", is_part=True):
            later = read_inputs(spark, config, last, f"{scratch}/later", ("purchases", "items", "optouts")).used
            bought = _bought_later(later["purchases"], config, run_date, lists[None])
    titles = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
    names = [rule.name for rule in night.rules] + ([SAME_TITLE] if catalogue.same_titles is not None else [])
    bills = [
        rule_bill(name, lists[None], lists.get(name, {}), bought, len(titles), config.recommend.k) for name in names
    ]
    _print(console, bills, titles, len(lists[None]), f"{run_date}, judged by the purchases of {days} days")
    write_json(console, {bill.rule: asdict(bill) for bill in bills}, json_file)
    return bills


def _lists(
    context: TaskContext,
    night: NightRules,
    items: DataFrame,
    catalogue: SellableCatalogue,
    customers: int,
    scratch: str,
) -> dict[str | None, dict[str, list[str]]]:
    """The lists of sampled customers with all rules (None), and those that differ without a rule, by its name."""
    spark, settings = context.spark, context.config.recommend
    sampled = sample_by_hash(recommend.customer_events(context), "user_id", customers)
    rendered = prompts.prompts(sampled, context.model.encoder_loader(), settings.prompt_tokens)
    rendered = _written(spark, rendered, f"{scratch}/prompts")
    full = _requests(context, rendered, night, items)
    parts = [full.withColumn("variant", F.lit(None).cast("string"))]
    same = ["excluded", "rules"]
    asked = full.select("user_id", F.struct(*same).alias("full"))
    for rule in night.rules:
        variant = _requests(context, rendered, replace(night, without=rule.name), items)
        differs = ~F.struct(*same).eqNullSafe(F.col("full"))
        concerned = variant.join(asked, on="user_id", how="inner").where(differs).drop("full")
        parts.append(concerned.withColumn("variant", F.lit(rule.name)))
    requests = parts[0]
    for part in parts[1:]:
        requests = requests.unionByName(part)
    requests = _written(spark, requests, f"{scratch}/requests")
    asked_of = [(context, catalogue, requests)]
    if catalogue.same_titles is not None:
        alike = requests.where("variant IS NULL").withColumn("variant", F.lit(SAME_TITLE))
        asked_of.append((replace(context, run_id=f"{context.run_id}-titles"), catalogue.with_same_titles(), alike))
    lists: dict[str | None, dict[str, list[str]]] = {None: {}}
    tasks = spark.sparkContext.defaultParallelism
    for its_context, its_catalogue, its_requests in asked_of:
        load = recommend.load_once(its_context, its_catalogue)
        scored = recommendations.score(its_requests.repartition(tasks), load(), settings.k + settings.spares)
        found = _written(
            spark, scored.select("variant", "user_id", "result", "failure"), f"{scratch}/{its_context.run_id}"
        )
        for row in found.select("variant", "user_id", F.col("result.item_id").alias("listed")).toLocalIterator():
            lists.setdefault(row["variant"], {})[row["user_id"]] = (row["listed"] or [])[: settings.k]
    return {
        name: of if name is None else {user: one for user, one in of.items() if one != lists[None][user]}
        for name, of in lists.items()
    }


def _requests(context: TaskContext, rendered: DataFrame, night: NightRules, items: DataFrame) -> DataFrame:
    """The requests of customers whose prompts are `rendered`: `user_id`, `prompt`, `excluded`, `rules`."""
    repeated = customer_rules.repeated_purchases(context.used, night, items)
    bought = rendered.withColumnRenamed("excluded", "purchased")
    found = customer_rules.with_exclusions(bought, context.used, repeated, context.config.recommend)
    rendered = found.withColumnRenamed("purchased", "excluded")
    if not night.rules:
        return rendered.select("user_id", "prompt", "excluded", F.lit(None).cast("string").alias("rules"))
    ruled = customer_rules.with_rules(rendered, context.used, night, items, repeated)
    return ruled.select("user_id", "prompt", "excluded", "rules")


def _bought_later(
    purchases: DataFrame, config: Config, run_date: date, listed: Mapping[str, Sequence[str]]
) -> dict[str, set[str]]:
    """What customers with a list bought after `run_date`; with exclude_purchased only what was new to them."""
    is_past = is_before(end_of_date(run_date, config.timezone), "purchased_at")
    bought = purchases.groupBy("user_id").agg(
        F.collect_set(F.when(~is_past, F.col("item_id"))).alias("after"),
        F.collect_set(F.when(is_past, F.col("item_id"))).alias("before"),
    )
    wanted = F.array_except("after", "before") if config.recommend.exclude_purchased else F.col("after")
    rows = bought.select("user_id", wanted.alias("wanted")).where(F.size("wanted") > 0)
    return {row["user_id"]: set(row["wanted"]) for row in rows.toLocalIterator() if row["user_id"] in listed}


def _written(spark: SparkSession, frame: DataFrame, folder: str) -> DataFrame:
    parquet.write(spark, frame, folder)
    return spark.read.schema(frame.schema).parquet(files.for_reading(folder))


def _print(console: Console, bills: Sequence[RuleBill], titles: Mapping[str, str], customers: int, about: str) -> None:
    heads = (
        "rule",
        "customers changed",
        "rows changed",
        "coverage with",
        "without",
        "NDCG with",
        "without",
        "difference",
    )
    table = Table(*heads, title=f"{customers:,} customers, {about}", title_justify="left")
    for bill in bills:
        ndcg = [_cell(one) for one in bill.ndcg] if bill.ndcg else ["no purchases", "", ""]
        coverage = [_cell(one) for one in bill.coverage]
        table.add_row(escape(bill.rule), f"{bill.customers:,}", f"{bill.rows:,}", *coverage, *ndcg)
    console.print(table)
    for bill in bills:
        if not bill.customers:
            continue
        for verb, products in (("lists", bill.listed), ("displaces", bill.displaced)):
            named = _named(products, titles)
            console.print(f"{bill.rule} {verb}: {named or 'nothing'}", highlight=False, markup=False)
        worst = ", ".join(f"{rows} rows ({share:.0%})" for _, rows, share in bill.worst)
        console.print(
            f"{bill.rule}: of the lists that change most it displaces {worst}. 100% is a whole list, in which rank 1 "
            "weighs most.",
            highlight=False,
            markup=False,
        )


def _named(products: Sequence[tuple[str, int]], titles: Mapping[str, str]) -> str:
    """Name products with their lists by their titles, and by their ids where a title stands for several."""
    shown = [titles.get(item, item) for item, _ in products]
    names = [
        f"{title} [{item}]" if shown.count(title) > 1 else title
        for title, (item, _) in zip(shown, products, strict=True)
    ]
    return ", ".join(f"{name} ({n:,})" for name, (_, n) in zip(names, products, strict=True))


def _cell(figure: Interval) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})"
