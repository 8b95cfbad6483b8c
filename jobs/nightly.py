"""The night: every output table for one run_date, all of them or none. Read `run_night` from top to bottom.

For the data engineer who schedules it: `regulars nightly --config regulars.yaml --run-date D`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs import files, groups, ledger, loyalty, models, parquet, prompts, recommendations, sentiments
from jobs.catalogues import SellableCatalogue
from jobs.config import Config
from jobs.errors import GateRefused
from jobs.histories import histories
from jobs.inputs import Account, read_inputs
from jobs.lock import lock
from jobs.metrics import night_metrics
from jobs.models import Model
from jobs.progress import Stages
from jobs.publish import publish, recover
from jobs.runs import run_row, versions
from jobs.store import Store
from jobs.waves import Terms

if TYPE_CHECKING:
    from lm.generate import Recommender


@dataclass
class Night:
    """What one run did so far: its summary is printed from it, its `runs` row is made of it."""

    run_id: str
    run_date: date
    store: Store
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    accounts: dict[str, Account] = field(default_factory=dict)
    quarantined: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Per task, requests that the ledger answered and those that went through the model.
    reused: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    customers: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    rows: dict[str, int] = field(default_factory=dict)

    def work(self, name: str) -> str:
        """A folder of this run alone."""
        return f"{self.store.work(self.run_id)}/{name}"


def run_night(spark: SparkSession, config: Config, run_date: date, console: Console, config_file: str) -> Night:
    """Run all stages for `run_date`, as of its end in the shop's time zone, and publish.

    Raises a UserError with its exit code for everything that the operator can mend. Whatever happens, readers keep
    whole dates, and the next run goes on from the ledger.
    """
    store = Store(config.store)
    night = Night(f"{run_date}-{uuid.uuid4().hex[:8]}", run_date, store)
    stages = Stages(console)
    night.seconds = stages.seconds
    recommender, classifier = _models(config, config_file)
    with lock(spark, store, night.run_id):
        for line in recover(spark, store):
            console.print(line, highlight=False)
        groups.refuse_switches(spark, store, config.loyalty)
        with stages.stage("inputs"):
            inputs = read_inputs(spark, config, run_date, store.work(night.run_id))
            night.accounts, night.quarantined = inputs.accounts, inputs.by_rule
        with stages.stage("prompts"):
            asked = _prompts(spark, config, night, inputs.used, recommender)
        outputs = {"quarantine": inputs.quarantine, "prompts": asked}
        with stages.stage("recommendations"):
            outputs["recommendations"] = _recommend(
                spark, config, night, asked, inputs.used["items"], recommender, stages
            )
        if classifier:
            with stages.stage("sentiments"):
                outputs["sentiments"] = _label(spark, config, night, inputs.used["reviews"], classifier, stages)
        with stages.stage("loyalty"):
            outputs["loyalty"], model = _loyalty(spark, config, night, inputs.used, outputs.get("sentiments"))
        with stages.stage("metrics"):
            outputs["metrics"] = _metrics(spark, config, night, outputs, asked, inputs.used["items"], model)
        # Only now: the metrics above are of all lists that were computed, the control group's too.
        outputs["recommendations"] = groups.published_lists(outputs["recommendations"], config.loyalty, run_date)
        outputs["runs"] = run_row(spark, night)
        with stages.stage("publishing"):
            night.rows = publish(spark, store, night.run_id, run_date, outputs)
    return night


def _models(config: Config, config_file: str) -> tuple[Model, Model | None]:
    """Find what the night needs before it reads anything: a missing model should cost no minute."""
    recommender = models.find("recommend", config.models.recommend, config_file, config.recommend.language)
    if "reviews" not in config.inputs:
        return recommender, None
    return recommender, models.find("sentiment", config.models.sentiment, config_file)


def _prompts(spark: SparkSession, config: Config, night: Night, used: dict[str, DataFrame], model: Model) -> DataFrame:
    """Render each customer's prompt and the key of the request that it makes."""
    settings = config.recommend
    rendered = prompts.prompts(histories(used, settings.history_events), model.encoder_loader(), settings.prompt_tokens)
    if not settings.exclude_purchased:
        rendered = prompts.without_exclusions(rendered)
    key = ledger.request_key(
        recommendations.TASK,
        F.col("prompt"),
        model_version=model.fingerprint,
        settings={"candidates": settings.k + settings.spares, "beams": settings.beams},
        exclusions=F.col("excluded_hash"),
    )
    asked, night.customers = _kept(spark, rendered.withColumn("key", key), night.work("prompts"))
    night.tokens = asked.agg(F.sum("tokens")).first()[0] or 0  # type: ignore[index]
    night.versions["recommend"] = model.fingerprint
    return asked


