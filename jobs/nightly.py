"""The night: every output table for one run_date, all of them or none. Read `run_night` from top to bottom.

For the data engineer who schedules it: `regulars nightly --config regulars.yaml --run-date D`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date
from functools import cache, reduce
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.config.config import Config
from jobs.inputs.reader import read_inputs
from jobs.scoring import failures, ledger, models
from jobs.scoring.models import Model
from jobs.spark import executor_files
from jobs.spark.deadline import Deadline, DeadlinePassed
from jobs.spark.progress import Stages, warn
from jobs.store import gate, store_format
from jobs.store.attempts import attempt
from jobs.store.lake import Lake, follow
from jobs.store.lock import lock
from jobs.store.publish import publish, recover
from jobs.store.store import Store
from jobs.tables import answers, groups, loyalty, recommendations, sentiments
from jobs.tables.carried_lists import with_carried
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.metrics import night_metrics, table_rows
from jobs.tables.runs import Night, run_row
from jobs.tasks import requests
from jobs.tasks.versions import find_answers_model, find_models, save_settings, settings_version

if TYPE_CHECKING:
    from lm.recommend.recommender import Recommender


def run_night(
    spark: SparkSession,
    config: Config,
    run_date: date,
    console: Console,
    config_file: str,
    deadline: Deadline | None = None,
) -> Night:
    """Run all stages for `run_date`, as of its end in the shop's time zone, and publish.

    Raises a UserError with its exit code for everything that the operator can mend. Whatever happens, readers keep
    whole dates, and the next run goes on from the ledger. After `deadline` the model is asked nothing more; what is
    published then, `publish.at_deadline` says.
    """
    store = Store(config.store)
    night = Night(f"{run_date}-{uuid.uuid4().hex[:8]}", run_date, store, deadline)
    stages = Stages(console)
    night.seconds = stages.seconds
    with lock(spark, store, night.run_id), attempt(spark, store, night.run_id, run_date):
        recommender, classifier = find_models(config, config_file)
        writer = find_answers_model(config, config_file)
        recommender = models.shipped(spark, recommender)
        classifier, writer = classifier and models.shipped(spark, classifier), writer and models.shipped(spark, writer)
        for line in [*store_format.opened(spark, store), *recover(spark, store, config.publish.keep_publishes)]:
            console.print(line, highlight=False)
        groups.refuse_switches(spark, store, config.loyalty)
        with stages.stage("inputs"):
            inputs = read_inputs(spark, config, run_date, store.work(night.run_id))
            night.accounts, night.quarantined = inputs.accounts, inputs.rejected_by_rule
        for note in inputs.notes:
            warn(console, note)
        with stages.stage("prompts"):
            asked = _prompts(spark, config, night, inputs.used, recommender)
        outputs = {"prompts": asked}
        with stages.stage("recommendations"):
            outputs["recommendations"], late = _recommend(
                spark, config, night, asked, inputs.used["items"], recommender, stages
            )
        if classifier:
            with stages.stage("sentiments"):
                outputs["sentiments"] = _label(spark, config, night, inputs.used, classifier, stages)
        if writer:
            with stages.stage("answers"):
                outputs["answers"] = _answer(spark, config, night, inputs.used, writer, stages)
        with stages.stage("loyalty"):
            outputs["loyalty"], model = _loyalty(spark, config, night, inputs.used, outputs.get("sentiments"))
        outputs["quarantine"] = reduce(DataFrame.unionByName, [inputs.quarantine, *night.rejected])
        with stages.stage("metrics"):
            outputs["metrics"] = _metrics(spark, config, night, outputs, asked, late, inputs.used["items"], model)
            gate.refuse_short_lists(outputs["metrics"], store.ledger(recommendations.TASK), config.recommend.k)
            gate.refuse_drift(spark, store, run_date, outputs["metrics"], config.gate, unfinished=night.unfinished)
        # Only now: the metrics above are of all lists that were computed, the control group's too.
        outputs["recommendations"] = groups.published_lists(outputs["recommendations"], config.loyalty, run_date)
        night.versions["settings"] = settings_version(config)
        save_settings(spark, store, config)
        outputs["runs"] = run_row(spark, night)
        with stages.stage("publishing"):
            night.rows = publish(spark, store, night.run_id, run_date, outputs)
            if lake := Lake.of(config.publish):
                follow(spark, store, lake)
    return night


def _prompts(spark: SparkSession, config: Config, night: Night, used: dict[str, DataFrame], model: Model) -> DataFrame:
    """Render each customer's prompt and the key of the request that it makes."""
    asked = night.keep(spark, requests.list_requests(config, used, model), "prompts")
    night.customers = night.computed["prompts"]
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
) -> tuple[DataFrame, DataFrame | None]:
    """Score the requests that the ledger cannot answer and make today's lists; also the customers left out, if any."""
    settings = config.recommend
    catalogue = SellableCatalogue(items)
    night.versions["catalogue"] = catalogue.version
    terms = requests.list_terms(config, night.run_id, night.run_date, model, catalogue.version)

    @cache  # built only if something has to be scored, once for all waves
    def load() -> Callable[[], Recommender]:
        folder = catalogue.write(executor_files.scratch(f"catalogue-{night.run_id}"), model.encoder())
        return models.recommender_loader(model, executor_files.sent(spark, folder, folder.name), settings.beams)

    with stages.counter("customers") as counter:
        answers = ledger.results(
            spark,
            night.store,
            terms,
            asked,
            lambda missing: recommendations.score(missing, load(), settings.k + settings.spares),
            enough=ledger.enough_sellable(catalogue.item_ids, settings.k),
            wave_minutes=config.ledger.wave_minutes,
            progress=counter.update,
            deadline=night.deadline,
            max_failures=config.gate.max_failures,
        )
    _note(night, config, terms.task, answers)
    failed = _reject(night, terms.task, asked, answers)
    lists, late = recommendations.lists(asked, answers.rows, items, settings.k), None
    if answers.late or failed:
        because = F.when(F.col("failure").isNull(), "deadline").otherwise("model_failed").alias("because")
        late = asked.join(answers.rows.select("key"), on="key", how="left_anti")
        late = late.join(answers.failed, on="key", how="left").select(*asked.columns, because)
        lists = with_carried(spark, night.store, night.run_date, lists, late, items, settings.k)
    return night.keep(spark, lists, "recommendations"), late


