"""Judges the sentiment model by rated reviews that it never saw, beside plain models that learned from the same ones.

    regulars evaluate --task sentiment --config regulars.yaml --as-of 2026-03-01 --json figures.json

A tenth of the rated reviews, drawn by a hash of their text, is never trained on: those are judged, and the plain
models learn from all others. With `--run-date D --days N` it is the reviews of the N days after D instead, by a model
that was trained `--as-of D`.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.evaluation.reliability import picture
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.scoring import models
from jobs.spark import files
from jobs.spark.errors import ConfigurationError, InputError
from jobs.spark.progress import Stages
from jobs.store.store import Store
from jobs.training import training_data
from lm.checkpoint.checkpoint import CheckpointError, ngrams_know_categories
from lm.metrics import metrics
from lm.sentiment.review_parts import held_out

LABELS = ("negative", "neutral", "positive")
TFIDF = "TF-IDF + logistic regression"
TFIDF_CATEGORY = f"{TFIDF}, category as a word"
_CHINESE = re.compile("[\u4e00-\u9fff]")
#: Upper bounds of the slices by characters.
_LENGTHS = (100, 500)
_BINS = 10
_BAR = 30  # characters of a full bar of the reliability picture

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def evaluate_sentiment_holdout(
    spark: SparkSession,
    config: Config,
    as_of: date,
    console: Console,
    json_file: Path | None = None,
    days: int | None = None,
    picture_file: Path | None = None,
) -> dict[str, Any]:
    """Judge models.sentiment by the held-out reviews rated up to `as_of`; prints, writes and returns the figures.

    With `days` it is judged by all reviews of so many days after `as_of`.

    Accuracy and macro-F1 with 95% intervals, balanced accuracy, expected calibration error, confusion matrix,
    reliability and slices; beside them the majority class, TF-IDF + logistic regression and VADER.
    Raises ConfigurationError without inputs.reviews or a model, InputError without such reviews.
    """
    if "reviews" not in config.inputs:
        raise ConfigurationError("inputs.reviews is missing: there are no reviews to judge by")
    try:
        path = models.resolve(config.models.sentiment)
    except CheckpointError as error:
        raise ConfigurationError(f"models.sentiment: {error}") from None
    stages = Stages(console)
    with stages.stage(f"reading reviews up to {as_of}"):
        texts, labels, about = _reviews(spark, config, as_of)
        known = len(texts)
        if days is not None:
            later = _reviews(spark, config, as_of + timedelta(days=days), after=as_of)
            texts, labels, about = [*texts, *later.texts], [*labels, *later.labels], [*about, *later.categories]
    rated = [i for i, label in enumerate(labels) if label != training_data.UNRATED]
    is_test = held_out(texts[:known])
    held = [i for i in rated if (is_test[i] if days is None else i >= known)]
    learned = [i for i in rated if i < known and not is_test[i]]
    if not held or not learned:
        raise InputError(f"there are no rated reviews to judge by or to learn from up to {as_of}: give another date")
    from lm.sentiment.classifier import SentimentClassifier
    from lm.sentiment.train_sentiment import classification_figures

    judged, truth = [texts[i] for i in held], np.array([labels[i] for i in held])
    with stages.stage(f"{len(held):,} held-out reviews through GPT-2"):
        classifier = SentimentClassifier.load(path, dtype="float32")
        p, _, label, shortened = classifier.judge(judged, config.sentiment.max_tokens, [about[i] for i in held])
    with stages.stage(f"baselines from {len(learned):,} reviews"):
        told = None
        if ngrams_know_categories(path):  # then it must beat a plain model that is told as much
            told = [[f"{about[i]} {texts[i]}" for i in rows] for rows in (learned, held)]
        stars = np.array([labels[i] for i in learned])
        rivals = _rivals([texts[i] for i in learned], stars, judged, truth, label, told)
    figures: dict[str, Any] = {
        "task": "sentiment",
        "as_of": as_of.isoformat(),
        "model": classifier.head.name,
        **classification_figures(p, truth, label),
        "shortened": int(shortened.sum()),
        "confusion": _confusion(label, truth),
        "reliability": reliability(p, truth),
        "slices": _slices(judged, label, truth),
        "baselines": rivals,
    }
    _show(console, figures)
    if picture_file is not None:
        drawn = picture(figures["reliability"], figures["expected_calibration_error"])
        picture_file.write_text(drawn, encoding="utf-8")
        console.print(f"Wrote {picture_file}", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False)
    return figures


def _reviews(spark: SparkSession, config: Config, as_of: date, after: date | None = None) -> training_data.Reviews:
    """The reviews known at the end of `as_of`, those written up to the end of `after` left out."""
    work = Store(config.store).work(f"evaluate-{as_of}-{uuid.uuid4().hex[:8]}")
    try:
        used = read_inputs(spark, config, as_of, work, training_data.tables_of_reviews(config.inputs)).used
        if after is not None:
            old = is_before(end_of_date(after, config.timezone), "reviewed_at")
            used = {**used, "reviews": used["reviews"].where(~old)}
        stars = config.sentiment
        return training_data.reviews(used, stars.negative_stars, stars.positive_stars)
    finally:
        files.delete(spark, work)


def _rivals(
    texts: list[str],
    labels: Labels,
    judged: list[str],
    truth: Labels,
    ours: Labels,
    told: list[list[str]] | None = None,
) -> dict[str, dict[str, float]]:
    """Figures of TF-IDF + logistic regression on `texts`, and of VADER on the judged reviews without Chinese.

    `told` are the texts of both kinds with their categories, for a second TF-IDF.
    """
    from lm.sentiment import sentiment_baselines

    rivals = {TFIDF: _tfidf(texts, labels, judged, truth, ours)}
    if told is not None:
        rivals[TFIDF_CATEGORY] = _tfidf(told[0], labels, told[1], truth, ours)
    english = [i for i, text in enumerate(judged) if not _CHINESE.search(text)]
    if english:
        rivals["VADER, English"] = _figures(sentiment_baselines.vader([judged[i] for i in english]), truth[english])
    return rivals


def _tfidf(texts: list[str], labels: Labels, judged: list[str], truth: Labels, ours: Labels) -> dict[str, float]:
    """Figures of TF-IDF + logistic regression; `lead` is how much more often `ours` is right, with the interval of the
    differences.
    """
    from lm.sentiment import sentiment_baselines

    plain = sentiment_baselines.tfidf_logistic_regression(texts, labels, judged, len(LABELS))
    predicted = plain.argmax(axis=1)
    lead, low, high = metrics.mean_interval((ours == truth).astype(float) - (predicted == truth))
    leads = {"lead": lead, "lead_low": low, "lead_high": high}
    return _figures(predicted, truth) | metrics.calibration_figures(plain, truth) | leads


def _figures(predicted: Labels, truth: Labels) -> dict[str, float]:
    figures = {"reviews": float(len(truth))}
    for name, statistic in (("accuracy", metrics.accuracy), ("macro_f1", _macro_f1)):
        low, high = metrics.bootstrap_interval(statistic, truth, predicted, seed=0)
        figures |= {name: statistic(truth, predicted), f"{name}_low": low, f"{name}_high": high}
    return figures


def _macro_f1(truth: Labels, predicted: Labels) -> float:
    return metrics.macro_f1(truth, predicted, len(LABELS))


def _confusion(predicted: Labels, truth: Labels) -> list[list[int]]:
    """Rows are the stars' labels, columns what the model says."""
    counts = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    found: list[list[int]] = counts.tolist()
    return found


