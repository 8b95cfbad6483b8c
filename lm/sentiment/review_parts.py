"""Splits reviews into training, validation and test so that near-copies of a text stay together.

A model that trained on a phrase knows the sentence that contains it, and an edited review's earlier wording. Such
texts in validation or test would favour memory and show a confidence that new reviews do not justify.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lm.sentiment.ngrams import normalise
from lm.text.splits import split_of, text_digest

Part = Literal["train", "validation", "aside", "known", "test"]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

#: Folds of the texts that are not test; each of them can validate what the others trained.
FOLDS = 9
_TEST = -1
#: Texts that share this many consecutive words are in one group; shorter runs are shared by chance.
RUN = 8
#: A run of words in a larger share of all texts is a common phrase and makes no group.
_LARGEST = 0.01
#: A stock text has more copies than this, and more than the share _LARGEST of all texts.
_STOCK_COPIES = 20
#: A text judges if it has this share of the words of its group's longest text; a shorter one is a piece of another.
_WHOLE = 0.75
_WORD = re.compile(r"[^\W_]+")
#: A random odd 64-bit number; arithmetic is modulo 2**64.
_BASE = np.uint64(0xA0761D6478BD642F)


@dataclass(frozen=True)
class Parts:
    """A tenth of the groups of texts is test; of the rest one fold validates and the others train.

    In the validating fold, texts that are only pieces of others are kept aside. `known` is all but the test.
    """

    fold: Ints  # (texts,) below FOLDS, or _TEST
    judges: NDArray[np.bool_]  # (texts,) False for pieces of other texts
    wording: Hashes  # (texts,) equal for copies of a text

    def rows(self, part: Part, fold: int = 0) -> Ints:
        """The indices of the texts of a part where `fold` validates."""
        validates = self.fold == fold
        known = self.fold != _TEST
        chosen = {
            "train": known & ~validates,
            "validation": validates & self.judges,
            "aside": validates & ~self.judges,
            "known": known,
            "test": ~known,
        }
        return np.flatnonzero(chosen[part])


def parts_of(texts: Sequence[str]) -> Parts:
    """Return the part of each text; it does not depend on their order.

    All texts of a group are in one part or fold, by the hash of the group's longest text. A group with a stock text is
    never test: the text will be written again, and a model that never trained on it labels it wrong every night.
    """
    length, group = _groups(texts)
    digests = [text_digest(text) for text in texts]
    longest: dict[int, int] = {}  # of each group
    for place in sorted(range(len(texts)), key=lambda place: (-length[place], digests[place])):
        longest.setdefault(group[place], place)
    most = max(_LARGEST * len(texts), _STOCK_COPIES)
    stock = {digest for digest, copies in Counter(digests).items() if copies > most}
    known = {of for of, digest in zip(group, digests, strict=True) if digest in stock}
    test = {of for of, place in longest.items() if of not in known and split_of(texts[place]) == "test"}
    folds = [_TEST if of in test else int.from_bytes(digests[longest[of]][8:16], "big") % FOLDS for of in group]
    whole = [length[place] >= _WHOLE * length[longest[of]] for place, of in enumerate(group)]
    wording = np.array([int.from_bytes(of[16:24], "big") for of in digests], dtype=np.uint64)
    return Parts(np.array(folds, dtype=np.int64), np.array(whole, dtype=bool), wording)


def _groups(texts: Sequence[str]) -> tuple[Ints, Ints]:
    """(texts,) the number of words of each text, and its group.

    Two texts are in one group if they share RUN consecutive words. A shorter text is in the group of the texts that
    contain all its words in a row, if these are one group: "a gorgeous film" often is, "great" hardly ever.
    """
    count = len(texts)
    words, owner = _words(texts)
    length = np.bincount(owner, minlength=count)
    runs, whose = _runs(words, owner, RUN)
    _, group = connected_components(_links(runs, whose, count), directed=False)
    sizes = np.bincount(group)
    alone = sizes[group] > max(_LARGEST * count, 1)
    group = np.where(alone, len(sizes) + np.arange(count), group).astype(np.int64)
    for n in range(RUN - 1, 0, -1):
        _join_pieces(group, length, n, *_runs(words, owner, n))
    return length, group


def _words(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """A number for each word, the same for equal words, and the index of its text, both in order."""
    vocabulary: defaultdict[str, int] = defaultdict(itertools.count(1).__next__)
    found = [np.array([vocabulary[word] for word in _WORD.findall(normalise(text))], np.uint64) for text in texts]
    owner = np.repeat(np.arange(len(texts)), [len(words) for words in found])
    return np.concatenate([np.zeros(0, np.uint64), *found]), owner


def _runs(words: Hashes, owner: Ints, n: int) -> tuple[Hashes, Ints]:
    """A hash of each run of `n` consecutive words of one text, and the index of the text."""
    count = max(len(words) - n + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for i in range(n):
        hashes = hashes * _BASE + words[i : i + count]
    whole = owner[:count] == owner[n - 1 :]
    return hashes[whole], owner[:count][whole]


def _links(runs: Hashes, whose: Ints, count: int) -> coo_matrix:
    """The graph (texts, texts) that links neighbours among the texts with an equal run."""
    order = np.argsort(runs, kind="stable")
    equal = runs[order][1:] == runs[order][:-1]
    ends = whose[order][:-1][equal], whose[order][1:][equal]
    return coo_matrix((np.ones(len(ends[0]), dtype=bool), ends), shape=(count, count))


def _join_pieces(group: Ints, length: Ints, n: int, runs: Hashes, whose: Ints) -> None:
    """Put each text of `n` words into the only group of longer texts that contain it, else with its copies."""
    own = length[whose] == n  # such a text is one run
    wanted, place = np.unique(runs[own], return_inverse=True)
    if len(wanted) == 0:
        return
    at = np.minimum(np.searchsorted(wanted, runs), len(wanted) - 1)
    holds = (wanted[at] == runs) & ~own
    lowest, highest = np.full(len(wanted), np.iinfo(np.int64).max), np.full(len(wanted), -1)
    np.minimum.at(lowest, at[holds], group[whose[holds]])
    np.maximum.at(highest, at[holds], group[whose[holds]])
    copies = np.full(len(wanted), np.iinfo(np.int64).max)
    np.minimum.at(copies, place, group[whose[own]])
    group[whose[own]] = np.where(lowest == highest, lowest, copies)[place]
