"""Judges the sentiment model by rated reviews that it never saw.

    regulars evaluate --task sentiment --config regulars.yaml --as-of 2026-03-01 --json figures.json
"""

from __future__ import annotations

import json
import uuid
from datetime import date
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs import files, training_data
from jobs.config import Config
from jobs.errors import ConfigurationError, InputError
from jobs.inputs import read_inputs
from jobs.store import Store
from lm.checkpoint import CheckpointError, resolve
from lm.splits import part_of


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
