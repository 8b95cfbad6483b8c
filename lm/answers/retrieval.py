"""Finds the help article that answers a question, and the probability that it is the right one.

BM25 (the `bm25s` library) finds articles by their own words, also new ones. A multinomial logistic regression learns
from past questions that "where is my parcel" asks for "Track an order"; its features are hashed words, word pairs and
character n-grams. A conditional logit combines the two. A calibrated logistic regression gives the confidence that the
first article is right; questions with a low confidence are refused.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import bm25s
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lm.answers.answer_prompt import Article
from lm.checkpoint.checkpoint import CheckpointError

RANKER_FILE = "ranker.safetensors"

Floats = NDArray[np.float64]
#: Number of weights of the conditional logit: the linear model's log-probability, whether the article is new to it,
#: BM25 of a known article, BM25 of a new one.
EVIDENCE = 4
#: Number of weights of the calibration: constant, log-odds of the first article, known share of the question, BM25 of
#: the first article.
CONFIDENCE = 4
_BITS = 20
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TERMS = re.compile(rf"[^\W_{_CJK}]+|[{_CJK}]+")
_CJK_RUN = re.compile(f"[{_CJK}]")


class Ranked(NamedTuple):
    """Articles for one question, best first, their probabilities, and the confidence that the first is right."""

    article_ids: list[str]
    probabilities: list[float]
    confidence: float


@dataclass(frozen=True)
class RankModel:
    """The weights learned from past questions. `RankModel()` ranks by BM25 alone, with uncalibrated confidence."""

    article_ids: tuple[str, ...] = ()
    features: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # (F,) hashes, rising
    idf: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # (F,)
    weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (F, articles)
    evidence: NDArray[np.float64] = field(default_factory=lambda: np.array([1.0, 0.0, 0.5, 0.5]))  # (EVIDENCE,)
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 1.0, 0.0, 0.0]))  # (CONFIDENCE,)

    def save(self, folder: Path) -> None:
        """Write `ranker.safetensors` into a model folder."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        save_file(arrays, str(folder / RANKER_FILE), metadata={"article_ids": json.dumps(self.article_ids)})

    @classmethod
    def load(cls, folder: Path) -> RankModel:
        """Read the ranker of a model folder. Raises CheckpointError where it is missing or broken."""
        try:
            with safe_open(str(folder / RANKER_FILE), framework="numpy") as file:
                article_ids = tuple(json.loads(file.metadata()["article_ids"]))
                return cls(article_ids, **{name: file.get_tensor(name) for name in _ARRAYS})
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"model {folder}: {RANKER_FILE} is missing or broken: train it with `regulars train --task answers`"
            ) from error

    def vectors(self, counts: Sequence[Counter[int]]) -> tuple[sp.csr_matrix, Floats]:
        """(n, F) unit-length TF-IDF vectors of hashed features, and (n,) the known share of each question's mass."""
        return tf_idf_vectors(counts, self.features, self.idf)

    def log_probabilities(self, x: sp.csr_matrix) -> Floats:
        """(n, articles) log-probabilities of the linear model alone."""
        return log_softmax(np.asarray(x @ self.weights, dtype=np.float64))


_ARRAYS = ("features", "idf", "weights", "evidence", "confidence")


class Retriever:
    """Ranks tonight's articles for questions. Raises ValueError without articles."""

    def __init__(self, articles: Sequence[Article], model: RankModel) -> None:
        if not articles:
            raise ValueError("there are no articles to rank")
        self.articles = {article.article_id: article for article in sorted(articles)}
        self.ids = list(self.articles)
        self.model = model
        self._bm25 = BM25([f"{a.title}\n{a.title}\n{a.body}" for a in self.articles.values()])
        known = {article: column for column, article in enumerate(model.article_ids)}
        self._column = np.array([known.get(article, -1) for article in self.ids])

    def rank(self, questions: Sequence[str], k: int) -> list[Ranked]:
        """The `k` most likely articles for each question; ties by id."""
        evidence, known_share = self.evidence(questions)
        logits = evidence @ self.model.evidence
        p = np.exp(log_softmax(logits))
        confidences = sigmoid(confidence_features(p, evidence, known_share) @ self.model.confidence)
        ranked = []
        for row, confidence in zip(p, confidences, strict=True):
            order = np.argsort(-row, kind="stable")[:k]
            ranked.append(Ranked([self.ids[i] for i in order], row[order].tolist(), float(confidence)))
        return ranked

    def evidence(self, questions: Sequence[str]) -> tuple[Floats, Floats]:
        """(n, articles, EVIDENCE) evidence, and (n,) the known share of each question."""
        bm25 = self._bm25.scores(questions)
        x, known_share = self.model.vectors([hashed_features(question) for question in questions])
        linear = np.zeros((len(questions), len(self.ids)))
        known = self._column >= 0
        if known.any():
            linear[:, known] = self.model.log_probabilities(x)[:, self._column[known]]
        return stack_evidence(linear, bm25, known), known_share


