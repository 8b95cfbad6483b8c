"""Which label macro-F1 wants, from probabilities that are right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.metrics.metrics import macro_f1
from lm.sentiment.calibration import softmax
from lm.sentiment.label_rule import LabelRule, fit_label_rule

LIKELIEST = LabelRule(np.ones(3), np.zeros(3))


def drawn(seed, rows, offsets):
    """Logits' probabilities and labels that come as often as these say."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(size=(rows, len(offsets))) * 1.5 + np.array(offsets))
    return p, np.array([rng.choice(len(offsets), p=row) for row in p])


def test_rare_labels_are_raised_and_those_that_cannot_be_told_most():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, p=[0.1, 0.1, 0.8], size=20_000)
    logits = np.log([0.1, 0.1, 0.8]) + np.zeros((20_000, 3))
    for label, clear in enumerate((2.0, 0.7, 1.0)):  # the first label shows more clearly than the second
        logits[:, label] += clear * (rng.normal(size=20_000) + clear * (labels == label)) - clear**2 / 2
    p = softmax(logits)
    rule = fit_label_rule(p, labels)
    assert rule.weights[2] < rule.weights[:2].min()
    assert rule.thresholds[1] < rule.thresholds[0]
    gain = macro_f1(labels, rule.choose(p), 3) - macro_f1(labels, p.argmax(axis=1), 3)
    assert gain > 0.02


def test_no_rule_of_a_grid_is_better_by_more_than_chance():
    p, labels = drawn(1, 6000, (0, 0.5, 3))
    unseen, truth = drawn(2, 30_000, (0, 0.5, 3))
    ours = macro_f1(truth, fit_label_rule(p, labels).choose(unseen), 3)
    powers = np.linspace(0, 3, 13)
    grid = [
        macro_f1(truth, LabelRule(np.exp([a, b, 0]), np.zeros(3)).choose(unseen), 3)
        for a, b in itertools.product(powers, powers)
    ]
    assert macro_f1(truth, unseen.argmax(axis=1), 3) < ours - 0.03
    assert ours > max(grid) - 0.005


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.tuples(st.floats(-2, 3), st.floats(-2, 3), st.floats(-2, 3)))
def test_what_it_was_fitted_on_is_never_worse_than_by_the_likeliest(seed, offsets):
    """In the mean of the F1 that labels show and that probabilities promise."""
    p, labels = drawn(seed, 300, offsets)
    truth = np.eye(3)[labels]
    present = truth.any(axis=0)

    def mean_f1(rule):
        chosen = np.eye(3)[rule.choose(p * present)]
        hits = (p + truth) / 2
        return (2 * (hits * chosen).sum(axis=0) / (chosen + hits).sum(axis=0))[present].mean()

    rule = fit_label_rule(p, labels)
    assert np.isfinite([rule.weights, rule.thresholds]).all()
    assert mean_f1(rule) >= mean_f1(LIKELIEST) - 1e-12


def test_where_nothing_is_doubted_the_likeliest_is_chosen():
    labels = np.array([0, 1, 2, 2, 2] * 20)
    p = np.eye(3)[labels] * 0.97 + 0.01
    assert fit_label_rule(p, labels).choose(p).tolist() == labels.tolist()


def test_two_labels_of_one_size_are_told_apart_at_one_half():
    rng = np.random.default_rng(4)
    of = rng.uniform(size=20_000)
    labels = np.where(rng.uniform(size=20_000) < of, 0, 2)
    rule = fit_label_rule(np.stack([of, np.zeros(20_000), 1 - of], axis=1), labels)
    steps = np.linspace(0, 1, 101)
    chosen = rule.choose(np.stack([steps, np.zeros(101), 1 - steps], axis=1))
    assert set(chosen.tolist()) == {0, 2}
    assert steps[chosen == 0].min() == pytest.approx(0.5, abs=0.03)
    assert steps[chosen == 2].max() == pytest.approx(0.5, abs=0.03)


def test_a_label_that_is_never_seen_is_not_sought():
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]] * 50)
    rule = fit_label_rule(p, np.array([2, 0] * 50))
    assert rule.choose(p).tolist() == [2, 0] * 50
    assert rule.choose(np.array([[0.3, 0.4, 0.3]])).tolist() != [1]
