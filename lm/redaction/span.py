"""A stretch of a text that is personal data, and the kinds that there are."""

from __future__ import annotations

import re
from typing import NamedTuple

KINDS = ("EMAIL", "CARD", "IBAN", "PHONE", "NUMBER", "ID", "ADDRESS", "NAME", "HANDLE", "IP", "SECRET", "BIRTHDATE")
"""What a placeholder can stand for."""
PLACEHOLDERS = frozenset(f"[{kind}]" for kind in KINDS)
"""The placeholders that replace personal data."""
PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")
MASK = "\x00"
"""Stands for a stretch that is decided; no pattern matches across it."""


def word_set(words: str) -> frozenset[str]:
    """The words of a text that spaces separate."""
    return frozenset(words.split())


class Span(NamedTuple):
    """text[start:end] is personal data of a kind of KINDS, or a product's number that stays where `kind` is None."""

    start: int
    end: int
    kind: str | None


def masked(text: str, spans: list[Span]) -> str:
    """Replace the spans, which must be ordered and apart, by MASK."""
    pieces, done = [], 0
    for start, end, _ in spans:
        pieces += [text[done:start], MASK * (end - start)]
        done = end
    return "".join(pieces) + text[done:]
