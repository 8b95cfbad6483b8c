"""Sentences of staff's answers that enough customers received: only they are learned from.

A sentence that a few customers received may be about one of them, whatever it says. Sentences are equal if they differ
in their facts alone, such as an order number. What an article says is the shop's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from lm.answers.grounding import atoms
from lm.redaction.writers import common

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
"""Where a line is split into sentences."""


def sentence_key(sentence: str) -> str:
    """What equal sentences have in common: the sentence without its facts, in lower case."""
    pieces, done = [], 0
    for atom in atoms(sentence):
        if not atom.opens:
            pieces += [sentence[done : atom.start], "#"]
            done = atom.end
    return " ".join("".join([*pieces, sentence[done:]]).lower().split())


def sentence_keys(text: str) -> Iterator[str]:
    """The key of each sentence of an answer or an article."""
    for line in text.split("\n"):
        step = next((atom for atom in atoms(line) if atom.kind == "step"), None)
        for sentence in SENTENCE_END.split(line[step.end if step else 0 :].strip()):
            if sentence:
                yield sentence_key(sentence)


def common_sentences(
    answers: Sequence[str], customers: Sequence[str | None], articles: Collection[str], least: int
) -> frozenset[str]:
    """The keys of the sentences that `least` different customers received, and of those of the articles' texts."""
    texts = [*articles, *answers]
    writers = [*([None] * len(articles)), *customers]
    return frozenset(common((frozenset(sentence_keys(text)) for text in texts), writers, least))