def _recommend(
    spark: SparkSession,
    config: Config,
    night: Night,
    asked: DataFrame,
    items: DataFrame,
    model: Model,
    stages: Stages,
) -> DataFrame:
    """Score the requests that the ledger cannot answer and make today's lists."""
    settings = config.recommend
    catalogue = SellableCatalogue(items)
    night.versions["catalogue"] = catalogue.version
    terms = Terms(
        recommendations.TASK,
        recommendations.RESULT,
        night.run_id,
        night.run_date,
        model.fingerprint,
        catalogue.version,
        config.ledger.max_age_days,
    )

    @cache  # built only if something has to be scored, once for all waves
    def load() -> Callable[[], Recommender]:
        folder = catalogue.write(night.work("catalogue"), model.encoder())
        return models.recommender_loader(model, folder, settings.beams)

    with stages.counter("customers") as counter:
        answers = ledger.results(
            spark,
            night.store,
            terms,
            asked,
            lambda requests: recommendations.score(requests, load(), settings.k + settings.spares),
            enough=ledger.enough_sellable(catalogue.item_ids, settings.k),
            wave_minutes=config.ledger.wave_minutes,
            progress=counter.update,
        )
    night.reused[terms.task], night.scored[terms.task] = answers.reused, answers.scored
    lists = recommendations.lists(asked, answers.rows, items, settings.k)
    return _kept(spark, lists, night.work("lists"))[0]


def _label(
    spark: SparkSession, config: Config, night: Night, reviews: DataFrame, model: Model, stages: Stages
) -> DataFrame:
    """Score the date's reviews that the ledger cannot answer and label them all."""
    settings = config.sentiment
    terms = Terms(sentiments.TASK, sentiments.RESULT, night.run_id, night.run_date, model.fingerprint)
    night.versions["sentiment"] = model.fingerprint
    key = ledger.request_key(
        sentiments.TASK,
        F.col("prompt"),
        model_version=model.fingerprint,
        settings={"max_tokens": settings.max_tokens},
    )
    due = sentiments.with_clean_text(sentiments.reviews_of(reviews, night.run_date, settings.lookback_days))
    hashed = due.withColumns({"key": key, "prompt_hash": F.substring(F.sha2("prompt", 256), 1, 32)})
    asked, _ = _kept(spark, hashed, night.work("reviews_due"))
    load = models.classifier_loader(model)
    with stages.counter("reviews") as counter:
        answers = ledger.results(
            spark,
            night.store,
            terms,
            asked,
            lambda requests: sentiments.score(requests, load, settings.max_tokens),
            wave_minutes=config.ledger.wave_minutes,
            progress=counter.update,
        )
    night.reused[terms.task], night.scored[terms.task] = answers.reused, answers.scored
    stars = sentiments.StarLabels(settings.negative_stars, settings.positive_stars, settings.disagree_confidence)
    return _kept(spark, sentiments.labels(asked, answers.rows, stars), night.work("labels"))[0]


def _loyalty(
    spark: SparkSession, config: Config, night: Night, used: dict[str, DataFrame], labels: DataFrame | None
) -> tuple[DataFrame, loyalty.LoyaltyModel]:
    """Measure every customer who bought, learn from a sample of them and score them all."""
    scores = None
    if "reviews" in used:
        published = loyalty.labels_as_of(spark, night.store, night.run_date, labels)
        scores = loyalty.review_scores(used["reviews"], published)
    measures = loyalty.measures(used["purchases"], scores, night.run_date)
    measured, _ = _kept(spark, measures, night.work("measures"))
    model = loyalty.learn(measured, config.loyalty)
    return _kept(spark, loyalty.score(measured, model, config.loyalty), night.work("loyalty"))[0], model


def _metrics(
    spark: SparkSession,
    config: Config,
    night: Night,
    outputs: dict[str, DataFrame],
    asked: DataFrame,
    items: DataFrame,
    model: loyalty.LoyaltyModel,
) -> DataFrame:
    """Compute the night's metrics and refuse lists that are short without a reason."""
    found = night_metrics(outputs, asked, items, config.recommend.k)
    found = found.unionByName(loyalty.model_metrics(spark, model, outputs["loyalty"]))
    rows, _ = _kept(spark, found, night.work("metrics"))
    lost = rows.where("metric = 'short_lists' AND slice = 'unexplained'").first()
    if lost is not None:
        raise GateRefused(
            f"{lost['n']:,} customers have fewer than {config.recommend.k} products in their lists although more could"
            " be sold to them. Nothing was published, the old data stays. Was the ledger below the store changed by"
            f" hand? Remove {night.store.ledger(recommendations.TASK)} to score everything again, then run the same"
            " command."
        )
    return rows


def _kept(spark: SparkSession, frame: DataFrame, folder: str) -> tuple[DataFrame, int]:
    """Write what is read more than once, so that whatever computes it runs once; returns it and its rows."""
    written = parquet.write(spark, frame, folder)
    return spark.read.schema(frame.schema).parquet(files.for_reading(folder)), sum(f.rows for f in written)
