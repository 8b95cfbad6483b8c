"""Ranking baselines: popularity, buy-again and co-purchase, fitted on purchase histories with numpy alone.

A history is one customer's item ids in the order of purchase. Ties are broken by item id, so that lists do not depend
on the order of the customers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PurchaseHistories = Sequence[Sequence[str]]

#: The newest distinct items of a customer that count as bought together; at most its square are the customer's pairs.
_BASKET_ITEMS = 50
#: Pairs counted at once (16 bytes each).
_PAIRS_AT_ONCE = 4_000_000


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

    items: list[str]  # sorted
    starts: NDArray[np.int64]  # (items + 1,)
    columns: NDArray[np.int64]
    cosines: NDArray[np.float64]

    @classmethod
    def fit(cls, histories: PurchaseHistories) -> CoPurchases:
        """Count the customers who bought each pair of items, among each customer's newest 50 distinct items."""
        items = sorted({item for history in histories for item in history})
        code = {item: row for row, item in enumerate(items)}
        baskets = [_newest_distinct([code[item] for item in history]) for history in histories]
        buyers = np.bincount(np.concatenate([*baskets, np.empty(0, np.int64)]), minlength=len(items))
        pairs, counts = _count_pairs(baskets, len(items))
        rows, columns = np.divmod(pairs, max(len(items), 1))
        cosines = counts / np.sqrt(buyers[rows].astype(np.float64) * buyers[columns])
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
    return np.array(list(newest)[:_BASKET_ITEMS], dtype=np.int64)


def _count_pairs(baskets: Sequence[NDArray[np.int64]], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted codes of pairs (row * n + column, row != column) and the number of baskets with each pair."""
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    pending: list[NDArray[np.int64]] = []
    pending_pairs = 0
    for place, basket in enumerate(baskets):
        codes = (basket[:, None] * n + basket[None, :])[~np.eye(len(basket), dtype=bool)]
        pending.append(codes)
        pending_pairs += len(codes)
        if pending_pairs > _PAIRS_AT_ONCE or place == len(baskets) - 1:
            new, times = np.unique(np.concatenate(pending), return_counts=True)
            pairs, inverse = np.unique(np.concatenate([pairs, new]), return_inverse=True)
            counts = np.bincount(inverse, np.concatenate([counts, times])).astype(np.int64)
            pending, pending_pairs = [], 0
    return pairs, counts
