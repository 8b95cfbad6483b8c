"""Quantities in text: numbers in digits or in words (English, Chinese) and their units, in a form that is compared."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES: dict[str, Decimal] = {word: Decimal(value) for value, word in enumerate(_ONES)}
_VALUES |= {word: Decimal(10 * value) for value, word in enumerate(_TENS, start=2)}
_VALUES |= {"half": Decimal("0.5"), "twice": Decimal(2), "thrice": Decimal(3), "a": Decimal(1), "an": Decimal(1)}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
_SCALES |= {f"{word}s": value for word, value in _SCALES.items()}
#: Words that are a number wherever they stand; "one" and "a" are numbers only before a unit of time or a larger number.
NUMBER_WORDS = (*(word for word in _ONES if word != "one"), *_TENS, *_SCALES, "half", "twice", "thrice")

#: Spellings of units in English; a unit of the same key is the same unit.
_TIME = {
    "second": ("second", "sec"),
    "minute": ("minute", "min"),
    "hour": ("hour", "hr"),
    "day": ("day",),
    "night": ("night",),
    "week": ("week",),
    "fortnight": ("fortnight",),
    "month": ("month",),
    "year": ("year", "yr"),
    "decade": ("decade",),
}
_UNITS = _TIME | {
    "percent": ("%", "percent", "per cent", "percentage point"),
    "gbp": ("pound", "gbp", "quid"),
    "pence": ("pence", "penny"),
    "usd": ("dollar", "usd", "buck"),
    "cent": ("cent",),
    "eur": ("euro", "eur"),
    "cny": ("yuan", "rmb", "cny"),
    "jpy": ("yen", "jpy"),
    "kg": ("kg", "kilo", "kilogram"),
    "gram": ("gram", "gramme"),
    "lb": ("lb",),
    "ounce": ("ounce", "oz"),
    "km": ("km", "kilometre", "kilometer"),
    "metre": ("metre", "meter"),
    "cm": ("cm", "centimetre", "centimeter"),
    "mm": ("mm", "millimetre", "millimeter"),
    "mile": ("mile",),
    "inch": ("inch", "inche"),
    "foot": ("foot", "feet"),
    "litre": ("litre", "liter"),
    "ml": ("ml", "millilitre", "milliliter"),
    "mb": ("mb",),
    "gb": ("gb",),
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
_CHINESE_UNITS = {
    **{"工作日": "working day", "个小时": "hour", "小时": "hour", "钟头": "hour", "分钟": "minute", "秒": "second"},
    **{"星期": "week", "礼拜": "week", "周": "week", "月": "month", "年": "year", "天": "day", "日": "day"},
    **{
        "美元": "usd",
        "欧元": "eur",
        "英镑": "gbp",
        "日元": "jpy",
        "元": "cny",
        "块": "cny",
        "公斤": "kg",
        "千克": "kg",
    },
    **{"克": "gram", "斤": "jin", "厘米": "cm", "毫米": "mm", "米": "metre", "毫升": "ml", "升": "litre"},
    **{"次": "times", "件": "piece", "种": "kind", "倍": "fold", "折": "tenths of the price", "个": "piece"},
}
_CURRENCIES = {"£": "gbp", "$": "usd", "€": "eur", "¥": "cny", "￥": "cny"}
_CURRENCIES |= {"gbp": "gbp", "usd": "usd", "eur": "eur", "cny": "cny", "rmb": "cny", "jpy": "jpy"}

TIME_WORD = "(?:" + "|".join(word for words in _TIME.values() for word in words if word != "second") + ")s?"
_WORKING = r"(?:working|business|work)"
#: Words between a number and its unit that do not change the unit.
_FILLER = r"(?:calendar|full|whole|consecutive|more|further|extra|single)"
_ENGLISH_UNIT = "|".join(re.escape(spelling) for spelling in sorted(_UNIT_OF, key=len, reverse=True))
_CHINESE_UNIT = "|".join(_CHINESE_UNITS)
_WORDS_OF_NUMBER = "|".join(NUMBER_WORDS)
#: The second number of a range, whose unit is also that of the first: "3 to 5 days", "3至5天".
_SECOND_NUMBER = rf"(?:\d[\d.,]*|(?:{_WORDS_OF_NUMBER}|one)\b|[一二三四五六七八九十百千万两]+)"
_RANGE = rf"(?:\s*(?:to|or|and|-|–|—|~|至|到|或)\s*{_SECOND_NUMBER})?"
_UNIT_AFTER = re.compile(
    rf"{_RANGE}(?:[\s-]{{0,3}}(?P<working>{_WORKING}[\s-]+)?(?:{_FILLER}\s+)*(?P<english>{_ENGLISH_UNIT})s?"
    "(?![A-Za-z])"
    rf"|\s*个?(?P<chinese>{_CHINESE_UNIT}))",
    re.IGNORECASE,
)
_CURRENCY_BEFORE = re.compile(r"(?:([£$€¥￥])|\b(gbp|usd|eur|cny|rmb|jpy))\s?$", re.IGNORECASE)
_DIGITS = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
_SPELLED_WITH_UNIT = re.compile(r"(half|an?|one)(?:\s+an?)?(?=[\s-]+[a-z])")  # "half an hour", "a year"
_DIGITS_AND_UNIT = re.compile(r"(\d[\d.,]*?)([a-z%]+)")
_CHINESE_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"两": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}


class Quantity(NamedTuple):
    """A value in one form and a unit; `unit` is None where no known unit follows or precedes."""

    value: str
    unit: str | None


def quantity_at(text: str, start: int, end: int) -> tuple[Quantity, int]:
    """The quantity of the number text[start:end] with the unit next to it, and the position where it ends.

    The first number of a range has the unit of the second, but ends before it.
    """
    number = text[start:end].strip().lower()
    attached = _DIGITS_AND_UNIT.fullmatch(number)
    if attached and (unit := _english_unit(attached[2])):
        return Quantity(canonical_number(attached[1]), unit), end
    if (spelled := _SPELLED_WITH_UNIT.match(number)) and (unit_match := _UNIT_AFTER.match(number, spelled.end())):
        return Quantity(canonical_number(spelled[1]), _unit_of(unit_match)), end
    value = canonical_number(number)
    before = _CURRENCY_BEFORE.search(text[max(0, start - 4) : start])
    if before:
        return Quantity(value, _CURRENCIES[(before[1] or before[2]).lower()]), end
    after = _UNIT_AFTER.match(text, end)
    return (Quantity(value, _unit_of(after)), after.end()) if after else (Quantity(value, None), end)


def canonical_number(number: str) -> str:
    """A number in one form: "1,000", "one thousand" and "一千" are equal; other text, such as "24/7", in lower case."""
    number = number.strip().rstrip(".)").lower()
    if _DIGITS.fullmatch(number):
        return _plain(Decimal(number.replace(",", "")))
    words = re.split(r"[\s-]+", number)
    if all(word in _VALUES or word in _SCALES or word == "and" for word in words):
        return _plain(_spelled(words))
    value = _chinese(number)
    return number if value is None else _plain(value)


def _spelled(words: list[str]) -> Decimal:
    """The value of English number words, such as two hundred and five."""
    total, current = Decimal(0), Decimal(0)
    for word in words:
        if word in _VALUES:
            current += _VALUES[word]
        elif word in _SCALES:
            current = (current or Decimal(1)) * _SCALES[word]
            if _SCALES[word] >= 1000:
                total, current = total + current, Decimal(0)
    return total + current


def _chinese(number: str) -> Decimal | None:
    """The value of Chinese numerals below 100,000,000; None for any other text."""
    if number == "半":
        return Decimal("0.5")
    if not number or any(c not in _CHINESE_DIGITS and c not in _CHINESE_SCALES and c != "万" for c in number):
        return None
    total = section = digit = 0
    for character in number:
        if character == "万":
            total, section, digit = (section + digit or 1) * 10_000, 0, 0
        elif character in _CHINESE_SCALES:
            section, digit = section + (digit or 1) * _CHINESE_SCALES[character], 0
        else:
            digit = _CHINESE_DIGITS[character]
    return Decimal(total + section + digit)


def _unit_of(match: re.Match[str]) -> str | None:
    if match["chinese"]:
        return _CHINESE_UNITS[match["chinese"]]
    unit = _english_unit(match["english"])
    return f"working {unit}" if match["working"] else unit


def _english_unit(spelling: str) -> str | None:
    spelling = spelling.lower()
    return _UNIT_OF.get(spelling) or _UNIT_OF.get(spelling.removesuffix("s"))


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
