"""The words of an answer: what it says twice, and how far several samples of it agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Sentences and clauses are noticed to be said again from so many words on; frequent Chinese ones are few tokens.
_CLAUSE_WORDS = 4
_SENTENCES = re.compile(r"((?<=[.!?])\s+|(?<=[。！？])\s*)")
_MARKS = re.compile(r"[.!?,;:\n。！？，；：]")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, each Chinese character by itself."""
    return re.findall(r"[a-z\d']+|[\u3400-\u4dbf\u4e00-\u9fff]", text.lower())


def once(text: str) -> str:
    """A text without sentences that it has said before."""
    kept: list[str] = []
    said: set[str] = set()
    parts = _SENTENCES.split(text)
    for sentence, space in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if sentence in said:
            continue
        if len(words_of(sentence)) >= _CLAUSE_WORDS:
            said.add(sentence)
        kept += sentence, space
    return "".join(kept).rstrip()


def says_twice(text: str) -> bool:
    """Whether something between two punctuation marks, of some length, stands in a text twice."""
    clauses = [clause for part in _MARKS.split(text) if len(clause := tuple(words_of(part))) >= _CLAUSE_WORDS]
    return len(set(clauses)) < len(clauses)


def bigrams(text: str) -> Counter[tuple[str, ...]]:
    """Counts of a text's words and pairs of neighbouring words."""
    words = words_of(text)
    return Counter([(word,) for word in words]) + Counter(pairwise(words))


def agreements(grams: Sequence[Counter[tuple[str, ...]]], times: Sequence[int]) -> NDArray[np.float64]:
    """(n,) mean F1 over words and word pairs of each text with all the samples, itself counted as often as drawn."""
    n = len(grams)
    sizes = [sum(one.values()) for one in grams]
    f1: NDArray[np.float64] = np.eye(n)
    for i in range(n):
        for j in range(i):
            common = sum(min(count, grams[j][gram]) for gram, count in grams[i].items() if gram in grams[j])
            f1[i, j] = f1[j, i] = 2 * common / max(sizes[i] + sizes[j], 1)
    weights = np.array(times, dtype=np.float64)
    return f1 @ (weights / weights.sum())


def share(words: Sequence[str], stated: Collection[str]) -> float:
    """The share of words that are stated."""
    return sum(word in stated for word in words) / max(len(words), 1)
