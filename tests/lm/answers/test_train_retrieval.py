"""The ranker's fits are the minima of their losses, computed here a second time, and not merely good."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from lm.answers.answer_prompt import Article
from lm.answers.retrieval import CONFIDENCE, EVIDENCE, confidence_features
from lm.answers.train_retrieval import _fit_confidence, _fit_evidence, _hidden, _logistic, fit_linear

ARTICLES = ["a", "b", "c"]
QUESTIONS = [str(row) for row in range(60)]
LABELS = np.array([ARTICLES[row % 3] for row in range(60)])
ROWS = np.arange(60)
START = np.array([0.5, 0.0, 0.1, 0.1])


def retriever(seed: int, known: tuple[str, ...] = ("a", "b", "c")) -> SimpleNamespace:
    """A retriever whose evidence is noise around the right article, a row for each question's number."""
    rng = np.random.default_rng(seed)
    evidence = np.abs(rng.normal(size=(60, 3, EVIDENCE)))
    evidence[ROWS, ROWS % 3] += 0.7
    share = rng.uniform(size=60)

    def of(questions):
        rows = [int(question) for question in questions]
        return evidence[rows], share[rows]

    return SimpleNamespace(ids=ARTICLES, model=SimpleNamespace(article_ids=known), evidence=of)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def assert_minimum(loss, found: np.ndarray, lower: np.ndarray, slack: float = 1e-9) -> None:
    """No step in any direction that `lower` allows makes the loss smaller."""
    least = loss(found)
    for step in (1e-2, -1e-2, 0.1, -0.1):
        for i in range(len(found)):
            other = found.copy()
            other[i] = max(other[i] + step, lower[i])
            assert loss(other) >= least - slack, (i, step)


def test_evidence_weights_minimise_the_conditional_logit():
    held = [(retriever(0), ROWS[:40]), (retriever(1), ROWS[40:])]
    found = _fit_evidence(held, QUESTIONS, LABELS, START)

    def loss(weights):
        right = [softmax(one.evidence([str(i) for i in rows])[0] @ weights)[range(len(rows)), rows % 3]
                 for one, rows in held]  # fmt: skip
        return -np.log(np.concatenate(right)).mean() + 1e-3 * weights @ weights

    assert loss(found) < loss(START) - 0.05
    assert_minimum(loss, found, np.full(EVIDENCE, -np.inf))


def test_evidence_weights_stay_where_no_article_can_be_right():
    assert _fit_evidence([(retriever(0), ROWS[:0])], QUESTIONS, LABELS, START) is START


def test_confidence_minimises_the_weighted_logistic_loss_without_negative_weights():
    weights = np.array([1.0, 0.2, 0.8, 0.3])
    known, unknown = retriever(2, known=("a", "b")), retriever(3)
    found = _fit_confidence([(known, ROWS)], [(unknown, ROWS[:20])], QUESTIONS, LABELS, weights)
    x, y, n = [], [], []
    for one, rows, weight in ((known, ROWS[LABELS != "c"], 1.0), (unknown, ROWS[:20], 0.3)):
        evidence, share = one.evidence([str(i) for i in rows])
        p = softmax(evidence @ weights)
        x.append(confidence_features(p, evidence, share))
        y.append(p.argmax(axis=1) == rows % 3)
        n.append(np.full(len(rows), weight))
    x, y, n = np.concatenate(x), np.where(np.concatenate(y), 1.0, -1.0), np.concatenate(n)

    def loss(w):
        return (n * np.log1p(np.exp(-y * (x @ w)))).sum() / n.sum() + 1e-4 * w @ w

    assert loss(found) < loss(np.array([0.0, 1.0, 0.0, 0.0])) - 0.001
    assert (found[1:] >= 0).all()
    assert_minimum(loss, found, np.array([-np.inf, *[0.0] * (CONFIDENCE - 1)]))


def test_confidence_of_answers_that_are_all_right_is_the_articles_probability():
    def sure(questions):
        evidence = np.zeros((len(questions), 3, EVIDENCE))
        evidence[range(len(questions)), [int(question) % 3 for question in questions]] = 5.0
        return evidence, np.ones(len(questions))

    always_right = SimpleNamespace(ids=ARTICLES, model=SimpleNamespace(article_ids=ARTICLES), evidence=sure)
    found = _fit_confidence([(always_right, ROWS)], [], QUESTIONS, LABELS, np.ones(EVIDENCE))
    assert found.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_weights_minimise_the_penalised_softmax_loss(classes):
    rng = np.random.default_rng(classes)
    y = np.arange(60) % classes
    x = 0.1 * rng.normal(size=(60, 4)) + np.eye(4)[y]  # separable: only the penalty bounds the weights
    found = _logistic(sp.csr_matrix(x), y, classes)
    assert found.shape == (4, classes)

    def loss(flat):
        w = flat.reshape(4, classes)
        return -np.log(softmax(x @ w)[range(60), y]).sum() + 1e-4 * 60 / 2 * (w**2).sum()

    least = loss(found.ravel())
    for factor in (0.97, 1.03):
        assert loss(found.ravel() * factor) > least
    assert_minimum(loss, found.ravel(), np.full(4 * classes, -np.inf), slack=1e-5)


def test_one_article_needs_no_weights():
    assert _logistic(sp.csr_matrix(np.eye(3)), np.zeros(3, np.int64), 1).tolist() == [[0.0]] * 3


def test_few_questions_about_many_articles_are_learned_without_a_warning():
    """scikit-learn warns of more than 20 labels of which most occur once; warnings are errors here."""
    model = fit_linear([Counter({1: 1, 2: n % 3 + 1}) for n in range(30)], np.array([f"a{n}" for n in range(30)]))
    assert model.weights.shape == (2, 30)


def test_a_feature_counts_from_two_questions_on():
    model = fit_linear([Counter({1: 1, 2: 1}), Counter({2: 3, 3: 1}), Counter({2: 1, 3: 1})], np.array(["b", "a", "b"]))
    assert model.article_ids == ("a", "b")
    assert model.features.tolist() == [2, 3]
    np.testing.assert_allclose(model.idf, [np.log(4 / 4) + 1, np.log(4 / 3) + 1], rtol=1e-6)


@pytest.mark.parametrize(("articles", "hidden"), [(1, 0), (2, 0), (3, 1), (7, 1), (10, 2), (13, 3)])
def test_a_fifth_of_the_articles_is_hidden(articles, hidden):
    ids = [f"{number:02}" for number in range(articles)]
    found = _hidden([Article(one, "title", "body") for one in ids], 4)
    assert len(found) == hidden
    assert found <= set(ids)
