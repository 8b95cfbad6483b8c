"""Words and characters of a whole text, beside GPT-2's state: a hashed bag of n-grams with two linear heads.

What a small GPT-2 cannot learn from some thousand reviews, that one rare phrase decides, a linear model over n-grams
does; what word order changes, GPT-2 sees. The head of the classifier adds both ("Wide & Deep", Cheng et al. 2016).
Everything is numpy over all texts at once: a review costs some hundred microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from lm.checkpoint.checkpoint import NGRAMS_FILE, NGRAMS_VERSION, CheckpointError, ngrams_file
from lm.sentiment import category_copies
from lm.text.ngram_counts import LONGEST_TEXT, CountMatrices, ngram_counts

#: By rarity, and by what presence says of the label.
HEADS = 2
#: Of the linear heads' training, some 5 GB; more hardly help and cost minutes.
MOST_CHARACTERS = 30_000_000
_STEPS = 200

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Design(NamedTuple):
    """What is chosen for a shop's reviews, on validation."""

    strength: (
        float  # inverse L2 penalty; where labels are wrong now and then a smaller one learns less of them by heart
    )
    apart: bool = False  # whether characters and words of a text have length 1 each, or both together
    characters: int = 4  # the longest n-grams of characters: they see Chinese, which has no spaces, and stems of words
    by_category: bool = False  # whether they weigh otherwise in each category, which small shops have no reviews for


#: The plainest first. Apart, words weigh as much as the many more characters, and those see whole stems, as English
#: wants; the words of Chinese are whole clauses, and four of its characters a phrase.
DESIGNS = (Design(1.0), Design(10.0), Design(3.0, apart=True, characters=6))


