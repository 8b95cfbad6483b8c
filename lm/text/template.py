"""The words of a prompt: events, the templates of each language, and text that cannot break out of its line.

    Customer history                      顾客记录
    Searched: ink for my printer          搜索：打印机墨水
    Reviewed 5/5: Inkjet printer: Quiet   评价5/5：喷墨打印机：安静
    Bought: Black ink cartridge           购买：黑色墨盒
    Bought:                               购买：

The last line is the cue: the answer follows it. Where products have tokens of their own the purchases are one
`<|item:ID|>` each, stand together at the end, and there is no cue. No line says when: unchanged events give
unchanged prompts.
A change of these words is a new `lm.checkpoint.manifest.TEMPLATE_VERSION`, for models are trained on them.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from lm.text.redact import redact

FIELD_CHARACTERS = 600
"""Of one title, query or review: more than a line of a hundred tokens could never use."""

# All that would break a line or cannot be UTF-8; whitespace of any kind is collapsed anyway.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile("[\x00-\x20\x7f-\x9f%|<>\u2028\u2029\ud800-\udfff]")

LABEL = re.compile(r"Bought:|Searched:|Reviewed(?: -?\d+/5)?:|购买：|搜索：|评价(?:-?\d+/5)?：")
MARKER = re.compile(r"<\|item:[^|\n]*\|>")


class Event(NamedTuple):
    """One thing that a customer did; `kind` is bought, searched or reviewed, `rating` is of 1 to 5 stars."""

    kind: str
    item_id: str | None = None
    title: str | None = None
    text: str | None = None
    rating: int | None = None


class Template(NamedTuple):
    """The words of one language; `space` stands between a label and what it labels."""

    header: str
    bought: str
    searched: str
    reviewed: str
    colon: str
    space: str


TEMPLATES = {
    "en": Template("Customer history\n", "Bought:", "Searched:", "Reviewed", ":", " "),
    "zh": Template("顾客记录\n", "购买：", "搜索：", "评价", "：", ""),
}
CUES = tuple(template.bought for template in TEMPLATES.values())


def clean(text: str) -> str:
    """One line of plain text: controls gone, whitespace collapsed, and no "<|" that could forge a marker."""
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(_CONTROLS.sub(" ", text).split())
    return text.replace("<|", "< |")


def product_text(title: str | None, item_id: str | None) -> str:
    """How a product is spelled in prompts and answers: its title, or its id where it has none."""
    return clean((title or "")[:FIELD_CHARACTERS]) or clean((item_id or "")[:FIELD_CHARACTERS])


def item_marker(item_id: str) -> str:
    """How a prompt names a product that has a token of its own: `<|item:ID|>`."""
    return f"<|item:{_ESCAPED.sub(_percent, item_id)}|>"


def _percent(match: re.Match[str]) -> str:
    return quote(match[0], safe="", errors="surrogatepass")


def event_line(template: Template, event: Event, title: str, marker: str | None) -> str:
    """The line of one event; `title` is spelled already, `marker` is the product's own token if it has one.

    Customers' own words are redacted here, so that no prompt can be made without.
    """
    if event.kind == "bought":
        return f"{marker}\n" if marker else f"{template.bought}{template.space}{title}\n"
    text = clean(redact(event.text or "", limit=FIELD_CHARACTERS))
    if event.kind == "searched":
        return f"{template.searched}{template.space}{text}".rstrip() + "\n"
    if event.kind == "reviewed":
        stars = "" if event.rating is None else f"{template.space}{event.rating:d}/5"
        parts = [template.reviewed + stars, marker or title, *([text] if text else [])]
        return (template.colon + template.space).join(parts) + "\n"
    raise ValueError(f"event kind {event.kind!r} is none of bought, searched, reviewed")
