"""Probabilities that mean what they say, and labels that do not forget the rare ones."""

from __future__ import annotations

import numpy as np
import pytest

from lm.calibration import Mixture, fit_mixture, negative_log_likelihood, softmax


def drawn(rng, logits):
    return np.array([rng.choice(logits.shape[1], p=row) for row in softmax(logits)])


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = drawn(rng, logits)
    assert fit_mixture(labels, logits).temperature == pytest.approx(1, abs=0.08)
    best = fit_mixture(labels, 3 * logits)
    assert best.temperature == pytest.approx(3, abs=0.25)
    near = [
        negative_log_likelihood(
            Mixture(best.temperature * f, best.ngram_weights, best.offsets).probabilities(3 * logits), labels
        )
        for f in (0.95, 1, 1.05)
    ]
    assert near[1] == min(near)


def test_offsets_undo_a_training_with_weighted_classes():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3)) + np.array([0, 0, 2])
    found = fit_mixture(drawn(rng, logits), logits - [0, 0, 2])
    assert found.offsets - found.offsets[0] == pytest.approx([0, 0, 2], abs=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_labels_that_the_text_does_not_decide_are_told_from_unsureness(noise):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(6000, 3)) * 4
    labels = drawn(rng, logits)
    by_chance = rng.random(6000) < noise
    labels[by_chance] = rng.choice(3, size=by_chance.sum(), p=[0.2, 0.2, 0.6])
    found = fit_mixture(labels, logits)
    assert found.noise.sum() == pytest.approx(noise, abs=0.025)
    assert found.temperature == pytest.approx(1, abs=0.12)
    p = found.probabilities(logits)
    assert p.sum(axis=1) == pytest.approx(1)
    assert p.min() >= found.noise.min()
    if noise:
        without = Mixture(found.temperature, found.ngram_weights, found.offsets)
        assert negative_log_likelihood(p, labels) < negative_log_likelihood(without.probabilities(logits), labels)


def test_experts_weigh_what_they_know():
    rng = np.random.default_rng(2)
    first, second, third = rng.normal(size=(3, 4000, 3))
    heads = np.stack([second, third])
    found = fit_mixture(drawn(rng, first + 2 * second + third), first, heads)
    assert 1 / found.temperature == pytest.approx(1, abs=0.15)
    assert found.ngram_weights == pytest.approx([2, 1], abs=0.25)
    summed = softmax(first / found.temperature + np.tensordot(found.ngram_weights, heads, axes=1) + found.offsets)
    np.testing.assert_allclose(found.probabilities(first, heads), summed)
    noise = fit_mixture(drawn(rng, first), first, heads)
    assert max(noise.ngram_weights) < 0.1
