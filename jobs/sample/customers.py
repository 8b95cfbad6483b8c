"""The sample shop's customers and what they buy: tastes, missions, what leads to what, and when.

A customer buys in missions: she enters a house (a brand's products of one group) that she likes or that is popular
and then mostly buys what the last purchase leads to, until she turns to something else or buys something used up again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.sample.catalogue import Catalogue
from jobs.sample.random import Bools, Floats, Ints, Keys, exponential, keys, normal, uniform

FAVOURITES = 3
_PURCHASES_PER_60_DAYS = (2.68, 1.1)  # of the lognormal: mean of the logarithm, its standard deviation
_MOST_PURCHASES_PER_60_DAYS = 300
_P_SAME_ORDER = 0.10
_P_SUCCESSOR = 0.60
_P_REPLENISH = 0.13
_P_TASTE = 0.20  # the rest follows popularity
_SUCCESSOR_SHARES = (0.62, 0.88)  # first successor, first or second
#: Relative activity by hour of the day, midnight first: few at night, most in the evening.
_BY_HOUR = np.array([3, 2, 1, 1, 1, 2, 5, 9, 12, 13, 14, 14, 16, 15, 13, 13, 14, 17, 20, 24, 26, 22, 14, 7.0])


@dataclass(frozen=True)
class Customers:
    """A block of customers, (n,) arrays; days are counted from the period's start."""

    numbers: Ints
    key: Keys
    chinese: Bools
    joined: Floats
    left: Floats
    churned: Bools
    purchases: Ints
    favourites: Ints  # (n, FAVOURITES) houses


@dataclass(frozen=True)
class Purchases:
    """Purchases of a block, by customer and then time; (p,) arrays."""

    customer: Ints  # row in Customers
    step: Ints  # 0, 1, ... within the customer
    order: Ints  # number of the order within the customer
    day: Floats
    previous_day: Floats  # of the purchase before, or when the customer joined
    item: Ints


