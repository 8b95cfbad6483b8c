"""What a night asks the models: each customer's and each review's request, and the terms on which answers are good."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.scoring import ledger
from jobs.scoring.models import Model
from jobs.scoring.waves import Terms
from jobs.tables import prompts, recommendations, sentiments
from jobs.tables.histories import histories


def list_requests(config: Config, used: dict[str, DataFrame], model: Model) -> DataFrame:
    """Render each customer's prompt and add the `key` of the request that it makes."""
    settings = config.recommend
    rendered = prompts.prompts(histories(used, settings.history_events), model.encoder_loader(), settings.prompt_tokens)
    if not settings.exclude_purchased:
        rendered = prompts.without_exclusions(rendered)
    key = ledger.request_key(
        recommendations.TASK,
        F.col("prompt"),
        model_version=model.fingerprint,
        settings={"candidates": settings.k + settings.spares, "beams": settings.beams},
        beside=F.col("excluded_hash"),
    )
    return rendered.withColumn("key", key)


def list_terms(config: Config, run_id: str, run_date: date, model: Model, catalogue_version: str) -> Terms:
    """A list is good for another catalogue while it is young enough."""
    return Terms(
        recommendations.TASK,
        recommendations.RESULT,
        run_id,
        run_date,
        model.fingerprint,
        catalogue_version,
        config.ledger.max_age_days,
    )


def review_requests(config: Config, used: dict[str, DataFrame], run_date: date, model: Model) -> DataFrame:
    """The reviews that are due on `run_date`, redacted, with the `key` of each one's request.

    A model that knows no categories is told none, so that equal texts are one request whatever they are about.
    """
    settings = config.sentiment
    key = ledger.request_key(
        sentiments.TASK,
        F.col("prompt"),
        model_version=model.fingerprint,
        settings={"max_tokens": settings.max_tokens},
        beside=F.when(F.col("category") != "", F.sha2("category", 256)).otherwise(""),
    )
    due = sentiments.reviews_of(used["reviews"], run_date, settings.lookback_days)
    due = sentiments.with_clean_text(sentiments.with_category(due, used["items"] if model.reads_category else None))
    return due.withColumns({"key": key, "prompt_hash": F.substring(F.sha2("prompt", 256), 1, 32)})


def review_terms(run_id: str, run_date: date, model: Model) -> Terms:
    """A label depends on nothing but text and model: it never grows old."""
    return Terms(sentiments.TASK, sentiments.RESULT, run_id, run_date, model.fingerprint)
