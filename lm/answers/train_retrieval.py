"""Trains the ranker of help articles on past questions: linear model, evidence weights and calibration.

Evidence weights and calibration are fitted by cross-validation, with a fifth of the articles hidden from the linear
model of each fold. So BM25 gets a weight for new articles. Questions whose article is removed altogether show what a
question looks like that no article answers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

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
    tf_idf_vectors,
)

RETRIEVAL_FOLDS = 3
HIDDEN_SHARE = 0.2
#: L2 penalty of the linear model, and the questions in which a feature must occur.
_PENALTY = 1e-4
_FEWEST_QUESTIONS = 2
#: Weight of a question whose article was removed; a question with its article has the weight 1.
_UNANSWERABLE = 0.3
Ints = NDArray[np.int64]
_ArticleIds = NDArray[np.str_]


class LabelledQuestions(NamedTuple):
    """Past questions, the id of the article that answered each, and all articles."""

    questions: list[str]
    article_ids: list[str]
    articles: list[Article]


def link_by_answer(answers: Sequence[str], articles: Sequence[Article]) -> list[str]:
    """The id of the article nearest to each answer by BM25, for answers without a noted article."""
    scores = BM25([f"{article.title}\n{article.body}" for article in articles]).scores(answers)
    return [articles[i].article_id for i in scores.argmax(axis=1)]


def train_ranker(past: LabelledQuestions, seed: int = 0) -> RankModel:
    """Train a complete RankModel."""
    counts = [hashed_features(question) for question in past.questions]
    labels = np.array(past.article_ids)
    whole, with_article, without_article = fit_linear(counts, labels), [], []
    folds = np.random.default_rng(seed).integers(RETRIEVAL_FOLDS, size=len(labels))
    for fold in range(RETRIEVAL_FOLDS):
        held = np.flatnonzero(folds == fold)
        hidden = _hidden(past.articles, seed * RETRIEVAL_FOLDS + fold)
        seen = np.flatnonzero((folds != fold) & ~np.isin(labels, list(hidden)))
        if not len(held) or not len(seen):
            continue
        model = fit_linear([counts[i] for i in seen], labels[seen])
        with_article.append((Retriever(past.articles, model), held))
        kept = [article for article in past.articles if article.article_id not in hidden]
        without_article.append((Retriever(kept, model), held[np.isin(labels[held], list(hidden))]))
    evidence = _fit_evidence(with_article, past.questions, labels, whole.evidence)
    confidence = _fit_confidence(with_article, without_article, past.questions, labels, evidence)
    return replace(whole, evidence=evidence, confidence=confidence)


def fit_linear(counts: Sequence[Counter[int]], labels: _ArticleIds) -> RankModel:
    """Multinomial logistic regression on unit-length TF-IDF vectors; evidence and confidence are not fitted."""
    document_frequency: Counter[int] = Counter()
    for count in counts:
        document_frequency.update(count.keys())
    often = sorted(feature for feature, n in document_frequency.items() if n >= _FEWEST_QUESTIONS)
    features = np.array(often, dtype=np.int64)
    n_with = np.array([document_frequency[feature] for feature in often])
    idf = (np.log((1 + len(counts)) / (1 + n_with)) + 1).astype(np.float32)
    article_ids, y = np.unique(labels, return_inverse=True)
    x, _ = tf_idf_vectors(counts, features, idf)
    weights = _logistic(x, y, len(article_ids))
    return RankModel(tuple(article_ids.tolist()), features, idf, weights.astype(np.float32))


def _logistic(x: sp.csr_matrix, y: Ints, classes: int) -> Floats:
    """(F, classes) weights of the L2-penalised multinomial logistic regression without intercept; y is (n,)."""
    if classes == 1:
        return np.zeros((x.shape[1], 1))
    # Two classes have one weight vector, the difference of the two that a softmax would have: its penalty counts half.
    strength = 1 / (_PENALTY * len(y)) * (2 if classes == 2 else 1)
    with warnings.catch_warnings():
        # With fewer than two questions an article scikit-learn takes the article's number for a quantity.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        fitted = LogisticRegression(C=strength, fit_intercept=False, tol=1e-5, max_iter=1000).fit(x, y)
    weights = fitted.coef_.T
    return np.hstack([-weights, weights]) / 2 if classes == 2 else weights


def _hidden(articles: Sequence[Article], seed: int) -> set[str]:
    """The ids of a seeded fifth of the articles, at least one where there are more than two."""
    ids = sorted(article.article_id for article in articles)
    count = max(1, round(HIDDEN_SHARE * len(ids))) if len(ids) > 2 else 0
    return set(np.random.default_rng(seed).permutation(ids)[:count].tolist())


_HeldOut = tuple[Retriever, Ints]


def _fit_evidence(held: Sequence[_HeldOut], questions: Sequence[str], labels: _ArticleIds, start: Floats) -> Floats:
    """(EVIDENCE,) weights of the conditional logit of the right article (McFadden 1974)."""
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
    answerable: Sequence[_HeldOut],
    unanswerable: Sequence[_HeldOut],
    questions: Sequence[str],
    labels: _ArticleIds,
    weights: Floats,
) -> Floats:
    """(CONFIDENCE,) weights of a logistic regression of "the first article is right" (Platt 1999).

    Answerable questions count only where the linear model knows their article, as it does in a shop.
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

    # More evidence never lowers confidence: a negative weight could only be chance.
    bounds = [(None, None), *[(0.0, None)] * (CONFIDENCE - 1)]
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