def _label(
    spark: SparkSession,
    config: Config,
    night: Night,
    used: dict[str, DataFrame],
    model: Model,
    stages: Stages,
) -> DataFrame:
    """Score the date's reviews that the ledger cannot answer and label them all."""
    settings = config.sentiment
    terms = requests.review_terms(night.run_id, night.run_date, model)
    night.versions["sentiment"] = model.fingerprint
    asked = night.keep(spark, requests.review_requests(config, used, night.run_date, model), "reviews_due")
    load = models.classifier_loader(model)
    with stages.counter("reviews") as counter:
        answers = ledger.results(
            spark,
            night.store,
            terms,
            asked,
            lambda missing: sentiments.score(missing, load, settings.max_tokens),
            wave_minutes=config.ledger.wave_minutes,
            progress=counter.update,
            deadline=night.deadline,
            max_failures=config.gate.max_failures,
        )
    _note(night, config, terms.task, answers)
    _reject(night, terms.task, asked, answers)
    stars = sentiments.StarLabels(settings.negative_stars, settings.positive_stars, settings.disagree_confidence)
    return night.keep(spark, sentiments.labels(asked, answers.rows, stars, settings.min_confidence), "sentiments")


def _answer(
    spark: SparkSession, config: Config, night: Night, used: dict[str, DataFrame], model: Model, stages: Stages
) -> DataFrame:
    """Find the articles of the date's questions, write what the ledger cannot answer, refuse what nothing answers."""
    night.versions["answers"] = model.fingerprint
    folder = answers.write_articles(used["articles"], executor_files.scratch(f"articles-{night.run_id}"))
    asker = models.asker_loader(model, executor_files.sent(spark, folder, folder.name))
    asked = night.keep(spark, answers.requests(config, used, night.run_date, model, asker), "questions_due")
    terms = answers.terms(night.run_id, night.run_date, model)
    load = models.writer_loader(model)
    with stages.counter("questions") as counter:
        written = ledger.results(
            spark,
            night.store,
            terms,
            asked.where("key IS NOT NULL"),
            lambda missing: answers.score(missing, load, config.answers),
            wave_minutes=config.ledger.wave_minutes,
            progress=counter.update,
            deadline=night.deadline,
            max_failures=config.gate.max_failures,
        )
    _note(night, config, terms.task, written)
    _reject(night, terms.task, asked, written)
    written_or_refused = answers.answers(asked, written.rows, model.fingerprint, written.failed)
    return night.keep(spark, written_or_refused, "answers")


