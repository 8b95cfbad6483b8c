"""The text as the detectors read it: one form for all ways to write a character, with the way back to the text.

Digits of every script and full-width forms become ASCII. HTML entities become their character. Invisible characters
vanish. A run of white space, line breaks and control characters becomes one space or newline, and a pictograph becomes
"•". So a number that is broken over lines or hides zero-width characters looks like any other number.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import NamedTuple

_HYPHENS = "‐‑‒–—―−﹣－"
_GONE = "\u200b"  # stands for every invisible character between the two steps of `fold`
#: Marks that make a digit a keycap or colour a pictograph.
_INVISIBLE = "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u20e3\u2800\u3164\uffa0"
_IRREGULAR = re.compile(r"%40|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,10});|\u200b+|[ \n]{2,}")
_NEEDS_FOLDING = re.compile(r"%40|&[#a-zA-Z]|[ \n\t\r\x00-\x1f\x7f]{2}|[\x00-\x09\x0b-\x1f\x7f]")
NEWLINES = "\n\r\x0b\x0c\x85\u2028\u2029"


class _CharacterFolding(dict[int, str]):
    """Maps each character to one character; offsets stay."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    if character in NEWLINES:
        return "\n"
    if character.isascii():
        return character if character.isprintable() else " "
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Cf" or character in _INVISIBLE or "\ufe00" <= character <= "\ufe0f":
        return _GONE
    if character in _HYPHENS:
        return "-"
    if category in ("Zs", "Cc", "Cs"):
        return " "
    if category in ("So", "Sk"):
        if character < "\u2190":  # "°", "№" and "™" are no pictographs
            return character
        compatible = unicodedata.normalize("NFKC", character)  # a circled digit is a digit
        return compatible if len(compatible) == 1 and compatible.isascii() else "•"
    if category == "No" or character in "ªº":  # "²" and "½" are no digits of a number
        return character
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 else character


_FOLDING = _CharacterFolding()


class FoldedText(NamedTuple):
    """A folded text; `starts[i]` is the place in the source of character i, or `starts` is None if places are equal."""

    text: str
    starts: list[int] | None

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the source of text[start:end]."""
        return (start, end) if self.starts is None else (self.starts[start], self.starts[end])


def fold(text: str) -> FoldedText:
    """Fold `text`; its length never grows."""
    if text.isascii() and not _NEEDS_FOLDING.search(text):
        return FoldedText(text, None)
    text = text.translate(_FOLDING)
    pieces: list[str] = []
    starts: list[int] = []
    done = 0
    for match in _IRREGULAR.finditer(text):
        short = _replacement(match[0])
        if short is None:
            continue
        start, end = match.span()
        pieces += [text[done:start], short]
        starts += range(done, start)
        starts += [start] * len(short)
        done = end
    if not pieces:
        return FoldedText(text, None)
    pieces.append(text[done:])
    starts += range(done, len(text) + 1)
    return FoldedText("".join(pieces), starts)


def _replacement(irregular: str) -> str | None:
    """The character of an entity, of "%40" or of a run of spaces; nothing for invisible ones, None for no entity."""
    if irregular[0] == "%":
        return "@"
    if irregular[0] == "&":
        character = html.unescape(irregular)
        if len(character) != 1 or character == "&":
            return None
        folded = _folded(character)
        return "" if folded == _GONE else folded
    if irregular[0] == _GONE:
        return ""
    return "\n" if "\n" in irregular else " "
