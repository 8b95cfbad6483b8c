"""Titles that say nothing of their product: lists do not read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from lm.text.template import product_text

#: A text that more than this share of the products have, and at least so many, names none of them.
COMMON_SHARE = 0.5
COMMON_PRODUCTS = 20
#: Share of the products from which on a note says that their titles are not read.
NOTED_SHARE = 0.01
#: What stands for a missing title, in lower case and without punctuation.
MISSING_TITLES = frozenset({"", "n a", "nan", "no name", "no title", "none", "null", "unknown", "untitled"})
_NO_WORD = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")


def telling_titles(titles: Mapping[str, str]) -> dict[str, str]:
    """Keep the products (item_id -> title) whose titles say something of them.

    A title says nothing where it is missing, or is the id, a number, or a text that most products share, whatever
    numbers are in it ("Item 123").
    """
    plain = {item: _without_id(_words(title), _words(item)) for item, title in titles.items()}
    shared = Counter(plain.values()).most_common(1)
    common = {text for text, n in shared if n > COMMON_SHARE * len(titles) and n >= COMMON_PRODUCTS}
    return {item: title for item, title in titles.items() if plain[item] not in common | MISSING_TITLES}


def title_or_nothing(item_id: str, title: str) -> str:
    """The title, or an empty text if it is missing, the id or a number."""
    return "" if _without_id(_words(title), _words(item_id)) in MISSING_TITLES else title


def untold_note(titles: Mapping[str, str], table: str = "items") -> str | None:
    """A note for who trains on these products (item_id -> title); None where nearly all titles say something.

    `table` is the input that the titles come from.
    """
    untold = len(titles) - len(telling_titles(titles))
    if untold <= NOTED_SHARE * len(titles):
        return None
    return (
        f"{table}.title: {untold:,} of {len(titles):,} titles repeat the id, are a number, or are one text for most "
        "products. So lists show them, and the model learns nothing from their words. If another column has other "
        f"titles, name it in inputs.{table}.columns.title."
    )


def _words(text: str) -> str:
    return _NO_WORD.sub(" ", product_text(text, None)).strip().lower()


def _without_id(title: str, item_id: str) -> str:
    """The words of a title without those of its id, and without digits."""
    if title.replace(" ", "") == item_id.replace(" ", ""):
        return ""
    rest = f" {title} ".replace(f" {item_id} ", " ") if item_id else title
    return " ".join(_DIGITS.sub("", rest).split())