def _note(night: Night, config: Config, task: str, answers: ledger.Results) -> None:
    """Count what the ledger and the model answered; DeadlinePassed if that is not all and has to be."""
    night.reused[task], night.scored[task], night.late[task] = answers.reused, answers.scored, answers.late
    night.seconds[f"{task}.model"] = answers.model_seconds
    if answers.late and config.publish.at_deadline == "keep":
        assert night.deadline is not None, "only a deadline leaves requests unanswered"
        raise DeadlinePassed(
            f"the deadline {night.deadline.text} passed with {answers.late:,} of "
            f"{answers.late + answers.scored + answers.reused:,} {task} requests not scored. Nothing was published, the"
            " old data stays; what was scored is kept. The same command without --deadline goes on from there; --set "
            "publish.at_deadline=carry publishes with the earlier lists of those customers."
        )


def _reject(night: Night, task: str, asked: DataFrame, answers: ledger.Results) -> int:
    """Quarantine the rows whose requests the model failed on; returns how many requests those are."""
    if answers.failures:
        table, rows, counts = failures.rejected(task, asked, answers.failed)
        night.rejected.append(rows)
        night.quarantined |= {(table, rule): n for rule, n in counts.items()}
    return answers.failures


def _loyalty(
    spark: SparkSession, config: Config, night: Night, used: dict[str, DataFrame], labels: DataFrame | None
) -> tuple[DataFrame, loyalty.LoyaltyModel]:
    """Measure every customer who bought, learn from a sample of them and score them all."""
    scores = None
    if "reviews" in used:
        published = loyalty.labels_as_of(spark, night.store, night.run_date, labels)
        scores = loyalty.review_scores(used["reviews"], published)
    measures = loyalty.measures(used["purchases"], scores, night.run_date)
    measured = night.keep(spark, measures, "measures")
    model = loyalty.learn(measured, config.loyalty)
    return night.keep(spark, loyalty.score(measured, model, config.loyalty), "loyalty"), model


def _metrics(
    spark: SparkSession,
    config: Config,
    night: Night,
    outputs: dict[str, DataFrame],
    asked: DataFrame,
    late: DataFrame | None,
    items: DataFrame,
    model: loyalty.LoyaltyModel,
) -> DataFrame:
    """Compute the night's metrics, over all that was computed."""
    tables = {name: rows for name, rows in night.computed.items() if name in outputs}
    tables["quarantine"] = sum(night.quarantined.values())
    found = night_metrics(outputs, asked, items, config.recommend.k, late)
    found = found.unionByName(table_rows(spark, tables))
    found = found.unionByName(loyalty.model_metrics(spark, model, outputs["loyalty"]))
    return night.keep(spark, found, "metrics")
