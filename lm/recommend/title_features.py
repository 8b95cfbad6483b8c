"""TF-IDF vectors of product titles (Salton & Buckley 1988), over hashed words.

scikit-learn is imported late: it takes a second. Both parts that are used here are stateless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

#: Columns of the hashed features.
BUCKETS = 1 << 20
#: One Chinese character, or one run of other letters and digits.
_WORD = re.compile("[\u3400-\u9fff\uf900-\ufaff]|[^\\W\u3400-\u9fff\uf900-\ufaff]+")


def feature_counts(titles: Sequence[str]) -> scipy.sparse.csr_matrix:
    """(C, BUCKETS) float32 number of times that each of C titles has each feature."""
    if not titles:
        return scipy.sparse.csr_matrix((0, BUCKETS), dtype=np.float32)
    return _vectorizer().transform(titles)


def inverse_document_frequency(counts: scipy.sparse.csr_matrix) -> NDArray[np.float32]:
    """(BUCKETS,) smoothed inverse document frequency of each feature, from `feature_counts`."""
    titles_with = np.bincount(counts.indices, minlength=BUCKETS)
    return (np.log((1 + counts.shape[0]) / (1 + titles_with)) + 1).astype(np.float32)


def tf_idf(counts: scipy.sparse.csr_matrix, idf: NDArray[np.float32]) -> scipy.sparse.csr_matrix:
    """(C, BUCKETS) vectors with (1 + ln(count)) * idf (BUCKETS,); each row has length 1 or is empty."""
    from sklearn.preprocessing import normalize

    weighted = counts.copy()
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    return normalize(weighted)


@cache
def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(analyzer=_features, n_features=BUCKETS, alternate_sign=False, norm=None, dtype=np.float32)


def _features(title: str) -> list[str]:
    """Words, pairs of words, and the first word marked as such: in many catalogues it is the brand."""
    words = _WORD.findall(title.lower())
    return [*words, *map(" ".join, pairwise(words)), *(f"^{word}" for word in words[:1])]
