"""Probabilities that mean what they say, and labels that do not forget the rare ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm.sentiment.calibration import Mixture, fit_mixture, negative_log_likelihood, softmax


def drawn(rng, logits):
    return np.array([rng.choice(logits.shape[1], p=row) for row in softmax(logits)])


def fitted(labels, logits, ngrams=None):
    """The mixture of texts that are all as long."""
    return fit_mixture(labels, logits, np.full(len(labels), 80), ngrams)


def probabilities(mixture, logits, ngrams=None):
    return mixture.probabilities(logits, np.full(len(logits), 80), ngrams)


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = drawn(rng, logits)
    assert fitted(labels, logits).temperature == pytest.approx(1, abs=0.08)
    best = fitted(labels, 3 * logits)
    assert best.temperature == pytest.approx(3, abs=0.25)
    near = [
        negative_log_likelihood(probabilities(replace(best, temperature=best.temperature * f), 3 * logits), labels)
        for f in (0.95, 1, 1.05)
    ]
    assert near[1] == min(near)


def test_offsets_undo_a_training_with_weighted_classes():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3)) + np.array([0, 0, 2])
    found = fitted(drawn(rng, logits), logits - [0, 0, 2])
    assert found.offsets - found.offsets[0] == pytest.approx([0, 0, 2], abs=0.3)
    assert probabilities(found, logits - [0, 0, 2]) == pytest.approx(softmax(logits), abs=0.05)


def given_by_chance(rng, labels, noise, shares):
    """Labels of which the share `noise` (labels,) of each are replaced by draws from `shares`."""
    return np.where(
        rng.random(len(labels)) < np.array(noise)[labels], rng.choice(3, size=len(labels), p=shares), labels
    )


@pytest.mark.parametrize("noise", [(0.0, 0.0, 0.0), (0.05, 0.05, 0.05), (0.15, 0.15, 0.15), (0.25, 0.0, 0.02)])
def test_labels_that_the_text_does_not_decide_are_told_from_unsureness(noise):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(6000, 3)) * 4 + [0, 0, 3]
    labels = given_by_chance(rng, drawn(rng, logits), noise, [0.2, 0.2, 0.6])
    found = fitted(labels, logits)
    shares = np.bincount(labels, minlength=3) / 6000
    wrong = np.array(noise) * (1 - shares)
    assert 1 - np.diag(found.lapses) == pytest.approx(wrong, abs=0.025)
    assert found.lapses.sum(axis=1) == pytest.approx(1)
    assert found.temperature == pytest.approx(1, abs=0.12)
    p = probabilities(found, logits)
    assert p.sum(axis=1) == pytest.approx(1)
    assert p == pytest.approx(found.given(found.of_text(logits, np.full(6000, 80))))
    if any(noise):
        without = Mixture(found.temperature, found.ngram_weights, found.offsets)
        assert negative_log_likelihood(p, labels) < negative_log_likelihood(probabilities(without, logits), labels)


def test_where_most_labels_are_one_those_who_say_another_are_given_it_oftener():
    """Contradictions that are as frequent at all stars are a large part of the rare texts that complain."""
    rng = np.random.default_rng(8)
    says = rng.choice(3, size=4000, p=[0.15, 0.1, 0.75])
    labels = np.where(rng.random(4000) < 0.04, 2 - says, says)
    logits = 6 * np.eye(3)[says] + rng.normal(size=(4000, 3))
    found = fitted(labels, logits)
    complains = says == 0
    assert found.lapses[0, 2] == pytest.approx((labels[complains] == 2).mean(), abs=0.03)
    assert found.lapses[2, 0] == pytest.approx((labels[says == 2] == 0).mean(), abs=0.015)
    of_text = found.of_text(logits, np.full(4000, 80))
    assert (of_text[complains, 0] > 0.9).mean() > 0.95
    few = fitted(labels[:150], logits[:150])
    assert np.ptp(1 - np.diag(few.lapses)) < 0.15


def test_each_row_counts_as_often_as_is_said():
    rng = np.random.default_rng(9)
    logits, lengths = rng.normal(size=(300, 3)), np.full(300, 80)
    labels = drawn(rng, logits)
    often = rng.integers(1, 4, size=300)
    repeated = np.repeat(np.arange(300), often)
    ones = fit_mixture(labels[repeated], logits[repeated], lengths[repeated])
    counted = fit_mixture(labels, logits, lengths, counts=often.astype(float))
    p = probabilities(counted, logits)
    assert p == pytest.approx(probabilities(ones, logits), abs=0.002)
    assert np.abs(p - probabilities(fit_mixture(labels, logits, lengths), logits)).max() > 0.01


def test_experts_weigh_what_they_know():
    rng = np.random.default_rng(2)
    first, second, third = rng.normal(size=(3, 4000, 3))
    heads = np.stack([second, third])
    found = fitted(drawn(rng, first + 2 * second + third), first, heads)
    assert 1 / found.temperature == pytest.approx(1, abs=0.15)
    assert found.ngram_weights == pytest.approx([2, 1], abs=0.25)
    summed = softmax(first / found.temperature + np.tensordot(found.ngram_weights, heads, axes=1) + found.offsets)
    np.testing.assert_allclose(probabilities(found, first, heads), summed @ found.lapses)
    noise = fitted(drawn(rng, first), first, heads)
    assert max(noise.ngram_weights) < 0.1


@pytest.mark.parametrize("power", [-0.3, 0.0, 0.3])
def test_long_texts_are_as_sure_as_they_are_right(power):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(8000, 3)) * 2
    lengths = np.exp(rng.normal(4, 1, size=8000)).astype(int)
    labels = drawn(rng, logits * (lengths[:, None] / np.exp(4)) ** power)
    found = fit_mixture(labels, logits, lengths)
    assert found.length_power == pytest.approx(power, abs=0.05)
    assert found.temperature == pytest.approx(1, abs=0.1)
    p = found.probabilities(logits, lengths)
    for some in (lengths < 30, lengths > 100):
        assert p[some].max(axis=1).mean() == pytest.approx((p[some].argmax(axis=1) == labels[some]).mean(), abs=0.025)


def test_a_length_that_no_validation_text_had_counts_as_the_nearest():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(2000, 3))
    lengths = rng.integers(0, 200, size=2000)
    found = fit_mixture(drawn(rng, logits), logits, lengths)
    low, high = found.usual_lengths
    assert 1 <= low < 10
    assert 190 < high < 200
    p = found.probabilities(np.tile(logits[:1], (4, 1)), np.array([0, low, high, 10**7]))
    np.testing.assert_array_equal(p[0], p[1])
    np.testing.assert_array_equal(p[2], p[3])


def test_few_texts_say_little_of_length():
    rng = np.random.default_rng(7)
    powers = [
        fit_mixture(drawn(rng, logits), logits, rng.integers(10, 500, size=40)).length_power
        for logits in rng.normal(size=(20, 40, 3))
    ]
    assert max(map(abs, powers)) < 0.2
    assert max(map(abs, powers)) > 0