def draw_customers(seed: int, numbers: Ints, days: int, catalogue: Catalogue) -> Customers:
    """The customers of these numbers: a shop that grows (half join within the period) and loses a quarter."""
    key = keys(seed, "customer", numbers)
    chinese = uniform(key, "chinese") < 0.10
    joined = days * np.maximum(0.0, (uniform(key, "joined") - 0.45) / 0.56)
    churned = uniform(key, "churned") < 0.25
    left = np.where(churned, joined + (days - joined) * uniform(key, "left"), float(days))
    mean_log, spread = _PURCHASES_PER_60_DAYS
    rate = np.exp(mean_log + spread * normal(key, "rate")) / 60
    wanted = np.floor(rate * (left - joined) + uniform(key, "rounding")).astype(np.int64)
    only_looks = uniform(key, "only looks") < 0.4
    most = max(1, _MOST_PURCHASES_PER_60_DAYS * days // 60)
    purchases = np.clip(wanted, np.where(only_looks, 0, 1), most)
    favourites = [pick_house(catalogue, chinese, uniform(key, "favourite", f)) for f in range(FAVOURITES)]
    return Customers(numbers, key, chinese, joined, left, churned, purchases, np.stack(favourites, axis=1))


def pick_house(catalogue: Catalogue, chinese: Bools, u: Floats) -> Ints:
    """A house by popularity among the customers of the language, for u uniform in [0, 1)."""
    english_house, chinese_house = (np.searchsorted(share, u, side="right") for share in catalogue.house_share)
    return np.minimum(np.where(chinese, chinese_house, english_house), len(catalogue.house_size) - 1)


def pick_in_house(catalogue: Catalogue, house: Ints, u: Floats) -> Ints:
    """An item of the house, its first ones more often."""
    return catalogue.house_start[house] + (u**2 * catalogue.house_size[house]).astype(np.int64)


def simulate(catalogue: Catalogue, people: Customers) -> Purchases:
    """What the customers buy and when."""
    customer = np.repeat(np.arange(len(people.purchases)), people.purchases)
    first = np.cumsum(people.purchases) - people.purchases
    step = np.arange(len(customer)) - first[customer]
    same_order = (uniform(people.key[customer], "same order", step) < _P_SAME_ORDER) & (step > 0)
    day = _days(people, customer, step, same_order)
    previous = np.where(step > 0, np.roll(day, 1), people.joined[customer])
    opened: Ints = np.cumsum(~same_order, dtype=np.int64)
    order: Ints = opened - opened[first[customer]]
    item = _items(catalogue, people, first, day)
    # An order has one row for an item: a second one (of who has bought all else) is dropped.
    line = (customer * (order.max(initial=0) + 1) + order) * catalogue.size + item
    kept = np.sort(np.unique(line, return_index=True)[1])
    return Purchases(customer[kept], step[kept], order[kept], day[kept], np.minimum(previous, day)[kept], item[kept])


def in_opening_hours(day: Floats) -> Floats:
    """The same days with their hours moved to when people shop; keeps the order of moments."""
    whole = np.floor(day)
    share = np.concatenate([[0.0], np.cumsum(_BY_HOUR / _BY_HOUR.sum())])
    return whole + np.minimum(np.interp(day - whole, share, np.arange(25) / 24), 1 - 1e-9)


def _days(people: Customers, customer: Ints, step: Ints, same_order: Bools) -> Floats:
    """Exponential gaps, scaled to the time that the customer was there."""
    gap = np.where(same_order, 0.0, exponential(people.key[customer], "gap", step))
    total = np.cumsum(gap)
    starts = np.cumsum(people.purchases) - people.purchases
    before = np.concatenate([[0.0], total])
    elapsed = total - before[starts][customer]
    whole = before[starts + people.purchases] - before[starts] + exponential(people.key, "last gap")
    share = elapsed / whole[customer]
    return in_opening_hours(people.joined[customer] + (people.left - people.joined)[customer] * share)


def _items(catalogue: Catalogue, people: Customers, first: Ints, day: Floats) -> Ints:
    """Item of each purchase, drawn step by step for all customers who buy that often."""
    busiest = np.argsort(-people.purchases, kind="stable")  # so that those still buying are always the first rows
    counts = people.purchases[busiest]
    bought = np.full((len(counts), int(counts.max(initial=0))), -1, np.int32)
    item = np.empty(len(day), np.int64)
    for step in range(bought.shape[1]):
        active = int(np.searchsorted(-counts, -step, side="left"))
        rows = busiest[:active]
        where = first[rows] + step
        chosen = _next_items(catalogue, people, rows, bought[:active, :step], day[where])
        bought[:active, step] = chosen
        item[where] = chosen
    return item


def _next_items(catalogue: Catalogue, people: Customers, rows: Ints, bought: np.ndarray, day: Floats) -> Ints:
    """The next item (a,) of the customers in `rows`, who have bought (a, step) items, the last one last."""
    step = bought.shape[1]
    key = people.key[rows]
    mode = uniform(key, "mode", step)
    liked = people.favourites[rows, (uniform(key, "which favourite", step) * FAVOURITES).astype(np.int64)]
    popular = pick_house(catalogue, people.chinese[rows], uniform(key, "popular", step))
    by_taste = mode < _P_SUCCESSOR + _P_REPLENISH + _P_TASTE
    house = np.where(by_taste | (uniform(key, "first by taste") < 0.7) & (step == 0), liked, popular)
    entry = pick_in_house(catalogue, house, uniform(key, "entry", step))
    following = catalogue.house_start[house] + (entry - catalogue.house_start[house] + 1) % catalogue.house_size[house]
    candidates = [entry, following]
    if step > 0:
        last = bought[:, -1]
        order = np.searchsorted(_SUCCESSOR_SHARES, uniform(key, "successor", step), side="right")
        in_chain = mode < _P_SUCCESSOR
        chain = [catalogue.successors[last, (order + turn) % 3] for turn in range(3)]
        candidates = [np.where(in_chain, c, entry) for c in chain] + candidates
    chosen = catalogue.house_staple[house]  # bought again where nothing else is left
    for candidate in reversed(candidates):
        has = (bought == candidate[:, None]).any(axis=1)
        on_sale = (catalogue.launched[candidate] <= day) & (day < catalogue.withdrawn[candidate])
        chosen = np.where(on_sale & ~has, candidate, chosen)
    if step >= 2:
        ago = 2 + (uniform(key, "how long ago", step) * min(step - 1, 6)).astype(np.int64)
        again = bought[np.arange(len(rows)), step - ago]
        replenish = (mode >= _P_SUCCESSOR) & (mode < _P_SUCCESSOR + _P_REPLENISH)
        on_sale = day < catalogue.withdrawn[again]
        chosen = np.where(replenish & ~catalogue.durable[again] & on_sale, again, chosen)
    return chosen
