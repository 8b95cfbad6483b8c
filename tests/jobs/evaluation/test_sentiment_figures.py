"""Sentiment figures derived by hand, and the baselines on reviews whose words decide the label."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from jobs.evaluation.label_figures import baseline_figures
from jobs.evaluation.sentiment_figures import _print_figures, _slices, reliability_bins
from lm.metrics.metrics import confusion_matrix
from lm.sentiment.sentiment_baselines import tfidf_logistic_regression, vader
from lm.sentiment.train_sentiment import classification_figures


def test_reliability_is_of_each_tenth_of_confidence():
    p = np.array([[0.95, 0.05, 0], [0.93, 0, 0.07], [0.4, 0.35, 0.25], [0, 0, 1.0]])
    found = reliability_bins(p, np.array([0, 2, 0, 2]))
    assert [(row["from"], row["reviews"], row["accuracy"]) for row in found] == [(0.4, 1, 1.0), (0.9, 3, 2 / 3)]
    assert found[1]["confidence"] == pytest.approx((0.95 + 0.93 + 1) / 3)


def test_slices_by_language_length_and_stars():
    texts = ["good", "很好", "bad " * 200]
    spoken = ["English", "Chinese", "English"]
    found = _slices(texts, spoken, np.array([2, 2, 2]), np.array([2, 2, 0]))
    assert {name: figures["reviews"] for name, figures in found.items()} == {
        "English": 2,
        "Chinese": 1,
        "up to 100 characters": 2,
        "longer": 1,
        "stars say negative": 1,
        "stars say positive": 2,
    }
    assert found["English"]["accuracy"] == 0.5
    assert found["stars say negative"]["accuracy"] == 0
    assert "macro_f1" not in found["stars say negative"]  # it would be over labels that no review has


def test_plain_models_learn_words_and_characters_and_vader_knows_english():
    texts = ["awful broken thing", "很差的质量", "lovely good thing", "很好的质量"] * 20
    labels = np.array([0, 0, 2, 2] * 20)
    p = tfidf_logistic_regression(texts, labels, ["a broken one", "质量很好", "so lovely"], 3)
    assert p.argmax(axis=1).tolist() == [0, 2, 2]
    assert p.sum(axis=1) == pytest.approx([1, 1, 1])
    assert (p[:, 1] == 0).all()
    assert vader(["I love it, wonderful!", "Terrible, awful.", "It is a box."]).tolist() == [2, 0, 1]


def test_the_plain_model_answers_the_shares_where_there_is_nothing_to_learn():
    one_label = tfidf_logistic_regression(["good one", "good two"] * 3, np.array([2] * 6), ["good"], 3)
    assert one_label.tolist() == [[0, 0, 1]]
    no_common_word = tfidf_logistic_regression(["ab", "cd"], np.array([0, 2]), ["ab"], 3)
    assert no_common_word.tolist() == [[0.5, 0, 0.5]]


def test_everything_is_shown():
    p, truth = np.eye(3)[[0, 1, 2, 2]] * 0.8 + 0.2 / 3, np.array([0, 1, 2, 0])
    figures = {"as_of": "2026-03-01", "model": "GPT-2", **classification_figures(p, truth, p.argmax(axis=1))}
    predicted = p.argmax(axis=1)
    figures |= {"confusion": confusion_matrix(truth, predicted, 3).tolist(), "reliability": reliability_bins(p, truth)}
    training = ["awful", "fine", "lovely", "great"] * 5
    spoken = ["English", "English", "German", "German"]
    baselines = baseline_figures(training, np.tile(truth, 5), ["awful"] * 4, truth, predicted, spoken)
    assert baselines["VADER, English"]["reviews"] == 2
    figures |= {"slices": {}, "baselines": baselines}
    log = io.StringIO()
    _print_figures(Console(file=log, width=160), figures)
    assert "Sentiment of 4 held-out reviews" in log.getvalue()
    # TF-IDF says 0 of all, right of two; its F1 of the label 0 is 2/3. The model's are 2/3, 1 and 2/3.
    assert "The model less TF-IDF + logistic regression: accuracy +0.2500 (" in log.getvalue()
    assert baselines["TF-IDF + logistic regression"]["lead_macro_f1"] == pytest.approx(7 / 9 - 2 / 9)
    assert "0.8-0.9 ██████████████████████" in log.getvalue()