def reliability(p: Probabilities, truth: Labels) -> list[dict[str, float]]:
    """Of each tenth of confidence that occurs: reviews, mean confidence, share that was right (Guo et al. 2017)."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        {
            "from": number / _BINS,
            "reviews": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
        }
        for number in np.unique(bins).tolist()
    ]


def _slices(judged: list[str], predicted: Labels, truth: Labels) -> dict[str, dict[str, float]]:
    """Accuracy and macro-F1 by language and length; of the reviews of one label what is found of them, the accuracy."""
    chinese = np.array([bool(_CHINESE.search(text)) for text in judged])
    length = np.digitize([len(text) for text in judged], _LENGTHS)
    masks = {"English": ~chinese, "Chinese": chinese}
    names = (f"up to {_LENGTHS[0]} characters", f"up to {_LENGTHS[1]} characters", "longer")
    masks |= {name: length == number for number, name in enumerate(names)}
    slices = {name: _figures(predicted[mask], truth[mask]) for name, mask in masks.items() if mask.any()}
    for number in np.unique(truth):
        found = _figures(predicted[truth == number], truth[truth == number])
        slices[f"stars say {LABELS[number]}"] = {name: value for name, value in found.items() if "macro_f1" not in name}
    return slices


def _show(console: Console, figures: dict[str, Any]) -> None:
    title = f"Sentiment of {figures['reviews']:,.0f} held-out reviews, learned up to {figures['as_of']} (95% intervals)"
    table = Table("", "accuracy", "macro-F1", "calibration error", title=title, title_justify="left")
    table.add_row(figures["model"], *_cells(figures))
    majority = {"accuracy": figures["majority_accuracy"], "macro_f1": figures["majority_macro_f1"]}
    for name, rival in {**figures["baselines"], "majority class": majority}.items():
        table.add_row(name, *_cells(rival))
    console.print(table)
    for name, rival in figures["baselines"].items():
        if "lead" in rival:
            lead, low, high = (rival[key] for key in ("lead", "lead_low", "lead_high"))
            console.print(f"Right more often than {name} by {lead:+.4f} ({low:+.4f} to {high:+.4f})", highlight=False)
    slices = Table("by slice", "reviews", "accuracy", "macro-F1")
    for name, found in figures["slices"].items():
        slices.add_row(name, f"{found['reviews']:,.0f}", *_cells(found)[:2])
    console.print(slices)
    confusion = Table("stars say", *(f"model: {label}" for label in LABELS))
    for label, counts in zip(LABELS, figures["confusion"], strict=True):
        confusion.add_row(label, *(f"{count:,}" for count in counts))
    console.print(confusion)
    console.print("Reliability: of the reviews of each confidence, the share that was right (| is the confidence)")
    for found in figures["reliability"]:
        bar = "█" * round(found["accuracy"] * _BAR)
        mark = min(round(found["confidence"] * _BAR), _BAR - 1)
        drawn = f"{bar:<{_BAR}}"
        console.print(
            f"  {found['from']:.1f}-{found['from'] + 1 / _BINS:.1f} {drawn[:mark]}|{drawn[mark + 1 :]} "
            f"{found['accuracy']:.2f} of {found['reviews']:,}",
            highlight=False,
        )


def _cells(figures: dict[str, float]) -> list[str]:
    cells = []
    for name in ("accuracy", "macro_f1"):
        if name not in figures:
            cells.append("")
            continue
        interval = f" ({figures[name + '_low']:.3f}–{figures[name + '_high']:.3f})" if f"{name}_low" in figures else ""
        cells.append(f"{figures[name]:.3f}{interval}")
    return [*cells, calibration_cell(figures)]


def calibration_cell(figures: dict[str, float]) -> str:
    """The calibration error, and what it would be on as many reviews if the probabilities were exact."""
    if "expected_calibration_error" not in figures:
        return ""
    by_chance, at_most = (figures[f"calibration_error_by_chance{end}"] for end in ("", "_high"))
    return f"{figures['expected_calibration_error']:.3f} (by chance {by_chance:.3f}, at most {at_most:.3f})"
