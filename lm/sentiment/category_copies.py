"""Copies of features for the category that a text is about: "cold" is bad of a shower and good of milk.

Each feature weighs by one number for all texts and by another for those of each category, so a linear model learns
from all of them what they agree on and from its own what is particular (Daumé III, "Frustratingly Easy Domain
Adaptation", ACL 2007). Everything is numpy over the entries of a sparse matrix at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lm.text.splits import text_digest

Ints = NDArray[np.int64]


def hashes_of(categories: Sequence[str]) -> Ints:
    """(texts,) a hash of each text's category, the same whatever its case and spacing; 0 where it is empty."""
    known = {
        name: int.from_bytes(text_digest(name)[:8], "big", signed=True) for name in set(categories) if name.strip()
    }
    return np.array([known.get(name, 0) for name in categories], dtype=np.int64)


def learned(hashes: Ints) -> Ints:
    """(C,) rising hashes of the categories that are worth copies: none where all texts are about one."""
    found = np.unique(hashes)
    return found[found != 0] if len(found) > 1 else found[:0]


def shared_pairs(counts: scipy.sparse.csr_matrix, hashes: Ints, categories: Ints) -> Ints:
    """(P,) rising pairs of a feature of `counts` (texts, F) and a category that two or more texts have.

    A pair is feature * C + the category's place.
    """
    _, pairs = _pairs(counts, hashes, categories)
    pairs = np.sort(pairs)
    return np.unique(pairs[1:][pairs[1:] == pairs[:-1]])


def with_copies(counts: scipy.sparse.csr_matrix, hashes: Ints, categories: Ints, kept: Ints) -> scipy.sparse.csr_matrix:
    """(texts, F + P): `counts` (texts, F), and beside them again those of each text's `kept` pairs (P,)."""
    if len(kept) == 0:
        return counts
    entries, pairs = _pairs(counts, hashes, categories)
    at = np.minimum(np.searchsorted(kept, pairs), len(kept) - 1)
    known = kept[at] == pairs
    entries, at = entries[known], at[known]
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[entries]
    copies = scipy.sparse.csr_matrix((counts.data[entries], (rows, at)), shape=(counts.shape[0], len(kept)))
    return scipy.sparse.hstack([counts, copies], format="csr")


def features_of(kept: Ints, categories: Ints) -> Ints:
    """(P,) the feature that each pair copies."""
    return kept // max(len(categories), 1)


def _pairs(counts: scipy.sparse.csr_matrix, hashes: Ints, categories: Ints) -> tuple[Ints, Ints]:
    """The entries of `counts` whose text is of one of the categories, and their pairs."""
    if len(categories) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = np.minimum(np.searchsorted(categories, hashes), len(categories) - 1)
    places = np.repeat(np.where(categories[place] == hashes, place, -1), np.diff(counts.indptr))
    entries = np.flatnonzero(places >= 0)
    return entries, counts.indices[entries].astype(np.int64) * len(categories) + places[entries]
