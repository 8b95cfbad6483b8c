"""What stands on GPT-2's logits: which folds fit it, and which design its n-grams have."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from lm.checkpoint.manifest import Manifest
from lm.sentiment import sentiment_head
from lm.sentiment.ngrams import HEADS, Design
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.review_parts import FOLDS
from lm.sentiment.sentiment_head import Head, _mixed
from tests.opinions import FILLER, WORDS

LEARNS, LEARNS_NOTHING = Design(3.0, apart=True), Design(1e-6)


def test_stars_that_contradict_their_words_are_kept_as_lapses():
    truth = np.array([0, 0, 1, 2, 2] * 300)
    texts = [
        f"{i} {WORDS[label][i % 3]} {' '.join(random.Random(i).choices(FILLER, k=4))}" for i, label in enumerate(truth)
    ]
    labels = truth.copy()
    swapped = random.Random(1).sample(range(1500), 90)
    labels[swapped] = 2 - labels[swapped]
    rated = Rated.split(texts, labels)
    judged = {fold: 4 * np.eye(3)[truth[rated.rows("validation", fold)]] for fold in range(4)}
    lapses = np.array(Head.fit(texts, rated, judged, ngrams=False).manifest_values()["lapses"])
    [bad, good] = 1 - np.diag(lapses)[[0, 2]]
    assert 0.02 < bad < 0.2
    assert 0.02 < good < 0.2


def test_what_a_head_says_of_itself_in_the_manifest_makes_the_same_head(monkeypatch):
    head, _ = fitted(monkeypatch, (LEARNS,))
    texts = ["awful", "it was lovely and great in my kitchen", ""]
    gpt2 = np.random.default_rng(0).normal(size=(3, 3))
    again = Head.of(Manifest(**head.manifest_values()), head.ngrams)
    assert head.name in ("GPT-2 and n-grams", "GPT-2, n-grams and a lexicon")
    assert head.mixture.length_power != 0
    np.testing.assert_array_equal(again.probabilities(gpt2, texts), head.probabilities(gpt2, texts))
    np.testing.assert_array_equal(again.rule.weights, head.rule.weights)
    np.testing.assert_array_equal(again.rule.thresholds, head.rule.thresholds)


def rated_of(counts):
    texts = [f"{i} {' '.join(random.Random(i).choices(FILLER, k=4))}" for i in range(sum(counts))]
    return Rated.split(texts, np.repeat([0, 1, 2], counts))


def test_the_fewer_the_texts_or_those_of_a_label_the_more_folds_judge():
    assert rated_of((0, 10_000, 13_000)).folds(FOLDS) == [0]
    assert rated_of((3000, 3000, 3000)).folds(FOLDS) == [0, 1, 2]
    assert rated_of((0, 1500, 1500)).folds(FOLDS) == list(range(7))
    assert rated_of((700, 10_000, 12_000)).folds(FOLDS) == [0, 1, 2]
    assert rated_of((0, 700, 22_000)).folds(FOLDS) == [0, 1, 2]
    assert rated_of((30, 200, 200)).folds(FOLDS) == list(range(FOLDS))
    assert rated_of((30, 200, 200)).folds(2) == [0, 1]
    assert rated_of((60, 20_000, 30_000)).folds(FOLDS) == [0, 1, 2, 3]
    texts = [f"{i} {' '.join(random.Random(i).choices(FILLER, k=4))}" for i in range(9000)]
    copied = Rated.split(texts + ["not bad, not great"] * 3000, np.repeat([0, 2, 1], (4500, 4500, 3000)))
    assert copied.folds(FOLDS) == list(range(FOLDS))  # one text is all that says the third label


def fitted(monkeypatch, designs, folds=FOLDS, count=600):
    """The head where GPT-2 judges one fold, and each fitted and expected number of linear models."""
    monkeypatch.setattr(sentiment_head, "DESIGNS", designs)
    rng = random.Random(0)
    labels = np.array([rng.choice((0, 2)) for _ in range(count)])
    texts = [" ".join([str(i), *rng.choices(FILLER, k=6), rng.choice(WORDS[label])]) for i, label in enumerate(labels)]
    rated = Rated.split(texts, labels)
    heard = []
    judged = {0: np.zeros((len(rated.rows("validation")), 3))}
    head = Head.fit(texts, rated, judged, folds=folds, report=lambda done, of: heard.append((done, of)))
    return head, heard


def test_the_likeliest_design_is_chosen_and_a_hopeless_one_tried_on_one_fold(monkeypatch):
    for designs in ((LEARNS, LEARNS_NOTHING), (LEARNS_NOTHING, LEARNS)):
        head, heard = fitted(monkeypatch, designs)
        assert head.ngrams.apart
        assert heard[0] == (0, HEADS * (2 * FOLDS + 1))
        assert heard[-1] == (HEADS * 3, HEADS * 3)  # both designs on one fold, and that which is kept


def test_designs_alike_are_tried_on_as_many_folds_as_are_wanted(monkeypatch):
    for folds in (2, FOLDS):
        _, heard = fitted(monkeypatch, (LEARNS, LEARNS), folds=folds)
        assert heard == [(done, HEADS * (2 * folds + 1)) for done in range(HEADS * (2 * folds + 1) + 1)]


def test_a_design_that_is_likelier_by_chance_alone_is_not_chosen(monkeypatch):
    def likelier(rows, lead):
        """(rows,) of a mean that is so many standard errors above 0."""
        noise = np.random.default_rng(0).normal(0, 1, rows)
        return (noise - noise.mean()) / noise.std() + lead / np.sqrt(rows)

    for lead, apart in ((0.5, False), (1.5, True)):
        turns = itertools.cycle([np.zeros, lambda rows, lead=lead: likelier(rows, lead)])
        monkeypatch.setattr(
            sentiment_head, "_log_likelihoods", lambda labels, *_, turns=turns: next(turns)(len(labels))
        )
        head, _ = fitted(monkeypatch, (Design(3.0), LEARNS))
        assert head.ngrams.apart == apart


def test_copies_of_a_text_judge_together_as_one():
    """Unseen as they all are, what the model makes of a text that many have written is one observation."""
    rng = random.Random(0)
    truth = np.array([rng.choice((0, 2)) for _ in range(800)])
    texts = [f"{i} {rng.choice(WORDS[label])} {' '.join(rng.choices(FILLER, k=4))}" for i, label in enumerate(truth)]
    copies, labels = [*texts, *["Five stars"] * 200], np.append(truth, [2] * 200)
    rated = Rated.split(copies, labels)
    [fold] = [fold for fold in range(FOLDS) if 900 in rated.rows("validation", fold)]
    rows = rated.rows("validation", fold)
    counts = rated.counts(rows)
    assert counts[rows < 800].tolist() == [1] * (rows < 800).sum()
    assert counts[rows >= 800].sum() == pytest.approx(1)

    def of(copies, labels, rated):
        rows = rated.rows("validation", fold)
        sure = np.where(rows < 800, 4 * (labels[rows] - 1), -4)  # of what it has not read GPT-2 says that it is bad
        return Head.fit(copies, rated, {fold: sure[:, None] * np.array([-0.5, 0, 0.5])}, ngrams=False, lexicon=False)

    without = Rated.split(texts, truth)
    assert of(copies, labels, rated).mixture.temperature < 1.5 * of(texts, truth, without).mixture.temperature


def test_designs_by_category_are_tried_and_kept_where_words_mean_otherwise(monkeypatch):
    plain, by_category = Design(3.0), Design(3.0, by_category=True)
    monkeypatch.setattr(sentiment_head, "DESIGNS", (plain,))
    rng = random.Random(0)
    about = [rng.choice(("soup", "beer")) for _ in range(600)]
    texts = [" ".join([str(i), *rng.choices(FILLER, k=6), rng.choice(("cold", "warm"))]) for i in range(600)]
    turned = np.array(
        [2 * ((name == "soup") == text.endswith("warm")) for name, text in zip(about, texts, strict=True)]
    )
    alike = np.array([2 * (text.endswith("warm") != (rng.random() < 0.2)) for text in texts])
    for labels, categories, wins in (
        (turned, about, by_category),
        (alike, about, plain),
        (alike, ["soup"] * 600, plain),
    ):
        rated = Rated.split(texts, labels)
        judged = {0: np.zeros((len(rated.rows("validation")), 3))}
        heard = []
        head = Head.fit(
            texts, rated, judged, categories=categories, folds=3, report=lambda done, of, to=heard: to.append(of)
        )
        assert (len(head.ngrams.copies) > 0) == wins.by_category
        rows = rated.rows("test")
        p = head.probabilities(np.zeros((len(rows), 3)), [texts[i] for i in rows], [categories[i] for i in rows])
        assert (p.argmax(axis=1) == labels[rows]).mean() > (0.95 if labels is turned else 0.7)
        assert heard[0] == HEADS * (3 * len(set(categories)) + 1)


def test_a_lexicon_speaks_where_its_words_are_not_learned_and_else_is_silent():
    rng = random.Random(0)
    says = {0: ("dreadful", "terrible", "ugly", "disgusting"), 2: ("gorgeous", "brilliant", "charming", "delightful")}
    labels = np.array([rng.choice((0, 2)) for _ in range(400)])
    fillers = [" ".join([str(i), *rng.choices(FILLER, k=6)]) for i in range(400)]
    told = [f"{filler} {rng.choice(says[label])}" for filler, label in zip(fillers, labels, strict=True)]
    for texts, speaks in ((told, True), (fillers, False), (["质量" + filler for filler in fillers], False)):
        rated = Rated.split(texts, labels)
        judged = {0: np.zeros((len(rated.rows("validation")), 3))}
        head = Head.fit(texts, rated, judged, ngrams=False)
        assert (head.mixture.lexicon_weight > 0) == speaks
        assert head.name == ("GPT-2 and a lexicon" if speaks else "GPT-2")
        assert Head.fit(texts, rated, judged, ngrams=False, lexicon=False).mixture.lexicon_weight == 0
        if speaks:
            p = head.probabilities(np.zeros((2, 3)), ["a horrible lamp", "a wonderful lamp"])
            assert p.argmax(axis=1).tolist() == [0, 2]
            again = Head.of(Manifest(**head.manifest_values()), None)
            np.testing.assert_array_equal(
                again.probabilities(np.zeros((400, 3)), texts), head.probabilities(np.zeros((400, 3)), texts)
            )


def test_a_lexicon_that_knows_words_of_few_texts_is_not_worth_its_time():
    labels = np.tile([0, 2], 1000)
    for known, asked in ((100, False), (400, True)):
        words = np.zeros((2000, 3))
        words[:known] = (labels[:known, None] - 1) * np.array([-1.0, 0.0, 1.0])
        mixture, p = _mixed(labels, np.ones(2000), np.zeros((2000, 3)), np.full(2000, 30), None, words)
        assert (mixture.lexicon_weight > 0) == asked
        assert (p[:known].argmax(axis=1) == labels[:known]).all() == asked
