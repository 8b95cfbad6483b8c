"""What a rule costs: the lists with it beside the lists without it, on the same customers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.metrics import metrics

#: The most lists that are shown, and the most products.
SHOWN_LISTS, SHOWN_PRODUCTS = 10, 3

Lists = Mapping[str, Sequence[str]]


class Interval(NamedTuple):
    """A figure with its 95% bootstrap interval over customers."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RuleBill:
    """The cost of one rule among the judged customers."""

    rule: str
    #: Customers whose list the rule changes, and the rows of these lists that it puts there.
    customers: int
    rows: int
    #: The products that it most often puts into lists, and those that it most often displaces, with the lists.
    listed: Sequence[tuple[str, int]]
    displaced: Sequence[tuple[str, int]]
    #: Of all judged lists: the share of the products on sale that they show, with and without the rule.
    coverage: tuple[Interval, Interval]
    #: Of the customers who bought something later: NDCG@k with and without the rule, and the difference.
    buyers: int
    ndcg: tuple[Interval, Interval, Interval] | None
    #: The customers whose list it changes most: the displaced rows, and their share of the list's discounted gain.
    worst: Sequence[tuple[str, int, float]]


def rule_bill(
    rule: str, with_rule: Lists, without: Lists, bought: Mapping[str, set[str]], sellable: int, k: int
) -> RuleBill:
    """Compare `with_rule`, the lists of all judged customers, with `without`, those that differ without the rule.

    `bought` are the products that customers bought later, `sellable` is the number of products on sale.
    """
    displaced, listed, worst = Counter[str](), Counter[str](), []
    for user, before in without.items():
        gone, new = set(before) - set(with_rule[user]), set(with_rule[user]) - set(before)
        displaced.update(gone)
        listed.update(new)
        gains = [1 / np.log2(rank + 1) for rank in range(1, len(before) + 1)]
        lost = sum(gain for item, gain in zip(before, gains, strict=True) if item in gone)
        worst.append((user, len(gone), lost / sum(gains) if gains else 0.0))
    worst.sort(key=lambda one: (-one[2], one[0]))
    users = sorted(with_rule)
    both = [[list(with_rule[user]) for user in users], [list(without.get(user, with_rule[user])) for user in users]]
    coverage = [_coverage(lists, sellable) for lists in both]
    buyers = [user for user in users if bought.get(user)]
    ndcg = None
    if buyers:
        relevant = [bought[user] for user in buyers]
        now = metrics.ndcg_at_k([list(with_rule[user]) for user in buyers], relevant, k)
        then = metrics.ndcg_at_k([list(without.get(user, with_rule[user])) for user in buyers], relevant, k)
        ndcg = (_mean(now), _mean(then), _mean(now - then))
    return RuleBill(
        rule,
        customers=len(without),
        rows=sum(
            item != other
            for user, before in without.items()
            for item, other in zip(with_rule[user], [*before, *[""] * k], strict=False)
        ),
        listed=listed.most_common(SHOWN_PRODUCTS),
        displaced=displaced.most_common(SHOWN_PRODUCTS),
        coverage=(coverage[0], coverage[1]),
        buyers=len(buyers),
        ndcg=ndcg,
        worst=worst[:SHOWN_LISTS],
    )


def _mean(values: NDArray[np.float64]) -> Interval:
    return Interval(*metrics.mean_interval(values))


def _coverage(lists: Sequence[Sequence[str]], sellable: int) -> Interval:
    """The share of the products on sale that some list shows."""
    numbers = {item: n for n, item in enumerate(sorted({item for one in lists for item in one}))}
    shown = np.zeros((len(lists), len(numbers)), np.bool_)  # (customers, products)
    for row, one in enumerate(lists):
        shown[row, [numbers[item] for item in one]] = True

    def share(rows: NDArray[np.bool_]) -> float:
        return float(rows.any(axis=0).sum() / max(sellable, 1))

    return Interval(share(shown), *metrics.bootstrap_interval(share, shown, resamples=200))
