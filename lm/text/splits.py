"""Assigns texts to training, validation and test by a hash of the text, the same on every machine."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validation", "test"]


def split_of(text: str) -> Split:
    """The split of a text, 8 : 1 : 1 by its `text_digest`, so that copies of a text share a split."""
    tenth = int.from_bytes(text_digest(text)[:8], "big") % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def text_digest(text: str) -> bytes:
    """32 bytes of a hash that ignores case and whitespace."""
    return hashlib.sha256("".join(text.casefold().split()).encode("utf-8", "surrogatepass")).digest()
