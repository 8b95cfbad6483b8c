"""Digits that are written as words: "zero seven nine", "double four", "一三八零零", "neun eins"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from lm.redaction.span import Span

_ONES = {
    "en": "zero oh nought one two three four five six seven eight nine",
    "teens": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "repeats": "double triple",
    "de": "null eins zwei zwo drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "pt": "um dois três quatro cinco seis meia sete oito nove",
    "it": "due tre quattro cinque sei sette otto",
}
DIGIT_WORDS = frozenset(word for words in _ONES.values() for word in words.split())
"""The words that may stand for a digit, in lower case."""
CJK_DIGITS = "零〇一二三四五六七八九幺两壹贰叁肆伍陆柒捌玖貳參陸"
FEWEST = 7
"""Digits that make a number personal: no telephone, card or account number has fewer."""

_BETWEEN = r"[ \n,.\-/、，·•_]{1,3}"
_WORD = rf"(?:{'|'.join(sorted(DIGIT_WORDS, key=len, reverse=True))}|\d)"
_WORDS = re.compile(rf"(?<!\w){_WORD}(?:{_BETWEEN}{_WORD}){{{FEWEST - 2},}}(?!\w)", re.I)
_CJK = re.compile(rf"[{CJK_DIGITS}\d](?:[ \n,.\-、，·•]?[{CJK_DIGITS}\d]){{{FEWEST - 1},}}")
_KOREAN = re.compile(r"[공영일이삼사오육칠팔구]{3}(?:[ \-]?[\d공영일이삼사오육칠팔구]){5,}")
_COUNTING = re.compile(r"一二三四五六七八?九?")


def spoken_numbers(text: str, words: Set[str]) -> Iterator[Span]:
    """Numbers of seven or more digits of which at least half are words; text is folded."""
    if not DIGIT_WORDS.isdisjoint(words):
        for match in _WORDS.finditer(text):
            said = [word for word in re.split(r"[^\w]+", match[0].lower()) if word]
            spoken = [word for word in said if not word.isdigit()]
            if len(spoken) * 2 > len(said) and _digits(said) >= FEWEST and len(set(said)) > 2:
                yield Span(match.start(), match.end(), "NUMBER")
    if text.isascii():
        return
    for match in _CJK.finditer(text):
        spoken_digits = sum(character in CJK_DIGITS for character in match[0])
        if spoken_digits >= 3 and len(set(match[0])) > 2 and not _COUNTING.match(match[0]):
            yield Span(match.start(), match.end(), "NUMBER")
    for match in _KOREAN.finditer(text):
        yield Span(match.start(), match.end(), "NUMBER")


def _digits(words: list[str]) -> int:
    """The digits that the words stand for: "double" is one more, "twenty" begins a pair."""
    return sum(2 if word in _ONES["teens"] else 1 for word in words)
