"""Earlier parts of a shop's history as customers to fit the weights of counting on.

A fold counts all purchases up to a day and asks for those of the days after it, as a night does. Folds lie one before
the other, from the newest day on ("rolling origin", Tashman 2000), and GPT-2 has no part in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lm.recommend.co_purchase import Ints
from lm.recommend_training.count_purchases import Bought, count_features
from lm.recommend_training.fit_candidates import FitRows
from lm.recommend_training.fit_hybrid import Customers, fit_rows, most_customers

#: Fewest days that a fold asks for. They are doubled until they hold FEWEST customers, while half of all purchases
#: lie before them.
DAYS = 14
FEWEST = 50
#: Folds end with so many customers, or where less than this share of all purchases lies before one.
ENOUGH = 1000
LEAST_BEFORE = 0.3
#: Most folds: each counts all pairs of products.
FOLDS = 6


def counting_folds(bought: Sequence[Bought], item_ids: Sequence[str], *, new_only: bool, seed: int) -> list[FitRows]:
    """The folds, the newest first; none where the history is too short. `item_ids` are in the order of their codes.

    With `new_only` a customer's own items are neither wanted nor listed. Each fold has a seeded sample of customers.
    """
    days = np.sort(np.concatenate([np.empty(0, np.int64), *(one.days for one in bought)]))
    if not len(days):
        return []
    rng = np.random.default_rng(seed)
    last, width = int(days[-1]), DAYS
    while (
        len(_customers(bought, last - width, last, new_only=new_only)) < FEWEST
        and np.searchsorted(days, last - 2 * width, side="right") >= len(days) / 2
    ):
        width *= 2
    folds: list[FitRows] = []
    asked = 0
    while len(folds) < FOLDS and asked < ENOUGH:
        day = last - width
        if np.searchsorted(days, day, side="right") < LEAST_BEFORE * len(days):
            break
        found = _customers(bought, day, last, new_only=new_only)
        if found:
            drawn = rng.permutation(len(found))[: min(ENOUGH, most_customers(len(found), len(item_ids)))]
            folds.append(_rows(bought, day, item_ids, [found[place] for place in sorted(drawn)], new_only, seed))
            asked += len(drawn)
        last = day
    return folds


def _customers(bought: Sequence[Bought], day: int, last: int, *, new_only: bool) -> list[tuple[Ints, Ints]]:
    """(purchases up to the day, items wanted in the days after it) of the customers who have both."""
    found = []
    for one in bought:
        before, wanted = one.upto(day).codes, one.between(day, last)
        if new_only:
            wanted = np.setdiff1d(wanted, before)
        if len(before) and len(wanted):
            found.append((before, wanted))
    return found


def _rows(
    bought: Sequence[Bought],
    day: int,
    item_ids: Sequence[str],
    found: list[tuple[Ints, Ints]],
    new_only: bool,
    seed: int,
) -> FitRows:
    features = count_features([one.upto(day) for one in bought], item_ids)
    purchases, wanted = [before for before, _ in found], [after for _, after in found]
    barred = [np.unique(before) if new_only else before[:0] for before in purchases]
    most = max(1, 4_000_000 // len(item_ids))  # logits at once
    places = np.split(np.arange(len(found)), range(most, len(found), most))
    batches = ((some, torch.zeros(len(some), len(item_ids))) for some in places)
    return fit_rows(features, batches, Customers(purchases, wanted, barred), seed)
