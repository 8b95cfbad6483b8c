"""Trains the linear model over n-grams; `lm.sentiment.ngrams` serves it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from lm.redaction.writers import known_writers
from lm.sentiment.ngrams import (
    LONGEST_TEXT,
    Floats,
    Ints,
    Ngrams,
    category_hashes,
    count_ngrams,
    select_columns,
    weigh_features,
)

#: More characters than these train hardly better, and take minutes and more than 5 GB of memory.
MOST_CHARACTERS = 30_000_000
#: Inverse strength of the L2 penalty.
_C = 3.0
_MAX_ITERATIONS = 200


def fit_ngrams(
    texts: Sequence[str],
    labels: Ints,
    count: int,
    categories: Sequence[str] | None = None,
    *,
    writers: Sequence[str | None] | None = None,
    min_writers: int = 2,
    with_tfidf: bool = False,
) -> Ngrams:
    """Train on `texts` with labels below `count`; `categories` name what each text is about, "" if unknown.

    N-grams are features that at least `min_writers` of the `writers` used; by default each text has its own.

    Features are 1 + ln(term frequency) times naive-Bayes log-count ratios (Wang & Manning, ACL 2012); the features
    of each kind have length 1 in every text. `with_tfidf` averages the logits of this model and of a class-balanced one
    with inverse document frequencies in the place of the ratios. The order of the texts changes nothing but rounding.
    """
    hashes = category_hashes(categories, len(texts))
    known = np.unique(hashes[hashes != 0])
    if len(np.unique(hashes)) < 2:
        known = known[:0]
    blocks = list(count_ngrams(texts, hashes, known))
    _, writer = np.unique(np.array(known_writers(writers, len(texts)), dtype=str), return_inverse=True)
    kept = [_shared(kind, writer, min_writers) for kind in zip(*blocks, strict=True)]
    parts = [[select_columns(*of) for of in zip(block, kept, strict=True)] for block in blocks]
    del blocks  # gigabytes where reviews are long
    counts = [scipy.sparse.vstack(kind, format="csr") for kind in zip(*parts, strict=True)]
    del parts
    ways = [(_log_ratios, None), (_inverse_frequencies, "balanced")][: 1 + with_tfidf]
    scales = [np.concatenate([way(kind, labels) for kind in counts]).astype(np.float32) for way, _ in ways]
    ends = np.cumsum([len(of) for of in kept])
    fitted = [
        _fit_weights(weigh_features(counts, scale, ends), labels, count, class_weight)
        for scale, (_, class_weight) in zip(scales, ways, strict=True)
    ]
    return Ngrams(
        buckets=np.concatenate(kept * len(ways)),
        ends=np.cumsum([len(of) for of in kept * len(ways)]),
        scale=np.concatenate(scales),
        weight=np.concatenate([weight / np.float32(len(ways)) for weight, _ in fitted]),
        bias=np.mean([bias for _, bias in fitted], axis=0),
        categories=known,
    )


def _fit_weights(
    features: scipy.sparse.csr_matrix, labels: Ints, count: int, class_weight: str | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weight (F, count) of each feature and the bias (count,) of logistic regression."""
    # A label that no text has keeps this logit.
    bias = np.log((np.bincount(labels, minlength=count) + 0.5) / len(labels)).astype(np.float32)
    weight = np.zeros((features.shape[1], count), np.float32)
    if not features.shape[1]:  # too few writers: the label's share is all that is known
        return weight, bias
    fitted = LogisticRegression(C=_C, max_iter=_MAX_ITERATIONS, class_weight=class_weight).fit(features, labels)
    coefficients, intercept = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn returns the second class alone
        coefficients = np.stack([-coefficients[0] / 2, coefficients[0] / 2])
        intercept = np.array([-0.5, 0.5]) * intercept
    weight[:, fitted.classes_], bias[fitted.classes_] = coefficients.T, intercept
    return weight, bias


def affordable(texts: Sequence[str], categories: Sequence[str] | None = None) -> int:
    """How many texts, from the first, have at most MOST_CHARACTERS; those with a category count twice."""
    times = 1 + (category_hashes(categories, len(texts)) != 0)
    characters = np.cumsum(times * [min(len(text), LONGEST_TEXT) for text in texts])
    return int(np.searchsorted(characters, MOST_CHARACTERS, side="right"))


def _shared(counts: Sequence[scipy.sparse.csr_matrix], writer: Ints, least: int) -> Ints:
    """The buckets that the texts of at least `least` writers have, ascending; `writer` (texts,) is a number of each."""
    writers = int(writer.max(initial=0)) + 1
    pairs, start = [], 0
    for of in counts:
        rows = np.repeat(writer[start : start + of.shape[0]], np.diff(of.indptr))
        pairs.append(np.unique(of.indices.astype(np.int64) * writers + rows))
        start += of.shape[0]
    buckets, holders = np.unique(np.unique(np.concatenate(pairs)) // writers, return_counts=True)
    return buckets[holders >= least].astype(np.int64)


def _log_ratios(counts: scipy.sparse.csr_matrix, labels: Ints) -> Floats:
    """(F,) root mean square over the labels that occur of ln(P(present | label) / P(present | another label)).

    Counts are increased by 1.
    """
    occurring = np.unique(labels)
    holders = np.stack([np.bincount(counts[labels == of].indices, minlength=counts.shape[1]) for of in occurring])
    texts = np.array([(labels == of).sum() for of in occurring])[:, None]
    of, others = (holders + 1) / (texts + 2), (holders.sum(axis=0) - holders + 1) / (len(labels) - texts + 2)
    ratios: Floats = np.sqrt((np.log(of / others) ** 2).mean(axis=0))
    return ratios


def _inverse_frequencies(counts: scipy.sparse.csr_matrix, _: Ints) -> Floats:
    """(F,) 1 + ln((1 + texts) / (1 + texts with the n-gram)), as in scikit-learn's TF-IDF."""
    holders = np.bincount(counts.indices, minlength=counts.shape[1])
    rarity: Floats = 1 + np.log((1 + counts.shape[0]) / (1 + holders))
    return rarity
