"""Evaluates models.sentiment on rated reviews that it never trained on, beside baselines trained on the other reviews.

    regulars evaluate --task sentiment --config regulars.yaml --as-of 2026-03-01 --json figures.json

The test set is a tenth of the rated reviews that the training read, and near-copies of a text are on one side of the
split (`lm.sentiment.review_parts`); the baselines learn from all others.
With `--run-date D --days N` the test set is the reviews of the N days after D, for a model trained `--as-of D`.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.evaluation.label_figures import baseline_figures, label_figures
from jobs.evaluation.training_cutoff import open_earlier_model, refuse_replaced_model
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.pictures.reliability_diagram import reliability_svg
from jobs.spark.errors import ConfigurationError, InputError
from jobs.spark.progress import Stages
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage
from jobs.training import training_data
from lm.checkpoint.checkpoint import ngrams_know_categories
from lm.metrics import metrics
from lm.sentiment.labels import LABELS, UNRATED
from lm.sentiment.review_parts import parts_of

#: Upper bounds of the slices by length, in characters.
_SLICE_LENGTHS = (100, 500)
_CONFIDENCE_BINS = 10
_BAR_WIDTH = 30  # characters of a full bar of the printed reliability diagram

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
    """Evaluate models.sentiment on the held-out reviews up to `as_of`, or on all reviews of the `days` days after it.

    The figures are accuracy and macro-F1 with 95% intervals, balanced accuracy, expected calibration error, confusion
    matrix, reliability and slices. The baselines are the majority class, TF-IDF + logistic regression and VADER.
    Prints the figures, writes them to `json_file`, draws the reliability into `picture_file` and returns the figures.
    Raises ConfigurationError without inputs.reviews or a model, or for a model trained on reviews after `as_of`;
    InputError without rated reviews to test or train on; ModelChanged where a training replaces the model meanwhile.
    """
    if "reviews" not in config.inputs:
        raise ConfigurationError("inputs.reviews is missing: name the table of rated reviews")
    if config.models.sentiment is None:
        raise ConfigurationError("models.sentiment is null: name the folder of the trained model")
    path, fingerprint, manifest = open_earlier_model("sentiment", config, as_of)
    stages = Stages(console)
    if days is None and manifest.trained_as_of is not None and manifest.trained_as_of < as_of:
        # The groups of near-copies, and with them the test set, depend on the reviews that the training read.
        as_of = manifest.trained_as_of
    found = _read_reviews(spark, config, console, as_of)
    texts, labels, categories = found.texts, found.labels, found.categories
    known = len(texts)
    if days is not None:
        later = _read_reviews(spark, config, console, as_of + timedelta(days=days), after=as_of)
        texts, labels = [*texts, *later.texts], [*labels, *later.labels]
        categories = [*categories, *later.categories]
    rated = [i for i, label in enumerate(labels) if label != UNRATED]
    held_out = set(parts_of(texts[:known]).rows("test").tolist())
    test = [i for i in rated if (i in held_out if days is None else i >= known)]
    training = [i for i in rated if i < known and i not in held_out]
    if not test or not training:
        raise InputError(
            f"{len(test)} rated reviews to test on and {len(training)} to train baselines on up to {as_of}: both are "
            "needed, give another date"
        )
    from lm.sentiment.classifier import SentimentClassifier
    from lm.sentiment.train_sentiment import classification_figures
    from lm.text.languages import languages

    judged, truth = [texts[i] for i in test], np.array([labels[i] for i in test])
    with stages.stage(f"{len(test):,} held-out reviews through GPT-2"):
        classifier = SentimentClassifier.load(path, dtype="float32")
        refuse_replaced_model("sentiment", path, fingerprint)
        p, _, label, shortened = classifier.judge(judged, config.sentiment.max_tokens, [categories[i] for i in test])
        if config.sentiment.label == "likeliest":
            label = p.argmax(axis=1)
    with stages.stage(f"baselines from {len(training):,} reviews"):
        with_category = None
        if ngrams_know_categories(path):  # a baseline with the same information makes the comparison fair
            with_category = [[f"{categories[i]} {texts[i]}" for i in rows] for rows in (training, test)]
        known_labels = np.array([labels[i] for i in training])
        spoken = languages(judged)
        known_texts = [texts[i] for i in training]
        baselines = baseline_figures(known_texts, known_labels, judged, truth, label, spoken, with_category)
    figures: dict[str, Any] = {
        "task": "sentiment",
        "as_of": as_of.isoformat(),
        "model": classifier.head.name,
        **classification_figures(p, truth, label),
        "shortened": int(shortened.sum()),
        "confusion": metrics.confusion_matrix(truth, label, len(LABELS)).tolist(),
        "reliability": reliability_bins(p, truth),
        "slices": _slices(judged, spoken, label, truth),
        "baselines": baselines,
    }
    _print_figures(console, figures)
    if picture_file is not None:
        svg = reliability_svg(figures["reliability"], figures["expected_calibration_error"])
        picture_file.write_text(svg, encoding="utf-8")
        console.print(f"Wrote {picture_file}", highlight=False, markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False, markup=False)
    return figures


def _read_reviews(
    spark: SparkSession, config: Config, console: Console, as_of: date, after: date | None = None
) -> training_data.LabelledReviews:
    """Return the reviews known at the end of `as_of`, without those up to the end of `after`."""
    store = Store(config.store)
    with (
        reading_stage(spark, store, console, f"reading reviews up to {as_of}"),
        scratch_folder(spark, store, "evaluate") as work,
    ):
        used = read_inputs(spark, config, as_of, work, training_data.tables_of_reviews(config.inputs)).used
        if after is not None:
            old = is_before(end_of_date(after, config.timezone), "reviewed_at")
            used = {**used, "reviews": used["reviews"].where(~old)}
        stars = config.sentiment
        return training_data.collect_reviews(used, stars.negative_stars, stars.positive_stars)


def reliability_bins(p: Probabilities, truth: Labels) -> list[dict[str, float]]:
    """Return reviews, mean confidence and accuracy of every non-empty tenth of confidence (Guo et al. 2017).

    `p` (n, labels) are probabilities, `truth` (n,) label numbers.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    bins = np.minimum((confidence * _CONFIDENCE_BINS).astype(int), _CONFIDENCE_BINS - 1)
    return [
        {
            "from": number / _CONFIDENCE_BINS,
            "reviews": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
        }
        for number in np.unique(bins).tolist()
    ]


