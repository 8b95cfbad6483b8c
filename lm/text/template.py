"""The wording of prompts: events, one template a language, and the cleaning of text that goes into a line.

    Customer history                      顾客记录
    Searched: ink for my printer          搜索：打印机墨水
    Viewed: Photo paper                   浏览：相纸
    Reviewed 5/5: Inkjet printer: Quiet   评价5/5：喷墨打印机：安静
    Bought: Black ink cartridge           购买：黑色墨盒
    Bought:                               购买：

Viewed, In cart and Wished name products that were not bought since; they come after all other lines but item tokens.
The last line is the cue, which the answer follows. With item tokens each purchase is one `<|item:ID|>`, purchases
come last, and there is no cue. No line states a time, so that unchanged events give unchanged prompts.
A change of the wording needs a new `lm.checkpoint.manifest.TEMPLATE_VERSION`, because models are trained on it.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from lm.redaction.redact import redact

FIELD_CHARACTERS = 600
"""The characters read of a title, a query or a review: a line of a hundred tokens cannot hold more."""

# Characters that would break a line or cannot be UTF-8; whitespace is collapsed in any case.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile("[\x00-\x20\x7f-\x9f%|<>\u2028\u2029\ud800-\udfff]")

LABEL = re.compile(
    r"Bought:|Searched:|Viewed:|In cart:|Wished:|Reviewed(?: -?\d+/5)?:"
    r"|购买：|搜索：|浏览：|加购：|收藏：|评价(?:-?\d+/5)?："
)
MARKER = re.compile(r"<\|item:[^|\n]*\|>")


BROWSING = ("viewed", "wished", "in cart")
"""Kinds of events that name a product without buying it, from the weakest sign of interest to the strongest."""


KINDS = ("bought", "searched", "reviewed", *BROWSING)


class Event(NamedTuple):
    """One action of a customer; `kind` is bought, searched, reviewed or of BROWSING, `rating` is 1 to 5 stars."""

    kind: str
    item_id: str | None = None
    title: str | None = None
    text: str | None = None
    rating: int | None = None


class Template(NamedTuple):
    """The wording of one language; `space` stands between a label and its text."""

    header: str
    bought: str
    searched: str
    reviewed: str
    colon: str
    space: str
    browsing: tuple[str, str, str]  # in the order of BROWSING


TEMPLATES = {
    "en": Template(
        "Customer history\n", "Bought:", "Searched:", "Reviewed", ":", " ", ("Viewed:", "Wished:", "In cart:")
    ),
    "zh": Template("顾客记录\n", "购买：", "搜索：", "评价", "：", "", ("浏览：", "收藏：", "加购：")),
}
CUES = tuple(template.bought for template in TEMPLATES.values())


def clean(text: str) -> str:
    """The text on one line, without control characters, repeated whitespace and "<|", which could forge a marker."""
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(_CONTROLS.sub(" ", text).split())
    return text.replace("<|", "< |")


def product_text(title: str | None, item_id: str | None) -> str:
    """The text that names a product in prompts and answers: its title, or its id where it has none."""
    return clean((title or "")[:FIELD_CHARACTERS]) or clean((item_id or "")[:FIELD_CHARACTERS])


def item_marker(item_id: str) -> str:
    """The marker `<|item:ID|>` that names a product with an item token in a prompt."""
    return f"<|item:{_ESCAPED.sub(_percent, item_id)}|>"


def item_of_marker(marker: str) -> str | None:
    """The product that an `item_marker` names; None for other text."""
    if not MARKER.fullmatch(marker):
        return None
    item_id = unquote(marker[len("<|item:") : -len("|>")], errors="surrogatepass")
    return item_id if item_marker(item_id) == marker else None


def _percent(match: re.Match[str]) -> str:
    return quote(match[0], safe="", errors="surrogatepass")


def event_line(template: Template, event: Event, title: str, marker: str | None) -> str:
    """The line of one event; `title` is the `product_text`, `marker` the `item_marker` if the product has one.

    A customer's own words are redacted here, so that no prompt contains them unredacted. Raises ValueError for an
    unknown kind of event.
    """
    if event.kind == "bought":
        return f"{marker}\n" if marker else f"{template.bought}{template.space}{title}\n"
    if event.kind in BROWSING:
        return f"{template.browsing[BROWSING.index(event.kind)]}{template.space}{marker or title}\n"
    text = clean(redact(event.text or "", limit=FIELD_CHARACTERS))
    if event.kind == "searched":
        return f"{template.searched}{template.space}{text}".rstrip() + "\n"
    if event.kind == "reviewed":
        stars = "" if event.rating is None else f"{template.space}{event.rating:d}/5"
        parts = [template.reviewed + stars, marker or title, *([text] if text else [])]
        return (template.colon + template.space).join(parts) + "\n"
    raise ValueError(f"event kind {event.kind!r} is none of {', '.join(KINDS)}")
