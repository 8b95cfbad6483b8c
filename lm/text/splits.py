"""Which texts are trained on, validated on and tested on: decided by the text alone, the same on every machine."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validation", "test"]


def split_of(text: str) -> Split:
    """8 : 1 : 1 by a hash of the text without case and spacing, so that copies of a text never straddle parts."""
    tenth = int.from_bytes(text_digest(text)[:8], "big") % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def text_digest(text: str) -> bytes:
    """32 bytes that copies of a text have in common, whatever their case and spacing."""
    return hashlib.sha256("".join(text.casefold().split()).encode("utf-8", "surrogatepass")).digest()