def _slices(judged: list[str], spoken: list[str], predicted: Labels, truth: Labels) -> dict[str, dict[str, float]]:
    """Return accuracy and macro-F1 by language and length, and accuracy (recall) by label of the stars."""
    length = np.digitize([len(text) for text in judged], _SLICE_LENGTHS)
    masks = {name: np.array([name == one for one in spoken]) for name, _ in Counter(spoken).most_common()}
    names = (f"up to {_SLICE_LENGTHS[0]} characters", f"up to {_SLICE_LENGTHS[1]} characters", "longer")
    masks |= {name: length == number for number, name in enumerate(names)}
    slices = {name: label_figures(predicted[mask], truth[mask]) for name, mask in masks.items() if mask.any()}
    for number in np.unique(truth):
        one_label = label_figures(predicted[truth == number], truth[truth == number])
        of_stars = {name: value for name, value in one_label.items() if "macro_f1" not in name}
        slices[f"stars say {LABELS[number]}"] = of_stars
    return slices


def _print_figures(console: Console, figures: dict[str, Any]) -> None:
    title = f"Sentiment of {figures['reviews']:,.0f} held-out reviews, learned up to {figures['as_of']} (95% intervals)"
    table = Table("", "accuracy", "macro-F1", "calibration error", title=title, title_justify="left")
    table.add_row(figures["model"], *_cells(figures))
    majority = {"accuracy": figures["majority_accuracy"], "macro_f1": figures["majority_macro_f1"]}
    for name, baseline in {**figures["baselines"], "majority class": majority}.items():
        table.add_row(name, *_cells(baseline))
    console.print(table)
    console.print(f"Calibration error of the model: {calibration_cell(figures)}", highlight=False)
    for name, baseline in figures["baselines"].items():
        if "lead" in baseline:
            accuracy, macro_f1 = (
                f"{baseline[key]:+.4f} ({baseline[key + '_low']:+.4f} to {baseline[key + '_high']:+.4f})"
                for key in ("lead", "lead_macro_f1")
            )
            console.print(f"The model less {name}: accuracy {accuracy}, macro-F1 {macro_f1}", highlight=False)
    slices = Table("by slice", "reviews", "accuracy", "macro-F1")
    for name, of_slice in figures["slices"].items():
        slices.add_row(name, f"{of_slice['reviews']:,.0f}", *_cells(of_slice)[:2])
    console.print(slices)
    confusion = Table("stars say", *(f"model: {label}" for label in LABELS))
    for label, counts in zip(LABELS, figures["confusion"], strict=True):
        confusion.add_row(label, *(f"{count:,}" for count in counts))
    console.print(confusion)
    console.print("Reliability: the bar is the accuracy of the reviews in each confidence bin, | their mean confidence")
    for one in figures["reliability"]:
        bar = "█" * round(one["accuracy"] * _BAR_WIDTH)
        mark = min(round(one["confidence"] * _BAR_WIDTH), _BAR_WIDTH - 1)
        padded = f"{bar:<{_BAR_WIDTH}}"
        console.print(
            f"  {one['from']:.1f}-{one['from'] + 1 / _CONFIDENCE_BINS:.1f} {padded[:mark]}|{padded[mark + 1 :]} "
            f"{one['accuracy']:.2f} of {one['reviews']:,}",
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
    error = figures.get("expected_calibration_error")
    return [*cells, "" if error is None else f"{error:.3f}"]


def calibration_cell(figures: dict[str, float]) -> str:
    """Format the expected calibration error, and the one that exact probabilities show on as many reviews by chance."""
    if "expected_calibration_error" not in figures:
        return ""
    by_chance, at_most = (figures[f"calibration_error_by_chance{end}"] for end in ("", "_high"))
    return f"{figures['expected_calibration_error']:.3f} (by chance {by_chance:.3f}, at most {at_most:.3f})"
