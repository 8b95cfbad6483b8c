"""Repetition within an answer, and the agreement of several answers, by their words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: A sentence or clause of at least so many words counts as repeated.
_CLAUSE_WORDS = 4
_SENTENCES = re.compile(r"((?<=[.!?])\s+|(?<=[。！？])\s*)")
_MARKS = re.compile(r"[.!?,;:\n。！？，；：]")


def overlap_words(text: str) -> list[str]:
    """The words of a text in lower case; each Chinese character is a word."""
    return re.findall(r"[a-z\d']+|[\u3400-\u4dbf\u4e00-\u9fff]", text.lower())


def without_repeats(text: str) -> str:
    """A text without its repeated sentences."""
    kept: list[str] = []
    said: set[str] = set()
    parts = _SENTENCES.split(text)
    for sentence, space in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if sentence in said:
            continue
        if len(overlap_words(sentence)) >= _CLAUSE_WORDS:
            said.add(sentence)
        kept += sentence, space
    return "".join(kept).rstrip()


def repeats_itself(text: str) -> bool:
    """Whether a clause of at least _CLAUSE_WORDS words occurs twice in a text."""
    clauses = [clause for part in _MARKS.split(text) if len(clause := tuple(overlap_words(part))) >= _CLAUSE_WORDS]
    return len(set(clauses)) < len(clauses)


def bigrams(text: str) -> Counter[tuple[str, ...]]:
    """The counts of a text's words and of its pairs of adjacent words."""
    words = overlap_words(text)
    return Counter([(word,) for word in words]) + Counter(pairwise(words))


def agreements(grams: Sequence[Counter[tuple[str, ...]]], times: Sequence[int]) -> NDArray[np.float64]:
    """(n,) mean F1 over words and word pairs of each text with all samples, where text i was drawn `times[i]` times."""
    n = len(grams)
    sizes = [sum(one.values()) for one in grams]
    f1: NDArray[np.float64] = np.eye(n)
    for i in range(n):
        for j in range(i):
            common = sum(min(count, grams[j][gram]) for gram, count in grams[i].items() if gram in grams[j])
            f1[i, j] = f1[j, i] = 2 * common / max(sizes[i] + sizes[j], 1)
    weights = np.array(times, dtype=np.float64)
    return f1 @ (weights / weights.sum())


def covered_share(words: Sequence[str], stated: Collection[str]) -> float:
    """The share of `words` that are in `stated`."""
    return sum(word in stated for word in words) / max(len(words), 1)
