"""Learn from past questions which article answers which: the linear model, the weights of evidence, the calibration.

The weights and the calibration are learned on questions that the linear model has not seen, with a fifth of the
articles hidden from it: so BM25 learns its weight for articles that are new, and a question whose article is taken away
altogether shows what it looks like when nothing in the shop answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize

from lm.answers.answer_prompt import Article
from lm.answers.retrieval import (
    BM25,
    CONFIDENCE,
    EVIDENCE,
    Floats,
    RankModel,
    Retriever,
    confidence_features,
    hashed_features,
    log_softmax,
    sigmoid,
    vectors,
)

FOLDS = 3
HIDDEN = 0.2
#: L2 of the linear model; a feature must occur in two questions.
_PENALTY = 1e-4
_OFTEN = 2
#: Weight of a question whose article was taken away, against one of those that are answered.
_UNANSWERABLE = 0.3
Ints = NDArray[np.int64]
Labels = NDArray[np.str_]


class Asked(NamedTuple):
    """Past questions and the article that answered each; `articles` names all that there are."""

    questions: list[str]
    article_ids: list[str]
    articles: list[Article]


def link_by_answer(answers: Sequence[str], articles: Sequence[Article]) -> list[str]:
    """Where staff noted no article: the one whose words the answer shares most, by BM25."""
    scores = BM25([f"{article.title}\n{article.body}" for article in articles]).scores(answers)
    return [articles[i].article_id for i in scores.argmax(axis=1)]


def train_ranker(asked: Asked, seed: int = 0) -> RankModel:
    """Learn everything of a RankModel."""
    counts = [hashed_features(question) for question in asked.questions]
    labels = np.array(asked.article_ids)
    everything, evidence, confidence = fit_linear(counts, labels), [], []
    folds = np.random.default_rng(seed).integers(FOLDS, size=len(labels))
    for fold in range(FOLDS):
        held = np.flatnonzero(folds == fold)
        hidden = _hidden(asked.articles, seed * FOLDS + fold)
        seen = np.flatnonzero((folds != fold) & ~np.isin(labels, list(hidden)))
        if not len(held) or not len(seen):
            continue
        model = fit_linear([counts[i] for i in seen], labels[seen])
        evidence.append((Retriever(asked.articles, model), held))
        kept = [article for article in asked.articles if article.article_id not in hidden]
        confidence.append((Retriever(kept, model), held[np.isin(labels[held], list(hidden))]))
    weights = _fit_evidence(evidence, asked.questions, labels, everything.evidence)
    calibration = _fit_confidence(evidence, confidence, asked.questions, labels, weights)
    return RankModel(
        everything.article_ids, everything.features, everything.idf, everything.weights, weights, calibration
    )


def fit_linear(counts: Sequence[Counter[int]], labels: Labels) -> RankModel:
    """The linear model alone: multinomial logistic regression on unit-length tf-idf vectors, by L-BFGS."""
    document_frequency: Counter[int] = Counter()
    for count in counts:
        document_frequency.update(count.keys())
    often = sorted(feature for feature, n in document_frequency.items() if n >= _OFTEN)
    features = np.array(often, dtype=np.int64)
    n_with = np.array([document_frequency[feature] for feature in often])
    idf = (np.log((1 + len(counts)) / (1 + n_with)) + 1).astype(np.float32)
    article_ids, y = np.unique(labels, return_inverse=True)
    x, _ = vectors(counts, features, idf)
    weights = _logistic(x, y, len(article_ids))
    return RankModel(tuple(article_ids.tolist()), features, idf, weights.astype(np.float32))


def _logistic(x: sp.csr_matrix, y: Ints, classes: int) -> Floats:
    """(F, classes) weights of the penalised likelihood's one maximum."""
    rows = np.arange(len(y))
    transposed = x.T.tocsr()

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(x.shape[1], classes)
        log_p = log_softmax(np.asarray(x @ weights))
        error = np.exp(log_p)
        error[rows, y] -= 1
        gradient = np.asarray(transposed @ error) / len(y) + _PENALTY * weights
        return float(-log_p[rows, y].mean() + _PENALTY / 2 * (flat @ flat)), gradient.ravel()

    found = minimize(loss, np.zeros(x.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 80})
    return np.asarray(found.x).reshape(x.shape[1], classes)


def _hidden(articles: Sequence[Article], seed: int) -> set[str]:
    """A fifth of the articles, at least one where there are several."""
    ids = sorted(article.article_id for article in articles)
    count = max(1, round(HIDDEN * len(ids))) if len(ids) > 2 else 0
    return set(np.random.default_rng(seed).permutation(ids)[:count].tolist())


Held = tuple[Retriever, Ints]


def _fit_evidence(held: Sequence[Held], questions: Sequence[str], labels: Labels, start: Floats) -> Floats:
    """Conditional logit (McFadden 1974): how much each kind of evidence says about which article it is."""
    blocks, right = [], []
    for retriever, rows in held:
        answerable = rows[np.isin(labels[rows], retriever.ids)]
        if len(answerable):
            blocks.append(retriever.evidence([questions[i] for i in answerable])[0])
            right.append(np.array([retriever.ids.index(labels[i]) for i in answerable]))
    if not blocks:
        return start

    def loss(weights: Floats) -> tuple[float, Floats]:
        total, gradient, n = 0.0, np.zeros(EVIDENCE), sum(map(len, right))
        for evidence, y in zip(blocks, right, strict=True):
            log_p = log_softmax(evidence @ weights)
            each = np.arange(len(y))
            total -= float(log_p[each, y].sum())
            gradient += np.einsum("na,nae->e", np.exp(log_p), evidence) - evidence[each, y].sum(axis=0)
        return total / n + 1e-3 * float(weights @ weights), gradient / n + 2e-3 * weights

    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def _fit_confidence(
    answerable: Sequence[Held], unanswerable: Sequence[Held], questions: Sequence[str], labels: Labels, weights: Floats
) -> Floats:
    """Logistic regression of "the first article is the right one" (Platt 1999, with several features).

    Of the answerable questions those count whose article the linear model knows, as it knows a shop's.
    """
    features, is_right, counts = [], [], []
    for held, weight in [*((one, 1.0) for one in answerable), *((one, _UNANSWERABLE) for one in unanswerable)]:
        retriever, rows = held
        if weight == 1.0:
            rows = rows[np.isin(labels[rows], retriever.model.article_ids)]
        if len(rows):
            evidence, share = retriever.evidence([questions[i] for i in rows])
            p = np.exp(log_softmax(evidence @ weights))
            features.append(confidence_features(p, evidence, share))
            is_right.append(np.array(retriever.ids)[p.argmax(axis=1)] == labels[rows])
            counts.append(np.full(len(rows), weight))
    start = np.array([0.0, 1.0, 0.0, 0.0])
    if not features or len(np.unique(np.concatenate(is_right))) < 2:
        return start
    x, y, n = np.concatenate(features), np.concatenate(is_right).astype(np.float64), np.concatenate(counts)

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = (2 * y - 1) * (x @ w)
        error = n * (sigmoid(x @ w) - y)
        return float(n @ np.logaddexp(0, -margin) / n.sum() + 1e-4 * w @ w), x.T @ error / n.sum() + 2e-4 * w

    # More is never less sure: a negative weight could only be chance.
    bounds = [(None, None), *[(0.0, None)] * (CONFIDENCE - 1)]
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
