"""Recognises how a column writes numbers, ids, stars and yes or no, and gives the Spark SQL that reads them.

`regulars init` and `regulars doctor --rows` use it on sampled values. Pure Python: no Spark session is needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: A form must read at least this share of the values.
_LEAST_SHARE = 0.9
#: A share of the values that may be errors of the data.
_FEW = 0.02
_CURRENCY = (
    r"(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|HUF|RON|JPY|CNY|INR|BRL|CAD|AUD|NZD|MXN|TRY|RUB|ZAR|KRW|R\$|US\$|kr|zł|Kč"
    r"|Ft|lei|元|円|원|руб)"
)
#: Characters that group digits, besides the comma and the point.
_SPACES = " \u00a0\u2009\u202f"
_STARS = "★"
_OUT_OF = re.compile(
    r"(?P<stars>\d+(?:[.,]\d+)?)\s*(?:/\s*(?P<over>\d+)|(?:out of|of|von|sur|de|su|van|из)\s*(?P<of>\d+)|"
    r"(?:stars?|sterne?n?|étoiles?|estrellas?|estrelas?|stelle|sterren)\b).*",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_ENTITIES = {
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&#39;": "''",
    "&#039;": "''",
    "&#x27;": "''",
    "&apos;": "''",
    "&nbsp;": " ",
    "&auml;": "ä",
    "&ouml;": "ö",
    "&uuml;": "ü",
    "&szlig;": "ß",
    "&eacute;": "é",
    "&euro;": "€",
    "&ndash;": "–",
    "&mdash;": "—",
    "&hellip;": "…",
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


#: Words for yes and no; the reader understands the plain ones without an expression.
_PLAIN_YES, _PLAIN_NO = _words("t, true, y, yes, 1"), _words("f, false, n, no, 0")
YES = _PLAIN_YES + _words(
    "ja, j, oui, o, si, sí, s, sim, tak, ano, igen, да, 是, 有, x, ok, on, active, aktiv, enabled, available, instock, "
    "in stock, in_stock, lieferbar, verfügbar, disponible, auf lager, 有货, 上架"
)
NO = _PLAIN_NO + _words(
    "nein, não, nao, nie, ne, nem, нет, 否, 无, -, off, inactive, inaktiv, disabled, unavailable, outofstock, soldout, "
    "out of stock, out_of_stock, sold out, sold_out, discontinued, nicht verfügbar, nicht lieferbar, ausverkauft, "
    "épuisé, agotado, 缺货, 下架"
)
#: Words of an order's state; like yes and no they describe no person, so they are shown as they are.
CANCELLED = _words(
    "canceled, cancelled, cancel, refunded, refund, returned, return, voided, void, failed, rejected, unavailable, "
    "declined, storniert, storno, retourniert, abgebrochen, annulé, annule, remboursé, cancelado, devuelto, "
    "geannuleerd, 已取消, 取消, 退款, 退货"
)
FINISHED = _words(
    "delivered, completed, complete, paid, shipped, processing, fulfilled, closed, open, pending, created, invoiced, "
    "approved, confirmed, sale, purchase, buy, bezahlt, versandt, geliefert, abgeschlossen, offen, livré, payé, "
    "enviado, entregado, 已完成, 已付款, 已发货"
)
#: Words of events that are no purchases.
VIEWED = _words(
    "view, views, viewed, pageview, page_view, product_view, pv, click, clicked, impression, cart, addtocart, "
    "add_to_cart, remove_from_cart, fav, favorite, wish, wishlist, 浏览, 点击, 收藏, 加购"
)
STATUS_WORDS = frozenset((*YES, *NO, *CANCELLED, *FINISHED, *VIEWED))


@dataclass(frozen=True)
class ValueForm:
    """How a column writes its values. `sql` reads it, with {0} for the column; "{0}" where it is read as it is."""

    name: str
    sql: str
    #: Share of the values that the form reads.
    share: float
    #: What the shop must confirm; empty where the values leave no doubt.
    question: str = ""


def number_form(values: Sequence[str]) -> ValueForm | None:
    """Return how most of `values` (no blank ones) write numbers; None if no form reads at least 90% of them.

    The decimal mark is the one that reads more values. If both read all values but as other numbers, as with 1,299
    alone, the form asks.
    """
    if not values:
        return None
    point, comma = ([read_number(value, decimal) for value in values] for decimal in ".,")
    shares = [sum(number is not None for number in numbers) / len(values) for numbers in (point, comma)]
    if max(shares) < _LEAST_SHARE:
        return None
    decimal = "." if shares[0] >= shares[1] else ","
    question = ""
    if shares[0] == shares[1] and point != comma:
        question = "does 1,299 mean 1299 or 1.299?" if any("," in v for v in values) else "does 1.299 mean 1299?"
        decimal = "," if all("." in v for v in values) else "."
    if decimal == ",":
        sql = "replace(regexp_replace({0}, '[^0-9,+-]', ''), ',', '.')"
        return ValueForm("decimal comma", sql, shares[1], question)
    readable = [value for value, number in zip(values, point, strict=True) if number is not None]
    if all(re.fullmatch(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", value) for value in readable):
        return ValueForm("plain number", "{0}", shares[0], question)
    return ValueForm("grouped or with a currency", "regexp_replace({0}, '[^0-9.+-]', '')", shares[0], question)


def read_number(value: str, decimal: str) -> float | None:
    """Return the number with the decimal mark `decimal` ("." or ","), without its currency; None if it is none."""
    text = re.sub(rf"^{_CURRENCY}\.?|{_CURRENCY}$", "", value.strip(), flags=re.IGNORECASE)
    text = "".join(c for c in text if unicodedata.category(c) != "Sc").strip()
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-").removeprefix("+").strip()
    if decimal == "." and re.fullmatch(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", text):
        return sign * float(text)
    group = "[" + _SPACES + "'’" + ("," if decimal == "." else ".") + "]"
    mark = re.escape(decimal)
    if not re.fullmatch(rf"(\d{{1,3}}(?:{group}\d{{2,3}})*{group}\d{{3}}|\d+)({mark}\d+)?", text):
        return None
    return sign * float(re.sub(group, "", text).replace(decimal, "."))


def rating_form(values: Sequence[str]) -> ValueForm | None:
    """Return how `values` (no blank ones) write stars, on any scale; None if they are no stars."""
    if not values:
        return None
    stars = [value.strip().rstrip("☆✩") for value in values]
    if all(star and set(star) == {_STARS} for star in stars):
        return ValueForm("stars as symbols", "length(regexp_replace({0}, '[^★]', ''))", 1.0)
    worded = [_OUT_OF.fullmatch(value.strip()) for value in values]
    share = sum(match is not None for match in worded) / len(values)
    if share >= _LEAST_SHARE:
        scales = {m["over"] or m["of"] or "5" for m in worded if m}
        sql = "try_cast(replace(regexp_extract({0}, '[0-9]+([.,][0-9]+)?', 0), ',', '.') AS DOUBLE)"
        if scales == {"5"}:
            return ValueForm("stars in words; 4.5 counts as 5", f"round({sql})", share)
        if len(scales) == 1 and int(min(scales)) > 0:
            factor = f"{sql} * 5 / {min(scales)}"
            return ValueForm("stars in words", f"greatest(1, round({factor}))", share, f"is {min(scales)} the best?")
        return None
    form = number_form(values)
    if form is None:
        return None
    decimal = "," if form.name == "decimal comma" else "."
    numbers = [n for n in (read_number(value, decimal) for value in values) if n is not None]
    number = "{0}" if form.name == "plain number" else form.sql
    as_double = f"try_cast({number} AS DOUBLE)"
    scale = _scale(numbers)
    if scale is None or sum(n < 0 for n in numbers) > _FEW * len(numbers):
        return None
    if sum(n > 1 for n in numbers) <= _FEW * len(numbers):
        return ValueForm("0 or 1", f"IF({as_double} > 0.5, 5, 1)", form.share, "is 1 the good label and 0 the bad one?")
    if scale == 10:
        return ValueForm("0 to 10", f"greatest(1, round({as_double} / 2))", form.share, "is 10 the best mark?")
    if scale == 100:
        return ValueForm("0 to 100", f"greatest(1, round({as_double} / 20))", form.share, "is 100 the best mark?")
    if any(n != int(n) for n in numbers):
        return ValueForm("stars with fractions; 4.5 counts as 5", f"round({as_double})", form.share)
    if sum(n == 0 for n in numbers) > _FEW * len(numbers):
        return ValueForm("stars", f"nullif({number}, '0')", form.share, "does 0 mean no stars?")
    return ValueForm("stars", form.sql, form.share)


def _scale(numbers: Sequence[float]) -> int | None:
    """Return the best mark of the scale; a few marks above it are errors of the data, as are a few below zero."""
    for best in (5, 10, 100):
        if sum(number > best for number in numbers) <= _FEW * len(numbers):
            return best
    return None


def boolean_form(values: Sequence[str]) -> ValueForm | None:
    """Return how `values` (no blank ones) write yes and no; None if the words are unknown."""
    words = {value.strip().lower() for value in values}
    if not words:
        return None
    if words <= {*_PLAIN_YES, *_PLAIN_NO}:
        return ValueForm("yes or no", "{0}", 1.0)
    if words <= {*YES, *NO}:
        yes, no = sorted(words & {*YES}), sorted(words & {*NO})
        parts = [f"WHEN lower(trim({{0}})) IN ({_quoted(w)}) THEN {r}" for w, r in ((yes, "true"), (no, "false")) if w]
        return ValueForm("yes or no in words", f"CASE {' '.join(parts)} END", 1.0)
    if all(re.fullmatch(r"\d+(\.0+)?", word) for word in words):
        return ValueForm("number in stock", "try_cast({0} AS DOUBLE) > 0", 1.0, "is this the number in stock?")
    return None


def id_form(values: Sequence[str]) -> ValueForm:
    """Return how `values` (no blank ones) write ids; the form "text" where nothing needs to be done."""
    floats = sum(bool(re.fullmatch(r"\s*\d+\.0+\s*", value)) for value in values)
    sciences = sum(bool(re.fullmatch(r"\s*\d(\.\d+)?[eE]\+?\d+\s*", value)) for value in values)
    n = max(len(values), 1)
    if sciences:
        question = "a spreadsheet has shortened these ids; are digits lost? Export the column as text"
        sql = "coalesce(CAST(try_cast({0} AS DECIMAL(38,0)) AS STRING), {0})"
        return ValueForm("ids like 6.93E+12", sql, sciences / n, question)
    if floats:
        return ValueForm("ids like 17850.0", "regexp_replace({0}, '[.]0+ *$', '')", floats / n)
    return ValueForm("text", "{0}", 1.0)


def entity_form(values: Sequence[str]) -> ValueForm | None:
    """Return the expression that replaces the HTML entities in `values`; None if there are none that it knows."""
    found = Counter(entity for value in values for entity in _ENTITY.findall(value))
    known = sorted((entity for entity in found if entity.lower() in _ENTITIES), key=lambda e: (e == "&amp;", e))
    if not known:
        return None
    sql = "{0}"
    for entity in known:  # &amp; comes last: &amp;lt; is the text &lt;
        sql = f"replace({sql}, '{entity}', '{_ENTITIES[entity.lower()]}')"
    share = sum(bool(_ENTITY.search(value)) for value in values) / len(values)
    return ValueForm("HTML entities", sql, share)


def same_id(value: str) -> str:
    """Return what two spellings of an id share: without case, white space, leading zeros and a decimal zero."""
    text = re.sub(r"\.0+$", "", value.strip().lower())
    return text.lstrip("0") or text


#: What `same_id` leaves out, each with the Spark SQL that takes it off.
ID_SPELLINGS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("a decimal zero, as in 17850.0", "regexp_replace({0}, '[.]0+$', '')", lambda v: re.sub(r"\.0+$", "", v)),
    ("leading zeros", "regexp_replace({0}, '^0+', '')", lambda v: v.lstrip("0")),
    ("capital letters", "upper({0})", str.upper),
    ("white space", "trim({0})", str.strip),
)


def mask(value: str) -> str:
    """Return the shape of a value: letters as x, digits as 9. Words that describe no person stay as they are."""
    text = " ".join(value.split())
    if len(text) > 1 and text.lower() in STATUS_WORDS:
        return text
    if len(text) > 30:
        return f"text of {len(text)} characters"
    return "".join(c if not c.isalnum() else "9" if not c.isalpha() else "X" if c.isupper() else "x" for c in text)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words)
