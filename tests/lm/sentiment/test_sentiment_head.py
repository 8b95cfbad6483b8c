"""The head on GPT-2's logits: which reviews fit it, what it adds, and that the manifest keeps it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.sentiment.fit_head import fit_head
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.review_parts import FOLDS
from lm.sentiment.sentiment_head import SentimentHead
from tests.opinions import FILLER, WORDS


def opinions(count=600, seed=0):
    """Texts of which one word says the label, and their labels."""
    rng = random.Random(seed)
    labels = np.array([rng.choice((0, 2)) for _ in range(count)])
    texts = [" ".join([str(i), *rng.choices(FILLER, k=6), rng.choice(WORDS[label])]) for i, label in enumerate(labels)]
    return texts, labels


def silent(rated):
    """Logits of a GPT-2 that knows nothing."""
    return np.zeros((len(rated.rows("validation")), 3))


@pytest.fixture(scope="module")
def fitted():
    texts, labels = opinions()
    rated = Rated.split(texts, labels)
    heard = []
    head = fit_head(texts, rated, silent(rated), report=lambda done, of: heard.append((done, of)))
    return head, heard


def test_ngrams_of_every_fold_calibrate_and_one_more_is_kept(fitted):
    head, heard = fitted
    assert heard == [(done, FOLDS + 1) for done in range(FOLDS + 2)]
    assert head.ngrams is not None
    texts, labels = opinions(seed=9)
    p = head.probabilities(np.zeros((600, 3)), texts)
    assert (head.choose(p) == labels).mean() > 0.95
    assert len(np.unique(p[:, 2])) > 550  # smooth, not in steps


def test_a_tfidf_model_joins_the_linear_model_of_few_reviews(fitted, monkeypatch):
    head, _ = fitted
    assert len(head.ngrams.ends) == 8
    texts, labels = opinions(200)
    rated = Rated.split(texts, labels)
    monkeypatch.setattr("lm.sentiment.fit_head._FEW_REVIEWS", len(rated.rows("known")))
    assert len(fit_head(texts, rated, silent(rated)).ngrams.ends) == 4


def test_what_a_head_says_of_itself_in_the_manifest_makes_the_same_head(fitted):
    head, _ = fitted
    texts = ["awful", "it was lovely and great in my kitchen", ""]
    gpt2 = np.random.default_rng(0).normal(size=(3, 3))
    manifest = Manifest(**head.manifest_values())
    again = SentimentHead.of(manifest, head.ngrams)
    assert head.name in ("GPT-2 and n-grams", "GPT-2, n-grams and a lexicon")
    np.testing.assert_array_equal(again.probabilities(gpt2, texts), head.probabilities(gpt2, texts))
    np.testing.assert_array_equal(again.label_weights, head.label_weights)
    with pytest.raises(CheckpointError, match=r"lacks ngrams\.safetensors"):
        SentimentHead.of(manifest, None)


def test_a_manifest_at_its_defaults_leaves_the_logits_and_lapses_move_them():
    gpt2 = np.log([[0.7, 0.2, 0.1]])
    plain = SentimentHead.of(Manifest(task="sentiment"), None)
    np.testing.assert_allclose(plain.of_text(gpt2, ["fine"]), [[0.7, 0.2, 0.1]])
    lapsing = Manifest(task="sentiment", lapses=[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    head = SentimentHead.of(lapsing, None)
    np.testing.assert_allclose(head.probabilities(gpt2, ["fine"]), [[0.35, 0.2, 0.45]])


def rated_of(counts):
    texts = [f"{i} {' '.join(random.Random(i).choices(FILLER, k=4))}" for i in range(sum(counts))]
    return Rated.split(texts, np.repeat([0, 1, 2], counts))


def test_the_fewer_the_reviews_the_more_folds_judge():
    assert rated_of((0, 20_000, 28_000)).folds() == [0]
    assert rated_of((3000, 4000, 6000)).folds() == [0, 1, 2]
    assert rated_of((30, 200, 200)).folds() == list(range(FOLDS))


def test_stars_that_contradict_their_words_are_kept_as_lapses():
    truth = np.array([0, 0, 2, 2, 2] * 300)
    texts = [
        f"{i} {WORDS[label][i % 3]} {' '.join(random.Random(i).choices(FILLER, k=4))}" for i, label in enumerate(truth)
    ]
    labels = truth.copy()
    swapped = random.Random(1).sample(range(1500), 90)
    labels[swapped] = 2 - labels[swapped]
    rated = Rated.split(texts, labels)
    lapses = np.array(fit_head(texts, rated, silent(rated)).manifest_values()["lapses"])
    [bad, good] = 1 - np.diag(lapses)[[0, 2]]
    assert 0.02 < bad < 0.2
    assert 0.02 < good < 0.2


def test_copies_of_a_text_share_one_vote():
    texts, labels = opinions(800)
    copies = Rated.split([*texts, *["Five stars"] * 200], np.append(labels, [2] * 200))
    [fold] = [fold for fold in range(FOLDS) if 900 in copies.rows("validation", fold)]
    rows = copies.rows("validation", fold)
    counts = copies.counts(rows)
    assert counts[rows < 800].tolist() == [1] * (rows < 800).sum()
    assert counts[rows >= 800].sum() == pytest.approx(1)


def test_ngrams_learn_what_words_mean_in_each_category():
    rng = random.Random(0)
    about = [rng.choice(("soup", "beer")) for _ in range(600)]
    texts = [" ".join([str(i), *rng.choices(FILLER, k=6), rng.choice(("cold", "warm"))]) for i in range(600)]
    labels = np.array(
        [2 * ((name == "soup") == text.endswith("warm")) for name, text in zip(about, texts, strict=True)]
    )
    rated = Rated.split(texts, labels)
    rows = rated.rows("test")
    asked = [texts[i] for i in rows], [about[i] for i in rows]
    right = {}
    for told in (None, about):
        head = fit_head(texts, rated, silent(rated), categories=told)
        p = head.probabilities(np.zeros((len(rows), 3)), asked[0], told and asked[1])
        right[told is None] = (p.argmax(axis=1) == labels[rows]).mean()
    assert right[False] > 0.9 > right[True]


def test_a_lexicon_speaks_where_its_words_are_not_learned_and_else_is_silent():
    rng = random.Random(0)
    says = {0: ("dreadful", "terrible", "ugly", "disgusting"), 2: ("gorgeous", "brilliant", "charming", "delightful")}
    labels = np.array([rng.choice((0, 2)) for _ in range(400)])
    fillers = [" ".join([str(i), *rng.choices(FILLER, k=6)]) for i in range(400)]
    told = [f"{filler} {rng.choice(says[label])}" for filler, label in zip(fillers, labels, strict=True)]
    few = [told[i] if i < 20 else fillers[i] for i in range(400)]
    for texts, speaks in ((told, True), (fillers, False), (few, False)):
        rated = Rated.split(texts, labels)
        head = fit_head(texts, rated, silent(rated), ngrams=False)
        assert head.ngrams is None
        assert (head.mixture.lexicon_weight > 0) == speaks
        assert head.name == ("GPT-2 and a lexicon" if speaks else "GPT-2")
        assert fit_head(texts, rated, silent(rated), ngrams=False, lexicon=False).mixture.lexicon_weight == 0
        if speaks:
            p = head.probabilities(np.zeros((2, 3)), ["a horrible lamp", "a wonderful lamp"])
            assert p.argmax(axis=1).tolist() == [0, 2]
