"""Accuracy and macro-F1 of labels, and those of the baselines on the same reviews."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lm.metrics import metrics
from lm.sentiment import sentiment_baselines
from lm.sentiment.labels import LABELS

TFIDF = "TF-IDF + logistic regression"
TFIDF_CATEGORY = f"{TFIDF}, category as a word"
VADER = "VADER, English"

Labels = NDArray[np.int64]
Statistic = Callable[[Labels, Labels], float]


def label_figures(predicted: Labels, truth: Labels) -> dict[str, float]:
    """Return accuracy and macro-F1 with 95% bootstrap intervals."""
    figures = {"reviews": float(len(truth))}
    for name, statistic in (("accuracy", metrics.accuracy), ("macro_f1", _macro_f1)):
        low, high = metrics.bootstrap_interval(statistic, truth, predicted, seed=0)
        figures |= {name: statistic(truth, predicted), f"{name}_low": low, f"{name}_high": high}
    return figures


def baseline_figures(
    texts: list[str],
    labels: Labels,
    judged: list[str],
    truth: Labels,
    model_labels: Labels,
    languages: Sequence[str],
    with_category: list[list[str]] | None = None,
) -> dict[str, dict[str, float]]:
    """Return the figures of TF-IDF + logistic regression trained on `texts`, and of VADER.

    `judged` are the test texts, `truth` their labels, `model_labels` those of the model and `languages` their
    languages' names. `with_category` holds the training and the test texts with their categories, for a second
    TF-IDF model. VADER knows English only, so it judges English reviews only.
    """
    baselines = {TFIDF: _tfidf_figures(texts, labels, judged, truth, model_labels)}
    if with_category is not None:
        baselines[TFIDF_CATEGORY] = _tfidf_figures(with_category[0], labels, with_category[1], truth, model_labels)
    english = [i for i, language in enumerate(languages) if language == "English"]
    if english:
        predicted = sentiment_baselines.vader([judged[i] for i in english])
        baselines[VADER] = label_figures(predicted, truth[english])
    return baselines


def _tfidf_figures(
    texts: list[str], labels: Labels, judged: list[str], truth: Labels, model_labels: Labels
) -> dict[str, float]:
    """Return the figures of TF-IDF + logistic regression, and the model's leads on it.

    `lead` is the model's accuracy less the baseline's, `lead_macro_f1` the same of macro-F1; each has the 95%
    interval of the paired differences.
    """
    p = sentiment_baselines.tfidf_logistic_regression(texts, labels, judged, len(LABELS))
    predicted = p.argmax(axis=1)
    leads: dict[str, float] = {}
    for name, statistic in (("lead", metrics.accuracy), ("lead_macro_f1", _macro_f1)):

        def lead(truth: Labels, ours: Labels, theirs: Labels, of: Statistic = statistic) -> float:
            return of(truth, ours) - of(truth, theirs)

        low, high = metrics.bootstrap_interval(lead, truth, model_labels, predicted)
        leads |= {name: lead(truth, model_labels, predicted), f"{name}_low": low, f"{name}_high": high}
    return label_figures(predicted, truth) | metrics.calibration_figures(p, truth) | leads


def _macro_f1(truth: Labels, predicted: Labels) -> float:
    return metrics.macro_f1(truth, predicted, len(LABELS))
