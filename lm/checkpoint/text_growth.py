"""Bounds how many times longer a tokenizer's normalizer can make a text, before any text is given to it.

A crafted `tokenizer.json` can replace a letter by a megabyte, or double it forty times.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

MOST_GROWTH = 100.0
"""NFKC, the strongest normalizer of published tokenizers, makes one letter at most 18."""
_UNICODE_GROWTH = 18.0


def text_growth(component: Any) -> float:
    """The most characters that a component of a `tokenizer.json` can make of one; at least 1.

    `component` is the JSON value of a normalizer or a decoder, None for none. Raises ValueError for a broken one.
    """
    if component is None:
        return 1.0
    if not isinstance(component, Mapping):
        raise ValueError(f"{str(component)[:40]!r} is no object")
    kind = component.get("type")
    if kind == "Sequence":
        growth = 1.0
        for part in component.get("normalizers") or component.get("decoders") or []:
            growth = min(growth * text_growth(part), 1e300)
        return growth
    if kind == "Replace":
        pattern, content = component.get("pattern"), component.get("content")
        if not isinstance(pattern, Mapping) or not isinstance(content, str):
            raise ValueError("Replace needs a pattern and a content")
        literal = pattern.get("String")
        # A regular expression may match between any two characters.
        return max(1.0, len(content) / max(len(literal), 1)) if isinstance(literal, str) else 1.0 + len(content)
    if kind == "Prepend":
        return 1.0 + len(str(component.get("prepend", "")))
    if kind == "Precompiled":
        return max(1.0, float(_longest_replacement(component.get("precompiled_charsmap"))))
    return _UNICODE_GROWTH if kind in ("NFD", "NFKD", "NFC", "NFKC") else 2.0 if kind == "Lowercase" else 1.0


def _longest_replacement(charsmap: Any) -> int:
    """Bytes of the longest text in SentencePiece's compiled map: the size of a trie, the trie, texts ended by NUL."""
    if not charsmap:
        return 1
    blob = base64.b64decode(str(charsmap), validate=True)
    texts = blob[4 + int.from_bytes(blob[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=1)
