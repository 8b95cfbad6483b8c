"""Probabilities that are calibrated, and labels that do not forget the rare ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm.sentiment.calibration import (
    Mixture,
    fit_linear,
    label_weights,
    negative_log_likelihood,
    softmax,
    with_gpt2,
    without_ngrams,
    worth,
)


def drawn(rng, logits):
    return np.array([rng.choice(logits.shape[1], p=row) for row in softmax(logits)])


def linear(labels, ngrams, lexicon=None):
    return fit_linear(labels, np.ones(len(labels)), ngrams, lexicon)


def probabilities(mixture, gpt2, ngrams=None, lexicon=None):
    return mixture.observed(mixture.of_text(gpt2, ngrams, lexicon))


def test_a_mixture_adds_logits_and_lapses():
    mixture = Mixture(2.0, 3.0, 0.5, np.array([0.1, 0.2, 0.3]), 0.9 * np.eye(3) + 0.1 / 3)
    gpt2, ngrams, lexicon = np.array([[2.0, 0, 0]]), np.array([[0, 1.0, 0]]), np.array([[-1.0, 0, 1.0]])
    of_text = softmax(np.array([[1 - 0.5 + 0.1, 3 + 0.2, 0.5 + 0.3]]))
    np.testing.assert_allclose(mixture.of_text(gpt2, ngrams, lexicon), of_text)
    np.testing.assert_allclose(mixture.observed(of_text), 0.9 * of_text + 0.1 / 3)


def test_a_weight_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = drawn(rng, logits)
    assert linear(labels, logits).ngram_weight == pytest.approx(1, abs=0.08)
    best = linear(labels, 3 * logits)
    assert best.ngram_weight == pytest.approx(1 / 3, abs=0.03)
    near = [
        negative_log_likelihood(
            probabilities(replace(best, ngram_weight=best.ngram_weight * f), 0 * logits, 3 * logits), labels
        )
        for f in (0.9, 1, 1.1)
    ]
    assert near[1] == min(near)


def test_offsets_undo_a_training_with_weighted_classes():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3)) + np.array([0, 0, 2])
    found = linear(drawn(rng, logits), logits - [0, 0, 2])
    assert found.offsets - found.offsets[0] == pytest.approx([0, 0, 2], abs=0.3)
    assert probabilities(found, 0 * logits, logits - [0, 0, 2]) == pytest.approx(softmax(logits), abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_labels_that_the_text_does_not_decide_are_told_from_uncertainty(noise):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(6000, 3)) * 4 + [0, 0, 3]
    truth = drawn(rng, logits)
    labels = np.where(rng.random(6000) < noise, rng.choice(3, size=6000, p=[0.2, 0.2, 0.6]), truth)
    found = linear(labels, logits)
    shares = np.bincount(labels, minlength=3) / 6000
    assert 1 - np.diag(found.lapses) == pytest.approx(noise * (1 - shares), abs=0.025)
    assert found.lapses.sum(axis=1) == pytest.approx(1)
    assert found.ngram_weight == pytest.approx(1, abs=0.12)
    if noise:
        without = replace(found, lapses=np.eye(3))
        p, certain = (probabilities(mixture, 0 * logits, logits) for mixture in (found, without))
        assert negative_log_likelihood(p, labels) < negative_log_likelihood(certain, labels)


def test_a_lexicon_weighs_what_it_knows_and_0_where_it_knows_nothing():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 4000, 3)) * 2
    labels = drawn(rng, first + 0.5 * second)
    found = linear(labels, first, second)
    assert (found.ngram_weight, found.lexicon_weight) == pytest.approx((1, 0.5), abs=0.1)
    assert linear(labels, first, 0 * second).lexicon_weight == pytest.approx(0, abs=1e-3)


def test_each_row_counts_as_its_weight_says():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(500, 3)) * 2
    labels = drawn(rng, logits)
    copies = np.repeat(np.arange(500), 3)
    once = linear(labels, logits)
    thrice = fit_linear(labels[copies], np.full(1500, 1 / 3), logits[copies], None)
    assert thrice.ngram_weight == pytest.approx(once.ngram_weight, abs=1e-3)
    np.testing.assert_allclose(thrice.offsets, once.offsets, atol=1e-3)


def test_gpt2_is_added_where_it_knows_more():
    rng = np.random.default_rng(5)
    ngrams, gpt2 = rng.normal(size=(2, 4000, 3)) * 2
    labels = drawn(rng, ngrams + 0.5 * gpt2)
    alone = linear(labels, ngrams)
    both = with_gpt2(alone, labels, np.ones(4000), gpt2, ngrams, None)
    assert 1 / both.temperature == pytest.approx(0.5, abs=0.1)
    assert both.ngram_weight == pytest.approx(1, abs=0.1)
    assert both.ngram_weight > alone.ngram_weight
    np.testing.assert_allclose(both.offsets / both.ngram_weight, alone.offsets / alone.ngram_weight)
    assert (both.lapses == alone.lapses).all()


def test_a_few_rows_on_which_gpt2_was_chosen_do_not_make_it_weigh_much():
    rng = np.random.default_rng(6)
    ngrams = rng.normal(size=(2000, 3)) * 2
    labels = drawn(rng, ngrams)
    alone = linear(labels, ngrams)
    chosen = 4 * np.eye(3)[labels[:30]]  # it knows them all by luck
    few = with_gpt2(alone, labels[:30], np.ones(30), chosen, ngrams[:30], None)
    assert 1 / few.temperature < 0.2
    assert few.ngram_weight == pytest.approx(alone.ngram_weight, rel=0.2)
    useless = with_gpt2(alone, labels, np.ones(2000), rng.normal(size=(2000, 3)), ngrams, None)
    assert 1 / useless.temperature == pytest.approx(0.02, abs=0.03)  # its weight is never 0


def test_gpt2_alone_is_calibrated_too():
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = drawn(rng, logits)
    alone = without_ngrams(linear(labels, 2 * logits))
    assert (alone.temperature, alone.ngram_weight) == (pytest.approx(2, abs=0.2), 0)
    assert probabilities(alone, 2 * logits) == pytest.approx(softmax(logits), abs=0.05)
    wrong = -5 * np.eye(3)[labels]
    assert without_ngrams(linear(labels, wrong)).temperature == pytest.approx(50)  # its weight is never 0


def test_rare_labels_are_raised_by_a_power_of_their_share_where_that_pays():
    """24 of 100 rare texts have just less than 1/2: raising them finds them all, and hurts no frequent text."""
    labels = np.array([2] * 800 + [0] * 100)
    p = np.array([[0.1, 0.0, 0.9]] * 800 + [[0.9, 0.0, 0.1]] * 76 + [[0.45, 0.0, 0.55]] * 24)
    weights = label_weights(p, labels, np.ones(900))
    assert weights == pytest.approx([8**0.15, 0, 1])
    assert ((weights * p).argmax(axis=1) == labels).all()
    halved = label_weights(p, labels, np.where(np.arange(900) < 400, 0.0, 1.0))
    assert halved == pytest.approx([4**0.15, 0, 1])


def test_the_likeliest_label_stays_where_raising_rare_labels_costs_accuracy_or_gains_nothing():
    """Between the two labels the frequent one is right in 100 texts, and the rare one in 40."""
    labels = np.array([2] * 800 + [0] * 60 + [2] * 100 + [0] * 40)
    p = np.array([[0.1, 0.0, 0.9]] * 800 + [[0.9, 0.0, 0.1]] * 60 + [[0.45, 0.0, 0.55]] * 140)
    assert label_weights(p, labels, np.ones(1000)).tolist() == [1, 0, 1]
    sure = np.array([[0.1, 0.0, 0.9]] * 900 + [[0.9, 0.0, 0.1]] * 100)
    assert label_weights(sure, sure.argmax(axis=1), np.ones(1000)).tolist() == [1, 0, 1]


def test_one_more_right_label_is_within_the_standard_error():
    labels = np.array([2] * 90 + [0] * 10)
    before = labels.copy()
    before[-4:] = 2
    after = before.copy()
    after[-1] = 0
    assert not worth(labels, before, after, np.ones(100), 3)
    assert worth(labels, before, labels, np.ones(100), 3) > 0
    assert worth(labels, labels, before, np.ones(100), 3) < 0
    votes = np.where(np.arange(100) > 95, 0.2, 1.0)  # copies of one text, which share one vote
    assert not worth(labels, before, labels, votes, 3)


@pytest.mark.parametrize(("rare", "unlucky", "raised"), [(5, 0, True), (40, 0, False), (5, 20, False)])
def test_a_label_of_few_reviews_is_raised_unless_it_shows_a_loss(rare, unlucky, raised):
    """Of `unlucky` texts all are frequent that look hardly more frequent than rare."""
    labels = np.array([2] * 900 + [0] * rare + [2] * unlucky)
    p_rare = np.repeat([0.01, 0.9, 0.45], [900, rare, unlucky])
    p = np.stack([p_rare, np.zeros(len(labels)), 1 - p_rare], axis=1)
    expected = ((900 + unlucky) / rare) ** 0.15 if raised else 1
    assert label_weights(p, labels, np.ones(len(labels))) == pytest.approx([expected, 0, 1])
