"""Replaces personal data in texts by typed placeholders before any model reads them.

One folding of the text (`lm.redaction.folded_text`), then one list of detectors: each marks what it finds, and later
ones do not look there. Product descriptions stay: "iPhone 15", "36 37 38 39 40", "3000-5000 mAh", "2024-05-01".
tests/lm/redaction has the kinds, with the share that is found of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from lm.redaction import addresses, cjk_addresses, emails, identity, names, numbers, online, spoken_numbers
from lm.redaction.folded_text import fold
from lm.redaction.plugged_in import VARIABLE, plugged_in_spans
from lm.redaction.product_numbers import product_numbers
from lm.redaction.span import PLACEHOLDER, PLACEHOLDERS, Span, masked

__all__ = ["PLACEHOLDERS", "redact"]

_DIGIT_OR_AT = re.compile(r"[@0-9]")
#: Invisible characters and full-width letters may hide any of the words.
_SUSPECT = re.compile(
    r"[@＠\d&\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufeff\uff21-\uff5a]|密码|口令|パスワード|пароль"
    "|비밀번호|艾特|微信"
    rf"|[零〇一二三四五六七八九幺]{{3}}|{names.OTHER_TRIGGER.pattern}",
    re.I,
)
_LITERALS: tuple[str, ...] = (
    *("[at]", "(at)", "{at}", "<at>", "&", "_live_", "_test_", "akia", "glpat-", "sk-", "xox", "eyj", "his is "),
    *(f"gh{kind}_" for kind in "pousr"),
)
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_]))*")
_DISGUISE = frozenset({"dot", "punkt", "punto", "point", "ponto", "arroba", "arobase", "chiocciola"})
_TRIGGERS = names.TRIGGERS | _DISGUISE | online.NETWORKS | online.SECRET_WORDS
_MOST_PASSES = 5
_DIGIT = re.compile(r"[0-9]")
_HAS_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def redact(text: str, *, limit: int | None = None, orders: bool = True) -> str:
    """Replace the personal data in `text` by placeholders; a second call changes nothing.

    With `limit`, only about that many leading characters are kept; the cut never splits a number or an address.
    Without `orders`, the numbers after words such as "order" are replaced like others.
    """
    if limit is not None and len(text) > limit:
        text = _cut(text, limit, orders)
    if not _is_suspect(text):
        return text
    # A placeholder can join two parts into a new match, so one pass is not always enough.
    for _ in range(_MOST_PASSES):
        redacted = _replaced(text, personal_spans(text, orders=orders))
        if redacted == text:
            break
        text = redacted
    return text


def _is_suspect(text: str) -> bool:
    """Whether the detectors need to look at a text: it has a digit, an @ or a word that stands before personal data."""
    if VARIABLE in os.environ or (_DIGIT_OR_AT if text.isascii() else _SUSPECT).search(text):
        return True
    lower = text.lower()
    if any(literal in lower for literal in _LITERALS):
        return True
    words = _LETTERS.findall(lower)
    if not _TRIGGERS.isdisjoint(words):
        return True
    return sum(map(spoken_numbers.DIGIT_WORDS.__contains__, words)) >= spoken_numbers.FEWEST - 1


def _cut(text: str, limit: int, orders: bool) -> str:
    window = text[: limit + emails.ADDRESS_LENGTH]
    for start, end, _ in personal_spans(window, orders=orders):
        if start < limit < end:
            return window[:end]
    return window[:limit]


def _replaced(text: str, spans: list[Span]) -> str:
    pieces, done = [], 0
    for start, end, kind in spans:
        pieces += [text[done:start], f"[{kind}]"]
        done = end
    return "".join(pieces) + text[done:]


def personal_spans(text: str, *, orders: bool = True) -> list[Span]:
    """All personal data of a text, in order and without overlaps; earlier kinds of detectors win."""
    folded = fold(text)
    rest = folded.text
    found: list[Span] = []

    def take(spans: Iterable[Span]) -> None:
        """Keep the spans that touch nothing that is decided, and mask them."""
        nonlocal rest
        kept: list[Span] = []
        for span in sorted(spans, key=lambda span: (span.start, -span.end)):
            if span.start < span.end and (not kept or span.start >= kept[-1].end):
                kept.append(span)
            elif kept and span.end > kept[-1].end and span.kind == kept[-1].kind:
                kept[-1] = kept[-1]._replace(end=span.end)
        if kept:
            found.extend(span for span in kept if span.kind)
            rest = masked(rest, kept)

    take(Span(match.start(), match.end(), None) for match in PLACEHOLDER.finditer(rest))
    take(plugged_in_spans(rest))
    has_cjk = not rest.isascii() and _HAS_CJK.search(rest) is not None
    digits = len(_DIGIT.findall(rest))
    words = frozenset(_LETTERS.findall(rest.lower()))
    has_run = numbers.RUN.search(rest) is not None
    take(online.secrets(rest, words))
    take(emails.emails(rest))
    take(emails.disguised_emails(rest, words))
    take(online.handles(rest, words))
    if digits >= 5:
        take(numbers.ibans(rest))
        take(identity.birth_dates(rest, words))
        if has_run or identity.has_letters_between(rest):
            take(identity.national_ids(rest))
            take(numbers.cards(rest))
    take(online.network_addresses(rest))
    take(spoken_numbers.spoken_numbers(rest, words))
    if digits:
        take(addresses.addresses(rest, words))
        take(identity.documents(rest, words))
    if has_cjk:
        take(cjk_addresses.cjk_addresses(rest))
    take(names.names(rest, words))
    if has_run and any(True for _ in numbers.phones_and_numbers(rest)):
        take(product_numbers(rest, orders=orders))
        take(numbers.phones_and_numbers(rest))
    return [Span(*folded.source_span(start, end), kind) for start, end, kind in sorted(found)]
