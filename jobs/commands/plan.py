"""`regulars plan`: what running dates would cost, before anything is run.

It reads the inputs, renders the prompts of each date as its night would, and asks the ledger. It runs no model and
changes nothing that a run or a reader sees.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.inputs.reader import read_inputs, tables_of_night
from jobs.scoring import ledger, models
from jobs.spark import files, parquet
from jobs.spark.progress import Stages, dates_done
from jobs.store.dates import DateState, Run, published_runs, run_of
from jobs.store.scratch import reading_ledger
from jobs.store.store import Store, published_dates
from jobs.store.usual_seconds import usual_seconds
from jobs.tasks import recommend
from jobs.tasks.all_tasks import wanted_tasks
from jobs.tasks.task import PreparedTask, TaskContext
from jobs.tasks.versions import own_config

#: Fewest scored requests of a run that measures the speed; without such a run the largest one counts.
_ENOUGH_SCORED = 100


@dataclass(frozen=True)
class PlannedDate:
    """One date: why it would run, its requests by task, and its minutes (None: never measured)."""

    run_date: date
    reason: str
    customers: int
    hits: Mapping[str, int]
    to_score: Mapping[str, int]
    minutes: float | None
    #: Of the lists to score, those whose prompt has a list already, by each rule that binds for them now.
    by_rule: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Rates:
    """Measured speed: requests a second of each task, and the seconds of a night without the model."""

    per_second: dict[str, float] = field(default_factory=dict)
    other_seconds: float | None = None

    def minutes(self, to_score: Mapping[str, int]) -> float | None:
        """Estimate a night; None where what it needs was never measured."""
        if self.other_seconds is None or any(n and not self.per_second.get(t) for t, n in to_score.items()):
            return None
        return (self.other_seconds + sum(n / self.per_second[t] for t, n in to_score.items() if n)) / 60


def plan(
    spark: SparkSession,
    config: Config,
    due: Mapping[date, tuple[DateState, str]],
    console: Console,
    config_file: str,
    *,
    own_versions: bool = False,
) -> list[PlannedDate]:
    """Plan the dates in the order in which they would run, and print them.

    Answers that an earlier date of the plan would add to the ledger count as hits of the later dates. Raises StoreBusy
    while gc rewrites the ledger.
    """
    store = Store(config.store)
    stages = Stages(console, usual=usual_seconds(spark, store))
    published = published_runs(spark, store, published_dates(spark, store, "runs"))
    rates = measured_rates([*published.values(), *_replaced_runs(spark, store)])
    planned: list[PlannedDate] = []
    begun = time.monotonic()
    foreseen: dict[str, list[tuple[date, DataFrame]]] = {}
    with reading_ledger(spark, store, "plan") as scratch:
        for number, (day, (state, reason)) in enumerate(due.items(), 1):
            date_of_all = f"{day} ({number} of {len(due)})" if len(due) > 1 else str(day)
            settings = config
            if own_versions and state.run is not None:
                settings = own_config(spark, store, config, state.run.versions)
            asked = _requests(spark, settings, day, config_file, f"{scratch}/{day}", stages, date_of_all)
            hits, to_score, by_rule = {}, {}, {}
            for task, (prepared, requests) in asked.items():
                keys = requests.select("key")
                with stages.stage(f"{date_of_all}: what the ledger knows of {task}"):
                    missing = _missing(spark, store, prepared, keys, foreseen.setdefault(task, []), f"{scratch}/{day}")
                total = keys.distinct().count()
                to_score[task] = missing.count()
                hits[task] = total - to_score[task]
                foreseen[task].append((day, missing))
                if "bound" in requests.columns:
                    by_rule = _asked_again(spark, store, prepared, requests, missing)
            customers = asked[recommend.NAME][1].count() if recommend.NAME in asked else 0
            planned.append(PlannedDate(day, reason, customers, hits, to_score, rates.minutes(to_score), by_rule))
            if number < len(due):
                console.print(dates_done(number, len(due), begun), highlight=False)
    console.print(_table(planned))
    for one in planned:
        for rule, requests_of_rule in one.by_rule.items():
            console.print(
                f"{one.run_date}: {requests_of_rule:,} prompts have a list, but not under today's rule {rule}",
                highlight=False,
                markup=False,
            )
    return planned


def measured_rates(runs: Iterable[Run]) -> _Rates:
    """The newest measured speed of each task, and the seconds of the newest night without the model."""
    rates = _Rates()
    newest_first = sorted(runs, key=lambda run: run.finished_at, reverse=True)
    tasks = {name.removesuffix(".scored") for run in newest_first for name in run.rows if name.endswith(".scored")}
    for task in tasks:
        measured = [run for run in newest_first if run.rows.get(f"{task}.scored") and run.seconds.get(f"{task}.model")]
        if measured:
            enough = [run for run in measured if run.rows[f"{task}.scored"] >= _ENOUGH_SCORED]
            best = enough[0] if enough else max(measured, key=lambda run: run.rows[f"{task}.scored"])
            rates.per_second[task] = best.rows[f"{task}.scored"] / best.seconds[f"{task}.model"]
    if newest_first:
        run = newest_first[0]
        model = sum(seconds for name, seconds in run.seconds.items() if name.endswith(".model"))
        rates.other_seconds = max(run.wall_seconds - model, 0.0)
    return rates


def _replaced_runs(spark: SparkSession, store: Store) -> list[Run]:
    """The runs that the trash still has: a date that ran again without a request measured its model only before."""
    folders = []
    for run_id in files.listdir(spark, f"{store.root}/trash"):
        folder = f"{store.trash(run_id)}/tables/runs"
        folders += [f"{folder}/{name}" for name in files.listdir(spark, folder)]
    found = files.each(lambda folder: parquet.small_rows(spark, folder), folders)
    return [run_of(row) for rows in found for row in rows]


def _requests(
    spark: SparkSession, config: Config, day: date, config_file: str, scratch: str, stages: Stages, date_of_all: str
) -> dict[str, tuple[PreparedTask, DataFrame]]:
    """Per task its preparation and the date's requests (written, one row each).

    Their columns are `key` and, under rules, `prompt_hash` and `bound`, the names of the rules.
    """
    found = [(task, task.find_model(config, config_file)) for task in wanted_tasks(config)]
    with stages.stage(f"{date_of_all}: reading the inputs", like="inputs"):
        used = read_inputs(spark, config, day, f"{scratch}/inputs", tables_of_night(config)).used
    asked = {}
    for task, model in found:
        shipped = models.shipped(spark, model)
        with stages.stage(f"{date_of_all}: the requests of {task.NAME}"):
            prepared = task.prepare(TaskContext(spark, config, Store(config.store), "plan", day, used, shipped))
            named = ["key", *(["prompt_hash", "bound"] if "bound" in prepared.requests.columns else [])]
            requests = prepared.requests.where("key IS NOT NULL").select(*named)
            asked[task.NAME] = (prepared, _written(spark, requests, f"{scratch}/{task.REQUESTS}"))
    return asked


def _asked_again(
    spark: SparkSession, store: Store, prepared: PreparedTask, requests: DataFrame, missing: DataFrame
) -> dict[str, int]:
    """Of the missing requests, those whose prompt has an answer under other rules, by each rule that binds for them."""
    terms = prepared.terms
    answered = ledger.read(spark, store, terms.task, terms.result_type).where(
        (F.col("scored_on") <= F.lit(terms.run_date)) & (F.col("model_version") == F.lit(terms.model_version))
    )
    prompts = answered.select("prompt_hash").distinct()
    asked = requests.join(missing, on="key", how="left_semi").dropDuplicates(["key"])
    again = asked.join(prompts, on="prompt_hash", how="left_semi").select(F.explode("bound").alias("rule"))
    return {row["rule"]: row["count"] for row in again.groupBy("rule").count().orderBy("rule").collect()}


def _missing(
    spark: SparkSession,
    store: Store,
    prepared: PreparedTask,
    keys: DataFrame,
    foreseen: list[tuple[date, DataFrame]],
    scratch: str,
) -> DataFrame:
    """The keys that neither the ledger nor an earlier date of the plan would answer."""
    terms = prepared.terms
    folder = f"{scratch}/{terms.task}_found"
    missing = ledger.look_up(spark, store, terms, keys, folder, prepared.enough).missing.select("key")
    for day, answered in foreseen:
        if day <= terms.run_date:
            missing = missing.join(answered, on="key", how="left_anti")
    return _written(spark, missing, f"{scratch}/{terms.task}_missing")


def _written(spark: SparkSession, frame: DataFrame, folder: str) -> DataFrame:
    parquet.write(spark, frame, folder)
    return spark.read.schema(frame.schema).parquet(files.for_reading(folder))


def _table(planned: list[PlannedDate]) -> Table:
    table = Table("date", "reason", "customers", "answered by the ledger", "to score", "minutes", title="Plan")
    for one in planned:
        minutes = "not measured yet" if one.minutes is None else f"{one.minutes:,.1f}"
        table.add_row(
            str(one.run_date), one.reason, f"{one.customers:,}", _counts(one.hits), _counts(one.to_score), minutes
        )
    if len(planned) > 1:
        known = [one.minutes for one in planned if one.minutes is not None]
        total = f"{sum(known):,.1f}" if len(known) == len(planned) else ""
        to_score = sum(sum(one.to_score.values()) for one in planned)
        table.add_row(f"{len(planned)} dates", "", "", "", f"{to_score:,}", total, style="bold")
    return table


def _counts(by_task: Mapping[str, int]) -> str:
    return ", ".join(f"{task} {n:,}" for task, n in by_task.items())
