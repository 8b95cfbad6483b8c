"""Replaces personal data in customers' texts by typed placeholders before any model reads them.

E-mail addresses, bank cards, IBANs, telephone numbers, order and account numbers and the numbers of street addresses
become [EMAIL] [CARD] [IBAN] [PHONE] [NUMBER]. Every run of seven or more digits is replaced on purpose;
`phonenumbers` and `python-stdnum` only decide its kind. Product descriptions stay: "iPhone 15", "2.4 GHz", "500ml",
"2024-05-01".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

import phonenumbers
from stdnum import iban, luhn

PLACEHOLDERS = frozenset({"[EMAIL]", "[CARD]", "[IBAN]", "[PHONE]", "[NUMBER]"})
"""The placeholders that replace personal data."""
REGIONS = ("GB", "US", "CN")
"""The countries whose national formats are tried for telephone numbers without a country code."""

_SUSPECT = re.compile(r"[@＠\d]")  # \d matches the digits of any script
_ASCII_SUSPECT = re.compile(r"[@0-9]")  # five times as fast
_HYPHENS = "‐‑‒–—―−﹣"
# Scripts written without spaces; an e-mail address within such text ends where the script changes.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_ATOM = r".!#$%&'*+/=?^`{|}~\-"  # RFC 5322 atext and the dot
_LOCAL = re.compile(rf"(?:[^\W{_CJK}]|[{_ATOM}])+|(?:[{_CJK}]|[{_ATOM}])+")
_LABEL, _CJK_LABEL = rf"[^\W_{_CJK}](?:[^\W{_CJK}]|-)*", rf"[{_CJK}]+"
_DOMAIN = re.compile(
    rf"(?:{_LABEL}\.)+(?=[^\W\d_]){_LABEL}" rf"|(?:(?:{_LABEL}|{_CJK_LABEL})\.)+(?:{_CJK_LABEL}|(?=[^\W\d_]){_LABEL})"
)
_ADDRESS_LENGTH = 256  # characters on each side of the @; RFC 5321 allows 64 and 255

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){11,30}")
_DIGITS = re.compile(r"[+(]{0,2}\d(?:[^\S\n]?[.\-/()·]{0,2}[^\S\n]?\d){6,}")
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?:{_YEAR}([-/.]){_MONTH}\1{_DAY}|{_DAY}([-/.])(?:{_MONTH}\2){_YEAR}|{_MONTH}/{_DAY}/{_YEAR})(?: \d\d?)?"
    rf"|{_YEAR} ?[-/] ?{_YEAR}"
)
_DIGIT = re.compile(r"[0-9]")
_HOUSE = re.compile(r"[0-9]+")
_STREET = re.compile(
    r"([A-Za-z]?),? (?:[A-Z][\w'’-]* ){1,3}"
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Boulevard|Blvd|Crescent|Terrace|Gardens)\b"
)
_BUILDING = re.compile(r"栋|棟|幢|号楼|號樓|单元|單元|室")
_CHECKED_NUMBERS = 100  # per text; checking one costs 0.1 to 0.5 ms


class _AsciiFolding(dict[int, str]):
    """Maps full-width forms, digits of any script, spaces and hyphens to one ASCII character each: offsets stay."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            folded = str(digit)
        elif 0xFF01 <= code <= 0xFF5E:
            folded = chr(code - 0xFEE0)
        elif character in _HYPHENS:
            folded = "-"
        else:
            folded = " " if code in (0xA0, 0x3000, 0x202F, 0x2009) else character
        self[code] = folded
        return folded


_ASCII_FOLDING = _AsciiFolding()


def redact(text: str, *, limit: int | None = None) -> str:
    """Replace the personal data in `text` by placeholders; a second call changes nothing.

    With `limit`, only about that many leading characters are kept; the cut never splits a number or an address.
    """
    if limit is not None and len(text) > limit:
        text = _cut(text, limit)
    suspect = _ASCII_SUSPECT if text.isascii() else _SUSPECT
    if suspect.search(text) is None:
        return text
    # A placeholder can join two parts into a new match, so one pass is not always enough.
    while (redacted := _replace(text, _spans(text))) != text:
        text = redacted
    return text


