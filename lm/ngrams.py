"""Words and characters of a whole text, beside GPT-2's state: a hashed bag of n-grams with two linear heads.

What a small GPT-2 cannot learn from some thousand reviews, that one rare phrase decides, a linear model over n-grams
does; what word order changes, GPT-2 sees. The head of the classifier adds both ("Wide & Deep", Cheng et al. 2016).
Everything is numpy over all texts at once: a review costs some tens of microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from lm.checkpoint import NGRAMS_FILE, NGRAMS_VERSION, CheckpointError, ngrams_file
from lm.redact import redact
from lm.template import clean

#: N-grams of characters see Chinese, which has no spaces, and the stems of words; those of words see negation.
CHARACTERS, WORDS = 4, 2
#: By rarity, and by what presence says of the label.
HEADS = 2
BUCKETS_BITS = 22
_TEXTS_AT_ONCE = 2000
#: Of a longer text its two ends are read.
_LONGEST = 20_000
#: Of the linear heads' training, some 4 GB; more hardly help and cost minutes.
MOST_CHARACTERS = 50_000_000
_STEPS = 200

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Block = tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]
# Odd 64-bit numbers without pattern; arithmetic is modulo 2**64 throughout.
_BASE, _MIX, _WORDS_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
_INVERSE = pow(_BASE, -1, 1 << 64)


class Design(NamedTuple):
    """What is chosen for a shop's reviews, on validation."""

    strength: (
        float  # inverse L2 penalty; where labels are wrong now and then a smaller one learns less of them by heart
    )
    apart: bool = False  # whether characters and words of a text have length 1 each, or both together


#: The plainest first. Apart, words weigh as much as the many more characters, as English wants; the words of Chinese
#: are whole clauses.
DESIGNS = (Design(1.0), Design(10.0), Design(3.0, apart=True))


@dataclass(frozen=True)
class Ngrams:
    """The trained heads. F features are those buckets, of character n-grams first, that two training texts share.

    Both see the same features: one weighs them by how rare they are, the other by how much their presence says of
    the label. They err on different texts.
    """

    characters: Ints  # (F1,) rising buckets
    words: Ints  # (F2,)
    scales: NDArray[np.float32]  # (heads, F1 + F2)
    weight: NDArray[np.float32]  # (heads, F1 + F2, labels)
    bias: NDArray[np.float32]  # (heads, labels)
    apart: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((), bool))  # (), that of its design

    @classmethod
    def fit_each(
        cls,
        texts: Sequence[str],
        labels: Ints,
        count: int,
        designs: Sequence[Design],
        fitted: Callable[[], None] = lambda: None,
    ) -> list[Ngrams]:
        """Train on `texts` with labels < `count`, once for each of the `designs`.

        Features are 1 + ln(tf), times inverse document frequencies (Salton & Buckley 1988) or naive-Bayes log-count
        ratios (Wang & Manning, ACL 2012), those of a text of length 1; then logistic regression. Equal whatever the
        order of `texts` but for rounding. `fitted` is called HEADS times for each design, as each is done.
        """
        blocks = list(_counts(texts))
        holders = [
            sum(np.bincount(of.indices, minlength=of.shape[1]) for of in kind) for kind in zip(*blocks, strict=True)
        ]
        characters, words = (np.flatnonzero(texts_with >= 2) for texts_with in holders)
        known = [_known(block, (characters, words)) for block in blocks]
        del blocks  # of long reviews gigabytes
        counts = scipy.sparse.vstack(known, format="csr")
        del known
        idf = np.log((1 + len(texts)) / (1 + np.bincount(counts.indices, minlength=counts.shape[1]))) + 1
        scales = np.stack([idf, _log_ratios(counts, labels)]).astype(np.float32)
        heads = [
            cls(
                characters,
                words,
                scales,
                np.zeros((*scales.shape, count), np.float32),
                np.tile(_log_shares(labels, count), (len(scales), 1)),
                np.array(design.apart),
            )
            for design in designs
        ]
        for head in range(HEADS):
            for design, into in zip(designs, heads, strict=True):
                model = LogisticRegression(C=design.strength, max_iter=_STEPS).fit(into._weighed(counts, head), labels)
                into._take(head, model)
                fitted()
        return heads

    def _take(self, head: int, model: LogisticRegression) -> None:
        """What `model` learned becomes that of `head`."""
        weight, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn gives the second one's alone
            weight, bias = np.stack([-weight[0] / 2, weight[0] / 2]), np.array([-0.5, 0.5]) * bias
        self.weight[head][:, model.classes_], self.bias[head, model.classes_] = weight.T, bias

    def logits(self, texts: Sequence[str]) -> Floats:
        """(heads, texts, labels); of each text alone, whatever its company."""
        found = np.empty((len(self.bias), len(texts), self.bias.shape[1]))
        start = 0
        for block in _counts(texts):
            counts = _known(block, (self.characters, self.words))
            part = slice(start, start := start + counts.shape[0])
            for head, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
                found[head, part] = self._weighed(counts, head) @ weight.astype(np.float64) + bias
        return found

    def _weighed(self, counts: scipy.sparse.csr_matrix, head: int) -> scipy.sparse.csr_matrix:
        """(texts, F) float64: counts times each feature's scale, those of a text of length 1."""
        entries = (counts.data * self.scales[head][counts.indices], counts.indices, counts.indptr)
        weighed = scipy.sparse.csr_matrix(entries, shape=counts.shape)
        if not self.apart:
            return normalize(weighed, copy=False)
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        halves = 2 * rows + (counts.indices >= len(self.characters))
        lengths = np.sqrt(np.bincount(halves, weighed.data**2))
        weighed.data /= np.where(lengths == 0, 1, lengths)[halves]
        return weighed

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


