"""Counts purchases for the hybrid (lm.recommend.hybrid): what is bought together, and what is popular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse

from lm.metrics.baselines import Baskets, CoPurchases
from lm.recommend.co_purchase import CoPurchaseFeatures, Ints, popularity
from lm.recommend.cold_items import ColdItems
from lm.recommend.hybrid import Hybrid
from lm.recommend_training.further_customers import FurtherCounts, FurtherCustomers
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents

#: Most pairs that are kept, the closest of each item: 8 bytes each in the model's folder and in every worker.
PAIRS = 20_000_000
_FEWEST_PER_ITEM = 50


class Bought(NamedTuple):
    """One customer's purchases, oldest first: the codes of the items and the day of each."""

    codes: Ints
    days: Ints

    def upto(self, day: int) -> Bought:
        """The purchases up to the end of a day."""
        stop = int(np.searchsorted(self.days, day, side="right"))
        return Bought(self.codes[:stop], self.days[:stop])

    def between(self, day: int, last: int) -> Ints:
        """The distinct items of the days after `day`, up to `last`."""
        start, stop = np.searchsorted(self.days, [day, last], side="right")
        return np.unique(self.codes[start:stop])


def bought_items(
    customers: Sequence[CustomerEvents], token_of: Mapping[str, int], first: int, *, timed: bool
) -> list[Bought]:
    """The purchases of each customer, as item codes: tokens less the `first` one.

    If not `timed`, days have no meaning, and all purchases count as of one day.
    """
    found = []
    for one in customers:
        pairs = [
            (token_of[event.item_id] - first, day if timed else 0)
            for event, day in zip(one.events, one.days, strict=True)
            if event.kind == BOUGHT and event.item_id is not None and event.item_id in token_of
        ]
        found.append(Bought(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T))
    return found


def count_hybrid(
    bought: Sequence[Bought],
    titles: Mapping[str, str | None],
    *,
    co_purchase: bool,
    cold_items: bool,
    further: FurtherCustomers | None = None,
) -> Hybrid:
    """Count customers' purchases and those of `further` ones; no weight is fitted yet.

    `titles` are those of the model's items, in the order of their codes.
    """
    is_bought = np.zeros(len(titles), np.bool_)
    is_bought[np.concatenate([np.empty(0, np.int64), *(one.codes for one in bought)])] = True
    others = None
    if further is not None:
        others = further.counts(_codes(list(titles)), newest_day(bought))
        is_bought |= others.purchases[0] > 0
    features = count_features(bought, list(titles), others) if co_purchase else None
    return Hybrid(features, ColdItems.of(list(titles.values()), is_bought) if cold_items else None)


def count_features(
    bought: Sequence[Bought], item_ids: Sequence[str], others: FurtherCounts | None = None
) -> CoPurchaseFeatures:
    """Count customers' purchases and add those of `others`; `item_ids` are in the order of their codes.

    No weight is fitted yet.
    """
    nothing = np.empty(0, np.int64)
    codes = np.concatenate([nothing, *(one.codes for one in bought)])
    ages = newest_day(bought) - np.concatenate([nothing, *(one.days for one in bought)])
    baskets, purchases = Baskets.of_codes(one.codes.tolist() for one in bought), None
    if others is not None:
        baskets, purchases = baskets.joined(others.baskets), others.purchases
    counted = CoPurchases.of_baskets(list(item_ids), baskets, _kept(len(item_ids)))
    popular = popularity(codes, ages, len(item_ids), purchases)
    return replace(closest_co_purchases(counted, _codes(item_ids)), popular=popular)


def newest_day(bought: Sequence[Bought]) -> int:
    """The day of the newest purchase, 0 without purchases."""
    return max((int(one.days[-1]) for one in bought if len(one.days)), default=0)


def with_weights_of(counted: Hybrid, fitted: Hybrid) -> Hybrid:
    """New counts with the weights of an earlier fit."""
    features, cold = counted.co_purchase, counted.cold_items
    return Hybrid(
        features and fitted.co_purchase and replace(features, weights=fitted.co_purchase.weights),
        cold and fitted.cold_items and replace(cold, weights=fitted.cold_items.weights),
    )


def recounted(
    hybrid: Hybrid, bought: Sequence[Bought], item_ids: Sequence[str], further: FurtherCustomers | None = None
) -> Hybrid:
    """The hybrid with counts of other purchases and its weights.

    What counts as cold stays: GPT-2 has learned no other products.
    """
    features = hybrid.co_purchase
    if features is None:
        return hybrid
    others = None if further is None else further.counts(_codes(item_ids), newest_day(bought))
    return replace(hybrid, co_purchase=replace(count_features(bought, item_ids, others), weights=features.weights))


def _codes(item_ids: Sequence[str]) -> dict[str, int]:
    return {item: code for code, item in enumerate(item_ids)}


def _kept(items: int) -> int:
    """The number of closest items of each item that are kept."""
    return max(_FEWEST_PER_ITEM, PAIRS // max(items, 1))


def closest_co_purchases(counted: CoPurchases, codes: Mapping[str, int]) -> CoPurchaseFeatures:
    """The closest co-purchased items of each item; `codes` numbers all items from 0. No weight is fitted yet."""
    row = np.repeat(np.arange(len(counted.items)), np.diff(counted.starts))
    order = np.lexsort((counted.columns, -counted.cosines, row))
    kept = order[np.arange(len(order)) - counted.starts[row[order]] < _kept(len(codes))]
    code = np.array([codes[item] for item in counted.items], dtype=np.int64)
    entries = counted.cosines[kept].astype(np.float32), (code[row[kept]], code[counted.columns[kept]])
    return CoPurchaseFeatures(scipy.sparse.csr_matrix(entries, shape=(len(codes), len(codes))))
