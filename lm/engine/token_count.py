"""Counts the tokens that go through the language models of this process.

Each engine adds its prompts' tokens and each token that it appends, of every beam and sample.
"""

from __future__ import annotations

from collections.abc import Sequence

_counted = 0


def count(tokens: int) -> None:
    """Add `tokens` to the count."""
    global _counted
    _counted += tokens


def count_texts(texts: Sequence[Sequence[int]]) -> None:
    """Add the tokens of texts, given as token ids."""
    count(sum(map(len, texts)))


def tokens_so_far() -> int:
    """Return the number of tokens since the process began."""
    return _counted