class BM25:
    """BM25 scores of texts against questions (Robertson & Zaragoza 2009); without a common word the score is 0."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        corpus = [bm25_terms(text) for text in texts]
        # bm25s cannot index a corpus without words.
        self._index = bm25s.BM25(method="lucene") if any(corpus) else None
        if self._index:
            self._index.index(corpus, show_progress=False)

    def scores(self, questions: Sequence[str]) -> Floats:
        """(questions, texts) scores."""
        found = np.zeros((len(questions), self._size))
        for row, question in enumerate(questions):
            words = bm25_terms(question)
            if self._index and words:
                found[row] = self._index.get_scores(words)
        return found


def bm25_terms(text: str) -> list[str]:
    """The words of a text in lower case; of Chinese, the characters and pairs of adjacent characters."""
    found: list[str] = []
    for match in _TERMS.finditer(text.lower()):
        run = match[0]
        if _CJK_RUN.match(run):
            found += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        else:
            found.append(run)
    return found


def hashed_features(text: str) -> Counter[int]:
    """Counts of hashed terms, of pairs of adjacent terms, and of character 3- to 5-grams of Latin words.

    All numbers count as the same term: an order number says nothing about the topic.
    """
    words = ["0" if term[0].isdigit() else term for term in bm25_terms(text)]
    names = [f"w {word}" for word in words]
    names += [f"p {a} {b}" for a, b in pairwise(words)]
    for word in words:
        if not _CJK_RUN.match(word):
            marked = f"<{word}>"
            names += [f"c {marked[i : i + n]}" for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    mask = (1 << _BITS) - 1
    return Counter(zlib.crc32(name.encode("utf-8", "surrogatepass")) & mask for name in names)


def tf_idf_vectors(
    counts: Sequence[Counter[int]], features: NDArray[np.int64], idf: NDArray[np.float32]
) -> tuple[sp.csr_matrix, Floats]:
    """`RankModel.vectors` for given features; in the share, an unknown feature counts as the rarest known one."""
    rows, columns, values = [], [], []
    share = np.zeros(len(counts))
    rarest = float(idf.max(initial=1.0))
    for row, count in enumerate(counts):
        hashes = np.fromiter(count.keys(), np.int64, len(count))
        tf = 1 + np.log(np.fromiter(count.values(), np.float64, len(count)))
        place = np.searchsorted(features, hashes)
        known = place < len(features)
        known[known] = features[place[known]] == hashes[known]
        value = tf[known] * idf[place[known]]
        share[row] = value.sum() / max(value.sum() + rarest * tf[~known].sum(), 1e-12)
        rows.append(np.full(int(known.sum()), row))
        columns.append(place[known])
        values.append(value / max(math.sqrt(float(value @ value)), 1e-12))
    shape = (len(counts), len(features))
    if not counts:
        return sp.csr_matrix(shape), share
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(data, shape=shape), share


def stack_evidence(linear: Floats, bm25: Floats, known: NDArray[np.bool_]) -> Floats:
    """(n, articles, EVIDENCE) from log-probabilities and BM25 scores (n, articles); `known` is (articles,)."""
    return np.stack([linear * known, np.broadcast_to(~known, bm25.shape), bm25 * known, bm25 * ~known], axis=2).astype(
        np.float64
    )


def confidence_features(p: Floats, evidence: Floats, known_share: Floats) -> Floats:
    """(n, CONFIDENCE) features from (n, articles) probabilities, their evidence, and (n,) known shares."""
    first = p.argmax(axis=1)
    best = np.clip(p.max(axis=1), 1e-6, 1 - 1e-6)
    bm25 = evidence[np.arange(len(p)), first, 2:].sum(axis=1)
    return np.stack([np.ones(len(p)), np.log(best / (1 - best)), known_share, np.log1p(bm25)], axis=1)


def log_softmax(logits: Floats) -> Floats:
    """log softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Any = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(x / 2))
