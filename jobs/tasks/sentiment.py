"""The task `sentiment`: the reviews of the date in, the table `sentiments` out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.scoring import ledger, models
from jobs.scoring.ledger import Results
from jobs.scoring.models import Dtype, Model
from jobs.scoring.waves import AnswerTerms
from jobs.spark.errors import ConfigurationError
from jobs.spark.executor_files import local_folder
from jobs.spark.task_device import task_device
from jobs.tables import sentiments
from jobs.tasks.task import PreparedTask, TaskContext

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.sentiment.classifier import SentimentClassifier

NAME = "sentiment"
CODE_VERSION = 3
TABLE = "sentiments"
REQUESTS = "reviews_due"
UNIT = "reviews"
ASKED_TABLE, ASKED_KEY = "reviews", "review_id"
TRAINER = "jobs.training.train_sentiment"


def is_wanted(config: Config) -> bool:
    """Labels are written where reviews and a model for them are configured."""
    return config.models.sentiment is not None and "reviews" in config.inputs


def find_model(config: Config, config_file: str) -> Model:
    """Find `models.sentiment`."""
    if config.models.sentiment is None:
        raise ConfigurationError("models.sentiment is null: name the folder of the trained model")
    return models.find(NAME, config.models.sentiment, config.options(config_file), dtype=config.models.dtype)


def lookback_days(config: Config) -> int:
    """`sentiment.lookback_days`: reviews that are labelled again."""
    return config.sentiment.lookback_days


def prepare(context: TaskContext) -> PreparedTask:
    """Redact the due reviews. A label depends on text and model alone: it never expires."""
    settings, load = context.config.sentiment, classifier_loader(context.model)
    stars = sentiments.StarLabels(settings.negative_stars, settings.positive_stars, settings.disagree_confidence)

    def rows(asked: DataFrame, results: Results) -> DataFrame:
        likeliest = settings.label == "likeliest"
        return sentiments.labels(asked, results.rows, stars, settings.min_confidence, likeliest)

    return PreparedTask(
        requests=requests(context),
        terms=AnswerTerms(NAME, sentiments.RESULT, context.run_id, context.run_date, context.model.fingerprint),
        score=lambda missing: sentiments.score(missing, load, settings.max_tokens),
        rows=rows,
    )


def requests(context: TaskContext) -> DataFrame:
    """The reviews that are due on run_date, redacted, with the `key` of each one's request.

    A model that reads no categories is told none: equal texts are then one request.
    """
    settings, used = context.config.sentiment, context.used
    key = ledger.request_key(
        NAME,
        F.col("prompt"),
        code_version=CODE_VERSION,
        model_version=context.model.fingerprint,
        settings={"max_tokens": settings.max_tokens, "dtype": context.model.dtype},
        also_hash=F.when(F.col("category") != "", F.sha2("category", 256)).otherwise(""),
    )
    due = sentiments.reviews_of(used["reviews"], context.run_date, settings.lookback_days)
    items = used.get("items") if context.model.reads_category else None
    due = sentiments.with_clean_text(sentiments.with_category(due, items))
    return due.withColumns({"key": key, "prompt_hash": F.substring(F.sha2("prompt", 256), 1, 32)})


def classifier_loader(model: Model) -> Callable[[], SentimentClassifier]:
    """A picklable loader of the sentiment classifier, cached in each Python worker."""
    return functools.partial(_of_task, model.path, model.dtype)


def _of_task(path: str, dtype: Dtype) -> SentimentClassifier:
    return _classifier(path, dtype, task_device())


@functools.lru_cache(maxsize=1)
def _classifier(path: str, dtype: Dtype, device: str) -> SentimentClassifier:
    from lm.sentiment.classifier import SentimentClassifier

    return SentimentClassifier.load(local_folder(path), dtype=dtype, device=device)
