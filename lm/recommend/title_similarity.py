"""Cosines between the titles of one catalogue, as TF-IDF vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lm.recommend.title_features import feature_counts, inverse_document_frequency, tf_idf

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]

#: The (m, C) cosines of m of the n requests, from the product at an index (m,) of each with its C rows.
Within = Callable[[Ints, Ints], Floats]

#: Most products whose neighbours are kept.
_MOST_NEIGHBOURS = 10_000
#: Catalogues of at most so many products keep the cosines of all pairs.
_SMALL = 2000


class TitleSimilarity:
    """The cosines of I titles. Not thread-safe."""

    def __init__(self, titles: Sequence[str]) -> None:
        counts = feature_counts(titles)
        vectors = tf_idf(counts, inverse_document_frequency(counts))
        used, indices = np.unique(vectors.indices, return_inverse=True)
        shape = len(titles), max(len(used), 1)
        #: (I, features that occur) vectors of length 1; a title without words has an empty row.
        self.vectors = scipy.sparse.csr_matrix((vectors.data, indices, vectors.indptr), shape=shape)
        self._by_feature = self.vectors.T.tocsr()
        self._kept: dict[int, tuple[Ints, Float32s]] = {}

    def neighbours(self, row: int) -> tuple[Ints, Float32s]:
        """The titles that share words with that of a row, itself included, and the cosines."""
        found = self._kept.get(row)
        if found is None:
            if len(self._kept) >= _MOST_NEIGHBOURS:
                self._kept.clear()
            cosine = (self.vectors[row] @ self._by_feature).tocoo()
            found = self._kept[row] = cosine.col.astype(np.int64), cosine.data.astype(np.float32)
        return found

    def within(self, rows: Ints) -> Within:
        """Prepare the cosines of the titles of C rows with one another, for each of n times C rows (n, C)."""
        if self.vectors.shape[0] <= _SMALL:
            return lambda of, index: self._all[rows[of, index][:, None], rows[of]]
        cosines = np.stack([self._between(of) for of in rows])
        return lambda of, index: cosines[of, index]

    @cached_property
    def _all(self) -> Floats:
        return self._between(np.arange(self.vectors.shape[0]))

    def _between(self, rows: Ints) -> Floats:
        """(n, n) cosines of the titles of n rows."""
        vectors = self.vectors[rows]
        used, feature = np.unique(vectors.indices, return_inverse=True)
        dense = np.zeros((len(rows), len(used)))
        dense[np.repeat(np.arange(len(rows)), np.diff(vectors.indptr)), feature] = vectors.data
        return dense @ dense.T