def read(text: str) -> str:
    """What n-grams are counted in: redacted, on one line, in small letters; of a very long text both ends."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} {text[-_LONGEST // 2 :]}"
    return clean(redact(text)).lower()


def affordable(texts: Sequence[str]) -> int:
    """How many texts, from the first on, have MOST_CHARACTERS or less together."""
    characters = np.cumsum([min(len(text), _LONGEST) for text in texts])
    return int(np.searchsorted(characters, MOST_CHARACTERS, side="right"))


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


def _known(block: Block, kept: tuple[Ints, Ints]) -> scipy.sparse.csr_matrix:
    """(texts, F) counts of those buckets alone, of characters first."""
    found = []
    for counts, buckets in zip(block, kept, strict=True):
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        at = np.minimum(np.searchsorted(buckets, counts.indices), max(len(buckets) - 1, 0))
        known = buckets[at] == counts.indices if len(buckets) else np.zeros(len(at), dtype=bool)
        entries = (counts.data[known], (rows[known], at[known]))
        found.append(scipy.sparse.csr_matrix(entries, shape=(counts.shape[0], len(buckets))))
    return scipy.sparse.hstack(found, format="csr")


def _counts(texts: Sequence[str]) -> Iterator[Block]:
    """Of characters and of words (texts, 2**BUCKETS_BITS), some texts at once: 1 + ln(how often), columns rising."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield _counts_at_once(texts[start : start + _TEXTS_AT_ONCE])


def _counts_at_once(texts: Sequence[str]) -> Block:
    letters, owner, words, whose = _units(texts)
    return (
        _bag(_buckets(letters, owner, CHARACTERS, _BASE), len(texts)),
        _bag(_buckets(words, whose, WORDS, _WORDS_BASE), len(texts)),
    )


def words_of(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """A hash of each word, that is run of letters and digits, and the text that it stands in, in their order."""
    words, owner = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        _, _, of, whose = _units(texts[start : start + _TEXTS_AT_ONCE])
        words.append(of)
        owner.append(whose + start)
    return np.concatenate(words), np.concatenate(owner)


def runs_of_words(words: Hashes, owner: Ints, n: int) -> tuple[Hashes, Ints]:
    """A hash of each run of `n` neighbouring words of one text, and that text, from what `words_of` gives."""
    *_, (found, whose) = _runs(words, owner, n, _WORDS_BASE)
    return found, whose


def _units(texts: Sequence[str]) -> tuple[Hashes, Ints, Hashes, Ints]:
    """Characters and words as numbers, each with the text that it stands in."""
    shown = [read(text) for text in texts]
    owner = np.repeat(np.arange(len(shown)), [len(text) for text in shown])  # (characters,)
    codes = np.frombuffer("".join(shown).encode("utf-32-le", "surrogatepass"), np.uint32)
    letters = codes.astype(np.uint64) + np.uint64(1)
    return letters, owner, *_words(letters, owner, _alphanumeric()[codes])


@cache
def _alphanumeric() -> NDArray[np.bool_]:
    """Of each code point, whether it is a letter or digit of any script."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), dtype=bool, count=0x110000)


def _words(letters: Hashes, owner: Ints, in_word: NDArray[np.bool_]) -> tuple[Hashes, Ints]:
    """A hash of each run of letters and digits, and the text that it stands in.

    The hash is the polynomial of the run's letters, out of prefix sums: sum(letter[i] * BASE**i) over the run, divided
    by BASE**start, which has an inverse modulo 2**64 because it is odd.
    """
    n = len(letters)
    if n == 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    begins = np.ones(n, dtype=bool)
    begins[1:] = (in_word[1:] != in_word[:-1]) | (owner[1:] != owner[:-1])
    edges = np.append(np.flatnonzero(begins), n)
    of_words = in_word[edges[:-1]]
    start, stop = edges[:-1][of_words], edges[1:][of_words]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(letters * _powers(_BASE, n))])
    return (sums[stop] - sums[start]) * _powers(_INVERSE, n)[start], owner[start]


def _powers(base: int, count: int) -> Hashes:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def _runs(units: Hashes, owner: Ints, longest: int, base: int) -> Iterator[tuple[Hashes, Ints]]:
    """Of n = 1 to `longest` a hash of every run of n neighbouring units of one text, and that text."""
    rolled = np.zeros(len(units), np.uint64)
    for n in range(1, longest + 1):
        count = max(len(units) - n + 1, 0)
        rolled = rolled[:count] * np.uint64(base) + units[n - 1 :]
        whole = owner[:count] == owner[n - 1 :]
        yield rolled[whole] * np.uint64(31) + np.uint64(n), owner[:count][whole]


def _buckets(units: Hashes, owner: Ints, longest: int, base: int) -> Iterator[tuple[Ints, Ints]]:
    """(text, bucket) of every run of 1 to `longest` neighbouring units of one text."""
    for hashes, whose in _runs(units, owner, longest, base):
        yield whose, _bucket(hashes)


def _bucket(hashes: Hashes) -> Ints:
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(_MIX)
    hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(_MIX)
    return (hashes >> np.uint64(64 - BUCKETS_BITS)).astype(np.int64)


def _bag(found: Iterator[tuple[Ints, Ints]], texts: int) -> scipy.sparse.csr_matrix:
    keys = np.concatenate([(text << BUCKETS_BITS) | bucket for text, bucket in found])
    keys, times = np.unique(keys, return_counts=True)
    ends = np.searchsorted(keys >> BUCKETS_BITS, np.arange(texts + 1))
    entries = (1 + np.log(times), keys & ((1 << BUCKETS_BITS) - 1), ends)
    return scipy.sparse.csr_matrix(entries, shape=(texts, 1 << BUCKETS_BITS))
