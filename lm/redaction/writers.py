"""What enough different customers wrote: only that may become a part of a model that is shared by all."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TypeVar

Piece = TypeVar("Piece", bound=Hashable)


def own_writers(texts: int) -> list[str]:
    """A writer of its own for each text, where nobody knows who wrote it."""
    return [f"text {number}" for number in range(texts)]


def known_writers(writers: Sequence[str | None] | None, texts: int) -> list[str | None]:
    """The writer of each text; None stands for the shop.

    Where `writers` is None, or names one customer for all texts, as a data set without customers does, each text
    counts as another customer's.
    """
    if writers is None or len({writer for writer in writers if writer is not None}) == 1:
        own = own_writers(texts)
        return [None if writers is not None and writers[i] is None else own[i] for i in range(texts)]
    return list(writers)


def common(pieces: Iterable[Collection[Piece]], writers: Iterable[str | None], least: int) -> set[Piece]:
    """The pieces that at least `least` different customers wrote, or the shop, whose writer is None.

    `pieces` has the pieces of each text. Memory is bounded by `least` writers for each different piece.
    """
    found: set[Piece] = set()
    holders: dict[Piece, set[str]] = {}
    for of_text, writer in zip(pieces, writers, strict=True):
        if writer is None:
            found.update(of_text)
            continue
        for piece in of_text:
            if piece in found:
                continue
            holding = holders.setdefault(piece, set())
            holding.add(writer)
            if len(holding) >= least:
                found.add(piece)
                del holders[piece]
    return found
