"""A reader who is independent of lm.redaction: undoes every twist by its own means and says what can still be read."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_DIGIT_OF = {
    word: digit
    for words in (
        "zero one two three four five six seven eight nine",
        "null eins zwei drei vier fünf sechs sieben acht neun",
        "零 一 二 三 四 五 六 七 八 九",
    )
    for digit, word in zip("0123456789", words.split(), strict=True)
}
_SPELLED = re.compile("|".join(sorted(_DIGIT_OF, key=len, reverse=True)))
READABLE_DIGITS = 5
"""Digits in a row of which a number can still be guessed."""


def plain(text: str) -> str:
    """The text without invisible characters, entities, widths and case."""
    text = unicodedata.normalize("NFKC", html.unescape(html.unescape(text)))
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Me", "Mn", "Cc") or c in "\n ").lower()


def digits_of(text: str) -> str:
    """All digits of a text in a row, those in words too."""
    text = _SPELLED.sub(lambda match: _DIGIT_OF[match[0]], plain(text))
    return "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal())


def letters_of(text: str) -> str:
    """All letters and digits of a text in a row."""
    return "".join(c for c in unicodedata.normalize("NFKD", plain(text)) if c.isalnum())


def is_readable(text: str, hidden: Mapping[str, Any]) -> bool:
    """Whether what was planted can still be read in `text`."""
    if "digits" in hidden:
        return _shares(hidden["digits"], digits_of(text))
    if "words" in hidden:
        return any(letters_of(word) in letters_of(text) for word in hidden["words"])
    if "code" in hidden:
        code, rest = letters_of(hidden["code"]), letters_of(text)
        return code in rest or (
            sum(map(str.isdigit, code)) >= READABLE_DIGITS and _shares(digits_of(code), digits_of(text))
        )
    return _address_is_readable(text, hidden["address"])


def _shares(digits: str, rest: str) -> bool:
    return any(digits[i : i + READABLE_DIGITS] in rest for i in range(max(1, len(digits) - READABLE_DIGITS + 1)))


def _address_is_readable(text: str, address: str) -> bool:
    """Whether the house number stands, or all of the street's words do."""
    rest = plain(text)
    numbers = re.findall(r"\d+", plain(address))
    return any(re.search(rf"(?<!\d){number}(?!\d)", rest) for number in numbers)