def _cut(text: str, limit: int) -> str:
    window = text[: limit + _ADDRESS_LENGTH]
    for start, end, _ in _spans(window):
        if start < limit < end:
            return window[:end]
    return window[:limit]


def _replace(text: str, spans: list[tuple[int, int, str]]) -> str:
    pieces, done = [], 0
    for start, end, kind in spans:
        pieces += [text[done:start], f"[{kind}]"]
        done = end
    return "".join(pieces) + text[done:]


def _spans(text: str) -> list[tuple[int, int, str]]:
    """The (start, end, kind) of all personal data, in order and without overlaps; earlier kinds win."""
    folded = text.translate(_ASCII_FOLDING)
    found: list[tuple[int, int, str]] = []
    has_numbers = len(_DIGIT.findall(folded)) >= 7  # no IBAN, card or telephone number has fewer digits
    finders = (_emails, _ibans, _numbers, _house_numbers) if has_numbers else (_emails, _house_numbers)
    for finder in finders:
        new = list(finder(folded))
        if new:
            found += new
            folded = _masked(folded, new)
    return sorted(found)


def _masked(text: str, spans: list[tuple[int, int, str]]) -> str:
    """Replace the spans by newlines, across which no pattern matches."""
    pieces, done = [], 0
    for start, end, _ in spans:
        pieces += [text[done:start], "\n" * (end - start)]
        done = end
    return "".join(pieces) + text[done:]


def _emails(text: str) -> Iterator[tuple[int, int, str]]:
    """Search around each @, because a pattern tried at every character is quadratic in a long word."""
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1, at + 1 + _ADDRESS_LENGTH)
        local = _LOCAL.match(text[max(done, at - _ADDRESS_LENGTH) : at][::-1])
        if domain and local:
            done = domain.end()
            yield at - local.end(), done, "EMAIL"
        at = text.find("@", max(at + 1, done))


def _ibans(text: str) -> Iterator[tuple[int, int, str]]:
    for match in islice(_IBAN.finditer(text), _CHECKED_NUMBERS):
        candidate = match[0]
        for end in range(len(candidate), 14, -1):  # the match may include words that follow the IBAN
            if candidate[end - 1] not in " -" and iban.is_valid(candidate[:end], check_country=False):
                yield match.start(), match.start() + end, "IBAN"
                break


def _numbers(text: str) -> Iterator[tuple[int, int, str]]:
    checked = 0
    for match in _DIGITS.finditer(text):
        if not _DATE.fullmatch(match[0]):
            checked += 1
            kind = _kind(match[0]) if checked <= _CHECKED_NUMBERS else "NUMBER"
            yield match.start(), match.end(), kind


def _kind(run: str) -> str:
    """The kind of a run of seven or more digits and separators: CARD, PHONE or NUMBER."""
    if len(run) > 64:
        return "NUMBER"
    groups = re.findall(r"\d+", run)
    for first in range(len(groups)):
        for last in range(first + 1, len(groups) + 1):
            digits = "".join(groups[first:last])
            # Card numbers are written without a break or in groups of three to six digits.
            grouped = last == first + 1 or all(3 <= len(group) <= 6 for group in groups[first:last])
            if 13 <= len(digits) <= 19 and grouped and luhn.is_valid(digits):
                return "CARD"
    if any(phonenumbers.PhoneNumberMatcher(run, region).has_next() for region in REGIONS):
        return "PHONE"
    return "NUMBER"


def _house_numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """House, building and room numbers of English and Chinese street addresses."""
    for match in _HOUSE.finditer(text):
        start, end = match.span()
        before, after = text[start - 1 : start], text[end : end + 1]
        if (after in ("号", "號") and before and before in "路街道巷弄村") or _BUILDING.match(text, end):
            yield start, end, "NUMBER"
        elif not (before.isalnum() or before == ".") and (street := _STREET.match(text, end)):
            yield start, street.end(1), "NUMBER"
