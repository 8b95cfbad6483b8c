"""Ranking baselines: popularity, buy-again and co-purchase, fitted on purchase histories with numpy and scipy.

A history is one customer's item ids in the order of purchase. Ties are broken by item id, so that lists do not depend
on the order of the customers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

PurchaseHistories = Sequence[Sequence[str]]


class Baskets(NamedTuple):
    """The distinct items of customers as codes: customer c's are codes[offsets[c] : offsets[c + 1]], at most 50."""

    codes: NDArray[np.integer]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, histories: PurchaseHistories, code: Mapping[str, int]) -> Baskets:
        """The newest distinct items of each customer; `code` has all items."""
        return cls.of_codes([code[item] for item in history] for history in histories)

    @classmethod
    def of_codes(cls, histories: Iterable[Sequence[int]]) -> Baskets:
        """The newest distinct items of each customer, given as codes."""
        baskets = [_newest_distinct(history) for history in histories]
        return cls(np.concatenate([*baskets, np.empty(0, np.int64)]), np.cumsum([0, *map(len, baskets)]))

    def joined(self, others: Baskets) -> Baskets:
        """The baskets of these customers and of others."""
        codes = np.concatenate([self.codes, others.codes])
        return Baskets(codes, np.concatenate([self.offsets, others.offsets[1:] + len(self.codes)]))


#: The newest distinct items of a customer that count as bought together; at most its square are the customer's pairs.
BASKET_ITEMS = 50
#: Pairs of purchases counted at once; a counted pair takes 12 bytes, and less where pairs repeat.
_PAIRS_AT_ONCE = 20_000_000


def popularity(histories: PurchaseHistories, sellable: Collection[str] | None = None) -> list[str]:
    """Items by number of purchases, highest first; with `sellable`, those items only."""
    counts = Counter(item for history in histories for item in history)
    return sorted(
        (item for item in counts if sellable is None or item in sellable), key=lambda item: (-counts[item], item)
    )


def _first_allowed(ranked: Iterable[str], excluded: Collection[str], k: int) -> list[str]:
    chosen: list[str] = []
    for item in ranked:
        if len(chosen) == k:
            break
        if item not in excluded:
            chosen.append(item)
    return chosen


def recommend_popular(popular: Sequence[str], excluded: Sequence[Collection[str]], k: int) -> list[list[str]]:
    """The k most popular items for each customer, without the customer's `excluded` items."""
    return [_first_allowed(popular, barred, k) for barred in excluded]


def recommend_again(histories: PurchaseHistories, popular: Sequence[str], k: int) -> list[list[str]]:
    """Each customer's own items, most often bought first (then newest first), then popular items up to k."""
    sellable = set(popular)
    lists = []
    for history in histories:
        times = Counter(item for item in history if item in sellable)
        newest = {item: place for place, item in enumerate(history)}
        own = sorted(times, key=lambda item: (-times[item], -newest[item]))[:k]
        lists.append(own + _first_allowed(popular, set(own), k - len(own)))
    return lists


@dataclass(frozen=True)
class CoPurchases:
    """Item-to-item cosines of co-purchase in compressed rows; the neighbours of i are columns[starts[i]:starts[i+1]].

    Source: item-based collaborative filtering, Sarwar et al. (WWW 2001); Linden et al., "Amazon.com Recommendations"
    (2003).
    """

    items: list[str]
    starts: NDArray[np.int64]  # (items + 1,)
    columns: NDArray[np.int64]
    cosines: NDArray[np.float64]

    @classmethod
    def fit(cls, histories: PurchaseHistories, most: int | None = None) -> CoPurchases:
        """Count the customers who bought each pair of items, among each customer's newest 50 distinct items.

        With `most`, only so many of the closest items of each item are kept; ties go to the lower item id.
        """
        items = sorted({item for history in histories for item in history})
        return cls.of_baskets(items, Baskets.of(histories, {item: row for row, item in enumerate(items)}), most)

    @classmethod
    def of_baskets(cls, items: list[str], baskets: Baskets, most: int | None = None) -> CoPurchases:
        """As `fit`, from items by their places in `items`, of which ties go to the lower.

        Time grows with the number of pairs that customers bought; memory with the pairs that are kept.
        """
        codes, offsets = baskets
        ones = np.ones(len(codes), np.int32)
        bought = scipy.sparse.csr_matrix((ones, codes, offsets), shape=(len(offsets) - 1, len(items)))
        buyers = np.bincount(codes, minlength=len(items)).astype(np.float64)
        by_item = bought.T.tocsr()
        lengths = np.diff(offsets)
        pairs = np.cumsum(by_item @ lengths)  # up to each item
        kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        start = 0
        while start < len(items):
            before = pairs[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(pairs, before + _PAIRS_AT_ONCE, side="right")))
            counted = (by_item[start:stop] @ bought).tocsr()
            counted.sort_indices()
            row = np.repeat(np.arange(start, stop), np.diff(counted.indptr))
            column = counted.indices.astype(np.int64)
            cosine = counted.data / np.sqrt(buyers[row] * buyers[column])
            others = np.flatnonzero(row != column)
            row, column, cosine = row[others], column[others], cosine[others]
            closest = slice(None) if most is None else _closest(row, column, cosine, most)
            kept.append((row[closest], column[closest], cosine[closest]))
            start = stop
        empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        rows, columns, cosines = (np.concatenate(parts) for parts in zip(empty, *kept, strict=True))
        starts = np.searchsorted(rows, np.arange(len(items) + 1))
        return cls(items, starts.astype(np.int64), columns, cosines)

    def recommend(
        self, histories: PurchaseHistories, popular: Sequence[str], excluded: Sequence[Collection[str]], k: int
    ) -> list[list[str]]:
        """The items with the highest summed cosine to the customer's newest 50 items, then popular items up to k."""
        code = {item: row for row, item in enumerate(self.items)}
        sellable = np.zeros(len(self.items), dtype=bool)
        sellable[[code[item] for item in popular if item in code]] = True
        lists = []
        for history, barred in zip(histories, excluded, strict=True):
            scores = np.zeros(len(self.items))
            for row in _newest_distinct([code[item] for item in history if item in code]):
                near = slice(self.starts[row], self.starts[row + 1])
                scores[self.columns[near]] += self.cosines[near]
            scores[[code[item] for item in barred if item in code]] = 0
            scores[~sellable] = 0
            found = np.flatnonzero(scores)
            best = found[np.lexsort((found, -np.round(scores[found], 9)))][:k]  # equal sums may differ in the last bits
            own = [self.items[row] for row in best]
            lists.append(own + _first_allowed(popular, {*own, *barred}, k - len(own)))
        return lists


def _newest_distinct(codes: Sequence[int]) -> NDArray[np.int64]:
    newest = dict.fromkeys(reversed(codes))
    return np.array(list(newest)[:BASKET_ITEMS], dtype=np.int64)


def _closest(
    row: NDArray[np.int64], column: NDArray[np.int64], cosine: NDArray[np.float64], most: int
) -> NDArray[np.int64]:
    """Places (ascending) of the `most` greatest cosines of each row; `row` ascends, and ties go to lower columns."""
    order = np.lexsort((column, -cosine, row))
    place = np.arange(len(order)) - np.searchsorted(row, row)
    return np.sort(order[place < most])