@dataclass(frozen=True)
class Ngrams:
    """The trained heads. F features are those buckets, of character n-grams first, that two training texts share,
    and P copies of them those that two texts of one category share (`lm.sentiment.category_copies`).

    Both see the same features: one weighs them by how rare they are, the other by how much their presence says of
    the label. They err on different texts.
    """

    characters: Ints  # (F1,) rising buckets
    words: Ints  # (F2,)
    scales: NDArray[np.float32]  # (heads, F1 + F2)
    weight: NDArray[np.float32]  # (heads, F1 + F2 + P, labels)
    bias: NDArray[np.float32]  # (heads, labels)
    apart: NDArray[np.bool_]  # one value, that of its design
    longest: Ints  # one value, the `characters` of its design
    categories: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # (C,) rising hashes
    copies: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # (P,) rising pairs of feature and category

    @classmethod
    def fit_each(
        cls,
        texts: Sequence[str],
        labels: Ints,
        count: int,
        designs: Sequence[Design],
        fitted: Callable[[], None] = lambda: None,
        *,
        categories: Sequence[str] | None = None,
    ) -> list[Ngrams]:
        """Train on `texts` with labels < `count`, once for each of the `designs`; `categories`, what each text is
        about (empty where nobody knows), are for those by category.

        Features are 1 + ln(tf), times inverse document frequencies (Salton & Buckley 1988) or naive-Bayes log-count
        ratios (Wang & Manning, ACL 2012), those of a text of length 1; then logistic regression. Equal whatever the
        order of `texts` but for rounding. `fitted` is called HEADS times for each design, as each is done.
        """
        hashes = _hashes(categories, texts)
        found: dict[Design, Ngrams] = {}
        for longest in {design.characters for design in designs}:
            alike = [design for design in designs if design.characters == longest]
            found |= zip(alike, cls._fit_alike(texts, labels, count, alike, fitted, hashes), strict=True)
        return [found[design] for design in designs]

    @classmethod
    def _fit_alike(
        cls,
        texts: Sequence[str],
        labels: Ints,
        count: int,
        designs: Sequence[Design],
        fitted: Callable[[], None],
        hashes: Ints,
    ) -> list[Ngrams]:
        """The same for designs that see the same n-grams, which are counted once."""
        longest = designs[0].characters
        blocks = list(ngram_counts(texts, longest))
        characters, words = (_shared(kind) for kind in zip(*blocks, strict=True))
        known = [_known(block, (characters, words)) for block in blocks]
        del blocks  # of long reviews gigabytes
        counts = scipy.sparse.vstack(known, format="csr")
        del known
        by_category = any(design.by_category for design in designs)
        categories = category_copies.learned(hashes if by_category else hashes[:0])
        copies = category_copies.shared_pairs(counts, hashes, categories)
        idf = np.log((1 + len(texts)) / (1 + np.bincount(counts.indices, minlength=counts.shape[1]))) + 1
        scales = np.stack([idf, _log_ratios(counts, labels)]).astype(np.float32)
        copied = category_copies.with_copies(counts, hashes, categories, copies)
        heads = []
        for design in designs:
            by = (categories, copies) if design.by_category else (categories[:0], copies[:0])
            seen = copied if design.by_category else counts
            begun = cls(
                characters,
                words,
                scales,
                np.zeros((len(scales), seen.shape[1], count), np.float32),
                np.tile(_log_shares(labels, count), (len(scales), 1)),
                np.array(design.apart),
                np.array(longest),
                *by,
            )
            for head in range(HEADS):
                model = LogisticRegression(C=design.strength, max_iter=_STEPS).fit(begun._weighed(seen, head), labels)
                begun._take(head, model)
                fitted()
            heads.append(begun)
        return heads

    def _take(self, head: int, model: LogisticRegression) -> None:
        """What `model` learned becomes that of `head`."""
        weight, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn gives the second one's alone
            weight, bias = np.stack([-weight[0] / 2, weight[0] / 2]), np.array([-0.5, 0.5]) * bias
        self.weight[head][:, model.classes_], self.bias[head, model.classes_] = weight.T, bias

    def logits(self, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """(heads, texts, labels); of each text and its category alone, whatever its company.

        A text without a category, or with one that the training did not know, has what all categories share.
        """
        found = np.empty((len(self.bias), len(texts), self.bias.shape[1]))
        hashes = _hashes(categories, texts)
        start = 0
        for block in ngram_counts(texts, self.longest.item()):
            counts = _known(block, (self.characters, self.words))
            part = slice(start, start := start + counts.shape[0])
            counts = category_copies.with_copies(counts, hashes[part], self.categories, self.copies)
            for head, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
                found[head, part] = self._weighed(counts, head) @ weight.astype(np.float64) + bias
        return found

    def _weighed(self, counts: scipy.sparse.csr_matrix, head: int) -> scipy.sparse.csr_matrix:
        """(texts, F + P) float64: counts times each feature's scale, the features of a text of length 1."""
        own = counts.indices < self.scales.shape[1]
        feature = counts.indices.astype(np.int64)  # that each entry shows
        feature[~own] = category_copies.features_of(self.copies[feature[~own] - self.scales.shape[1]], self.categories)
        values = counts.data * self.scales[head][feature]
        row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        unit = 2 * row + (self.apart & (feature >= len(self.characters)))
        lengths = np.sqrt(np.bincount(unit[own], values[own] ** 2, minlength=2 * counts.shape[0]))
        values /= np.where(lengths == 0, 1, lengths)[unit]
        return scipy.sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)

    def save(self, folder: Path) -> None:
        """Write the heads into a model's folder."""
        tensors = {name: np.ascontiguousarray(values) for name, values in vars(self).items()}
        save_file(tensors, folder / NGRAMS_FILE, {"version": NGRAMS_VERSION})

    @classmethod
    def load(cls, folder: Path) -> Ngrams | None:
        """The heads of a model's folder, None where it has none. Raises CheckpointError where it is broken or old."""
        file = ngrams_file(folder)
        if file is None:
            return None
        try:
            return cls(**load_file(file))
        except (SafetensorError, OSError, TypeError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error


def affordable(texts: Sequence[str], categories: Sequence[str] | None = None) -> int:
    """How many texts, from the first on, have MOST_CHARACTERS or less together; those that have copies count twice."""
    times = 1 + (_hashes(categories, texts) != 0)
    characters = np.cumsum(times * [min(len(text), LONGEST_TEXT) for text in texts])
    return int(np.searchsorted(characters, MOST_CHARACTERS, side="right"))


def _hashes(categories: Sequence[str] | None, texts: Sequence[str]) -> Ints:
    """(texts,) of the category of each; of none without."""
    return np.zeros(len(texts), np.int64) if categories is None else category_copies.hashes_of(categories)


def _log_shares(labels: Ints, count: int) -> NDArray[np.float32]:
    """Logits before anything is learned: a label that no text has keeps this one."""
    seen = np.bincount(labels, minlength=count)
    return np.log((seen + 0.5) / len(labels)).astype(np.float32)


def _log_ratios(counts: scipy.sparse.csr_matrix, labels: Ints) -> Floats:
    """(F,) how much the presence of each says of the label: over the labels that occur, the root mean square of
    ln(P(present | label) / P(present | another)), by counts plus 1.
    """
    holders = np.stack(
        [np.bincount(counts[labels == label].indices, minlength=counts.shape[1]) for label in np.unique(labels)]
    )
    texts = np.unique(labels, return_counts=True)[1][:, None]
    of, others = (holders + 1) / (texts + 2), (holders.sum(axis=0) - holders + 1) / (len(labels) - texts + 2)
    ratios: Floats = np.sqrt((np.log(of / others) ** 2).mean(axis=0))
    return ratios


def _shared(counts: Sequence[scipy.sparse.csr_matrix]) -> Ints:
    """The buckets, rising, that two or more texts have."""
    buckets = np.sort(np.concatenate([of.indices for of in counts]))  # each once for each text that has it
    return np.unique(buckets[1:][buckets[1:] == buckets[:-1]]).astype(np.int64)


def _known(block: CountMatrices, kept: tuple[Ints, Ints]) -> scipy.sparse.csr_matrix:
    """(texts, F) counts of those buckets alone, of characters first."""
    found = []
    for counts, buckets in zip(block, kept, strict=True):
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        at = np.minimum(np.searchsorted(buckets, counts.indices), max(len(buckets) - 1, 0))
        known = buckets[at] == counts.indices if len(buckets) else np.zeros(len(at), dtype=bool)
        entries = (counts.data[known], (rows[known], at[known]))
        found.append(scipy.sparse.csr_matrix(entries, shape=(counts.shape[0], len(buckets))))
    return scipy.sparse.hstack(found, format="csr")
