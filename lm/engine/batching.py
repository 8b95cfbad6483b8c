"""Batches bounded by tokens, and the row counts of matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

LENGTH_MULTIPLE = 8
"""Prompts are padded to a multiple of this many tokens, so that prompts of similar length share a shape."""


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group the indices of `lengths` into batches of at most `budget` tokens (at least one row), longest first.

    Rows of similar length share a batch, so that a long row pads few others.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    descending = [lengths[i] for i in order]
    batches, start = [], 0
    while start < len(order):
        stop = start + rows_within_budget(descending[start:], budget)
        batches.append(order[start:stop])
        start = stop
    return batches


def rows_within_budget(
    lengths: Iterable[int], budget: int, extra: int = 0, budget_with_extra: int | None = None
) -> int:
    """The number of leading rows that form a batch of at most `budget` tokens; at least one row.

    Lengths are rounded up to LENGTH_MULTIPLE. With `extra` tokens added to each row, a batch has at most
    `budget_with_extra` tokens.
    """
    spent = rows = 0
    for length in lengths:
        spent += round_up(length, LENGTH_MULTIPLE)
        rows += 1
        over = budget_with_extra is not None and spent + rows * extra > budget_with_extra
        if rows > 1 and (spent > budget or over):
            return rows - 1
    return rows


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class RowTiles:
    """The row counts of matrix products: tiles of `tile` rows, the last one padded to a `multiple`.

    A tile fits the caches between two products, and is large enough to repay the packing of the weights.
    """

    tile: int
    multiple: int

    def padded(self, rows: int) -> int:
        """The rows of a buffer for `rows` rows, padding included."""
        return round_up(rows, self.multiple)

    def __call__(self, rows: int) -> Iterator[slice]:
        """The slices of the tiles that cover `rows` rows; `rows` is a multiple of `multiple`."""
        return (slice(start, min(start + self.tile, rows)) for start in range(0, rows, self.tile))


FIXED_TILE = 128
ROW_MULTIPLE = 16
BFLOAT16_ROW_MULTIPLE = 8
"""The same in bfloat16, where rows need not keep their bits."""


def rows_are_independent(product: Callable[[torch.Tensor], torch.Tensor], width: int, tile: int) -> bool:
    """Whether each row of `product` (rows, width) -> (rows, …) is bitwise independent of the number of rows.

    Tries few, some and half of the tile's rows, at both ends of the tile.
    """
    x = torch.randn(tile, width, generator=torch.Generator().manual_seed(0))
    whole = product(x)
    for rows in (ROW_MULTIPLE, 3 * ROW_MULTIPLE, tile // 2 + ROW_MULTIPLE):
        if 0 < rows < tile and not (
            torch.equal(product(x[:rows]), whole[:rows]) and torch.equal(product(x[-rows:]), whole[-rows:])
        ):
            return False
    return True


def choose_tiles(products: Sequence[tuple[Callable[[torch.Tensor], torch.Tensor], int]], tile: int) -> RowTiles:
    """Row counts that make results independent of the batch, for `products` given as (function, width).

    Matrix libraries choose kernels by the row count, and kernels may round differently. Where this processor's kernels
    round alike, any multiple of ROW_MULTIPLE is used; otherwise every product has FIXED_TILE rows.
    """
    if all(rows_are_independent(product, width, tile) for product, width in products):
        return RowTiles(tile, ROW_MULTIPLE)
    return RowTiles(FIXED_TILE, FIXED_TILE)
