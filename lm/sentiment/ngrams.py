"""A linear model over hashed n-grams of characters and words, which reads the whole text.

A small GPT-2 that learns from some thousand reviews misses rare decisive phrases; a linear model over n-grams finds
them, and GPT-2 reads word order. The classifier adds the logits of both ("Wide & Deep", Cheng et al., 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import HashingVectorizer

from lm.checkpoint.checkpoint import NGRAMS_FILE, NGRAMS_VERSION, CheckpointError, ngrams_file
from lm.redaction.redact import redact
from lm.text.splits import text_digest
from lm.text.template import clean

#: Characters; only the two ends of a longer text are read.
LONGEST_TEXT = 20_000
_TEXTS_AT_ONCE = 2000
#: Tens of thousands of reviews have millions of n-grams, which would collide in fewer buckets.
_BUCKETS = 2**26
#: N-grams of characters see Chinese, which has no spaces, and the stems of English; two words can express negation.
_HASHING: dict[str, Any] = {"n_features": _BUCKETS, "alternate_sign": False, "norm": None, "lowercase": False}
_WORD = r"[^\W_]+"
_VECTORIZERS = (
    HashingVectorizer(analyzer="char", ngram_range=(1, 6), **_HASHING),
    HashingVectorizer(analyzer="word", token_pattern=_WORD, ngram_range=(1, 2), **_HASHING),
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ngrams:
    """Logistic regression over the F n-grams that two training texts share.

    There are four kinds of features: n-grams of characters and of words, and both again for the category of the text.
    A model of few texts has them twice, with two scales: its logits are the mean of two models'.
    The model learns from all texts what they have in common, and from each category what is particular to it (Daumé
    III, "Frustratingly Easy Domain Adaptation", ACL 2007): "cold" is bad for a shower and good for milk.
    """

    buckets: Ints  # (F,) those of each kind, ascending
    ends: Ints  # (4,) or (8,) where each kind ends among the features
    scale: NDArray[np.float32]  # (F,) how much the presence of each tells about the label
    weight: NDArray[np.float32]  # (F, labels)
    bias: NDArray[np.float32]  # (labels,)
    categories: Ints  # (C,) hashes of the known categories, ascending; none where there is one category or none

    def logits(self, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """The logits of each text, (texts, labels); they do not depend on the other texts.

        A text without a category, or with one that the training did not know, has the features of all texts alone.
        """
        found = np.empty((len(texts), len(self.bias)))
        kept = np.split(self.buckets, self.ends[:-1])
        start = 0
        for block in count_ngrams(texts, category_hashes(categories, len(texts)), self.categories):
            counts = [select_columns(*of) for of in zip(block * (len(kept) // len(block)), kept, strict=True)]
            rows = slice(start, start := start + counts[0].shape[0])
            found[rows] = weigh_features(counts, self.scale, self.ends) @ self.weight.astype(np.float64) + self.bias
        return found

    def save(self, folder: Path) -> None:
        """Write the model into a checkpoint's folder."""
        tensors = {name: np.ascontiguousarray(values) for name, values in vars(self).items()}
        save_file(tensors, folder / NGRAMS_FILE, {"version": NGRAMS_VERSION})

    @classmethod
    def load(cls, folder: Path) -> Ngrams | None:
        """Read the model from a checkpoint's folder, None where it has none.

        Raises CheckpointError where the file is broken or of another release.
        """
        file = ngrams_file(folder)
        if file is None:
            return None
        try:
            return cls(**load_file(file))
        except (SafetensorError, OSError, TypeError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error


def normalise(text: str) -> str:
    """The text in which n-grams are counted: both ends if it is long, redacted, on one line, in lower case."""
    return clean(redact(both_ends(text, LONGEST_TEXT))).lower()


def both_ends(text: str, characters: int) -> str:
    """The text if it has at most `characters`, else half of them from each end, with a space between."""
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} {text[-half:]}"


def category_hashes(categories: Sequence[str] | None, texts: int) -> Ints:
    """(texts,) a hash of each category, whatever its case and spacing; 0 where it is empty."""
    if categories is None:
        return np.zeros(texts, np.int64)
    known = {name: 1 + int.from_bytes(text_digest(name)[:7], "big") for name in set(categories) if name.strip()}
    return np.array([known.get(name, 0) for name in categories], dtype=np.int64)


def count_ngrams(texts: Sequence[str], hashes: Ints, known: Ints) -> Iterator[list[scipy.sparse.csr_matrix]]:
    """Yield 1 + ln(count) of every bucket, a matrix (texts, buckets) of each kind, for some texts at once.

    `hashes` (texts,) are those of the categories; texts of categories that are not among the `known` have no copies.
    """
    hashes = np.where(np.isin(hashes, known), hashes, 0)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = slice(start, start + _TEXTS_AT_ONCE)
        read = [normalise(text) for text in texts[part]]
        counts = [vectorizer.transform(read) for vectorizer in _VECTORIZERS]
        for kind in counts:
            kind.data = 1 + np.log(kind.data)
        yield [*counts, *(_copies(kind, hashes[part]) for kind in counts)]


def _copies(counts: scipy.sparse.csr_matrix, hashes: Ints) -> scipy.sparse.csr_matrix:
    """The same counts in buckets of the texts' categories; none for texts with hash 0."""
    of_entry = np.repeat(hashes, np.diff(counts.indptr))
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    known = of_entry != 0
    buckets = counts.indices[known] ^ (of_entry[known] % _BUCKETS)
    return scipy.sparse.csr_matrix((counts.data[known], (rows[known], buckets)), shape=counts.shape)


def select_columns(counts: scipy.sparse.csr_matrix, kept: Ints) -> scipy.sparse.csr_matrix:
    """The columns of the `kept` buckets; scipy's own indexing needs an array as long as all buckets."""
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    at = np.minimum(np.searchsorted(kept, counts.indices), max(len(kept) - 1, 0))
    known = kept[at] == counts.indices if len(kept) else np.zeros(len(at), dtype=bool)
    entries = (counts.data[known], (rows[known], at[known]))
    return scipy.sparse.csr_matrix(entries, shape=(counts.shape[0], len(kept)))


def weigh_features(
    counts: Sequence[scipy.sparse.csr_matrix], scale: NDArray[np.float32], ends: Ints
) -> scipy.sparse.csr_matrix:
    """(texts, F) float64: counts times the `scale` (F,) of each feature, every kind of length 1."""
    found = []
    for kind, of in zip(counts, np.split(scale.astype(np.float64), ends[:-1]), strict=True):
        scaled = kind @ scipy.sparse.diags(of)
        lengths = scipy.sparse.linalg.norm(scaled, axis=1)
        found.append(scipy.sparse.diags(1 / np.where(lengths == 0, 1, lengths)) @ scaled)
    return scipy.sparse.hstack(found, format="csr")
