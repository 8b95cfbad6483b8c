"""Hashed character and word n-grams, counted with numpy for many texts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lm.text.redact import redact
from lm.text.template import clean

#: Words in the longest word n-gram: two words can express negation.
LONGEST_WORD_NGRAM = 2
#: Tens of thousands of reviews have millions of n-grams, which would collide in fewer buckets.
BUCKETS_BITS = 26
_TEXTS_AT_ONCE = 2000
#: Characters; only the two ends of a longer text are read.
LONGEST_TEXT = 20_000

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
CountMatrices = tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]
# Random odd 64-bit numbers; all arithmetic is modulo 2**64.
_BASE, _MIX, _WORDS_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
_INVERSE = pow(_BASE, -1, 1 << 64)


def normalise(text: str) -> str:
    """The text in which n-grams are counted: both ends if it is long, redacted, on one line, in lower case."""
    return clean(redact(both_ends(text, LONGEST_TEXT))).lower()


def both_ends(text: str, characters: int) -> str:
    """The text if it has at most `characters`, else half of them from each end, with a space between."""
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} {text[-half:]}"


def ngram_counts(texts: Sequence[str], longest: int) -> Iterator[CountMatrices]:
    """Yield the counts of character n-grams up to `longest` and of word n-grams, for some texts at once.

    Both matrices are (texts, 2**BUCKETS_BITS) with 1 + ln(count of the bucket's n-grams in a text), columns ascending.
    """
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield _counts_at_once(texts[start : start + _TEXTS_AT_ONCE], longest)


def _counts_at_once(texts: Sequence[str], longest: int) -> CountMatrices:
    letters, owner, words, whose = _units(texts)
    return (
        _bag(_buckets(letters, owner, longest, _BASE), len(texts)),
        _bag(_buckets(words, whose, LONGEST_WORD_NGRAM, _WORDS_BASE), len(texts)),
    )


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """A hash of each word (a run of letters and digits) and the index of its text, in order: (words,), (words,)."""
    words, owner = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        _, _, found, whose = _units(texts[start : start + _TEXTS_AT_ONCE])
        words.append(found)
        owner.append(whose + start)
    return np.concatenate(words), np.concatenate(owner)


def word_ngrams(words: Hashes, owner: Ints, n: int) -> tuple[Hashes, Ints]:
    """A hash of each n-gram of words and the index of its text, from the output of `word_hashes`."""
    *_, (found, whose) = _ngrams(words, owner, n, _WORDS_BASE)
    return found, whose


def _units(texts: Sequence[str]) -> tuple[Hashes, Ints, Hashes, Ints]:
    """Characters and words as numbers, each with the index of its text."""
    normalised = [normalise(text) for text in texts]
    owner = np.repeat(np.arange(len(normalised)), [len(text) for text in normalised])  # (characters,)
    codes = np.frombuffer("".join(normalised).encode("utf-32-le", "surrogatepass"), np.uint32)
    letters = codes.astype(np.uint64) + np.uint64(1)
    return letters, owner, *_words(letters, owner, _alphanumeric()[codes])


@cache
def _alphanumeric() -> NDArray[np.bool_]:
    """For each code point, whether it is a letter or digit of any script."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), dtype=bool, count=0x110000)


def _words(letters: Hashes, owner: Ints, in_word: NDArray[np.bool_]) -> tuple[Hashes, Ints]:
    """A hash of each run of letters and digits, and the index of its text.

    The hash is a polynomial of the run's letters, computed from prefix sums: sum(letter[i] * BASE**i) over the run,
    divided by BASE**start. BASE is odd, so it has an inverse modulo 2**64.
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


def _ngrams(units: Hashes, owner: Ints, longest: int, base: int) -> Iterator[tuple[Hashes, Ints]]:
    """For n = 1 to `longest`: a hash of every n-gram of units and the index of its text."""
    rolled = np.zeros(len(units), np.uint64)
    for n in range(1, longest + 1):
        count = max(len(units) - n + 1, 0)
        rolled = rolled[:count] * np.uint64(base) + units[n - 1 :]
        in_one_text = owner[:count] == owner[n - 1 :]
        yield rolled[in_one_text] * np.uint64(31) + np.uint64(n), owner[:count][in_one_text]


def _buckets(units: Hashes, owner: Ints, longest: int, base: int) -> Iterator[tuple[Ints, Ints]]:
    """(text, bucket) of every n-gram of 1 to `longest` units."""
    for hashes, whose in _ngrams(units, owner, longest, base):
        yield whose, _bucket(hashes)


def _bucket(hashes: Hashes) -> Ints:
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(_MIX)
    hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(_MIX)
    return (hashes >> np.uint64(64 - BUCKETS_BITS)).astype(np.int64)


def _bag(found: Iterator[tuple[Ints, Ints]], texts: int) -> scipy.sparse.csr_matrix:
    """Count equal (text, bucket) pairs: (texts, 2**BUCKETS_BITS) with 1 + ln(count)."""
    keys = np.concatenate([(text << BUCKETS_BITS) | bucket for text, bucket in found])
    keys, times = np.unique(keys, return_counts=True)
    ends = np.searchsorted(keys >> BUCKETS_BITS, np.arange(texts + 1))
    entries = (1 + np.log(times), keys & ((1 << BUCKETS_BITS) - 1), ends)
    return scipy.sparse.csr_matrix(entries, shape=(texts, 1 << BUCKETS_BITS))
