"""Simulates the sample shop's customers and their purchases.

A customer enters a favourite or a popular product line and then mostly buys the successor of the last purchase.
Now and then the customer turns to another line or replenishes a consumable item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.sample.catalogue import SampleCatalogue
from jobs.sample.random import Bools, Floats, Ints, Keys, exponential, keys, normal, uniform

FAVOURITES = 3
_PURCHASES_PER_60_DAYS = (2.68, 1.1)  # lognormal: mean and standard deviation of the logarithm
_MOST_PURCHASES_PER_60_DAYS = 300
_P_SAME_ORDER = 0.10
_P_SUCCESSOR = 0.60
_P_REPLENISH = 0.13
_P_TASTE = 0.20  # the rest follows popularity
_SUCCESSOR_SHARES = (0.62, 0.88)  # first successor, first or second
#: Relative activity by hour of the day, midnight first: few at night, most in the evening.
_BY_HOUR = np.array([3, 2, 1, 1, 1, 2, 5, 9, 12, 13, 14, 14, 16, 15, 13, 13, 14, 17, 20, 24, 26, 22, 14, 7.0])


@dataclass(frozen=True)
class SampleCustomers:
    """A block of customers as (n,) arrays; days count from the period's start."""

    numbers: Ints
    key: Keys
    chinese: Bools
    joined: Floats
    left: Floats
    churned: Bools
    purchases: Ints
    favourites: Ints  # (n, FAVOURITES) product lines


@dataclass(frozen=True)
class SimulatedPurchases:
    """The purchases of a block as (p,) arrays, sorted by customer and time."""

    customer: Ints  # row in SampleCustomers
    step: Ints  # 0, 1, ... within the customer
    order: Ints  # number of the order within the customer
    day: Floats
    previous_day: Floats  # day of the previous purchase, or when the customer joined
    item: Ints


def draw_customers(seed: int, numbers: Ints, days: int, catalogue: SampleCatalogue) -> SampleCustomers:
    """Draw the customers of these numbers; about half join within the period and a quarter leave."""
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
    favourites = [pick_product_line(catalogue, chinese, uniform(key, "favourite", f)) for f in range(FAVOURITES)]
    return SampleCustomers(numbers, key, chinese, joined, left, churned, purchases, np.stack(favourites, axis=1))


def pick_product_line(catalogue: SampleCatalogue, chinese: Bools, u: Floats) -> Ints:
    """Draw a product line (n,) by its popularity in the customer's language, for u (n,) uniform in [0, 1)."""
    english_line, chinese_line = (np.searchsorted(share, u, side="right") for share in catalogue.line_share)
    return np.minimum(np.where(chinese, chinese_line, english_line), len(catalogue.line_size) - 1)


def pick_from_line(catalogue: SampleCatalogue, product_line: Ints, u: Floats) -> Ints:
    """Draw an item (n,) of the product line, the first ones more often, for u (n,) uniform in [0, 1)."""
    return catalogue.line_start[product_line] + (u**2 * catalogue.line_size[product_line]).astype(np.int64)


def simulate(catalogue: SampleCatalogue, people: SampleCustomers) -> SimulatedPurchases:
    """Simulate what the customers buy and when."""
    customer = np.repeat(np.arange(len(people.purchases)), people.purchases)
    first = np.cumsum(people.purchases) - people.purchases
    step = np.arange(len(customer)) - first[customer]
    same_order = (uniform(people.key[customer], "same order", step) < _P_SAME_ORDER) & (step > 0)
    day = _days(people, customer, step, same_order)
    previous = np.where(step > 0, np.roll(day, 1), people.joined[customer])
    opened: Ints = np.cumsum(~same_order, dtype=np.int64)
    order: Ints = opened - opened[first[customer]]
    item = _items(catalogue, people, first, day)
    # An order has one row per item. A second one, drawn where nothing else was left, is dropped.
    order_line = (customer * (order.max(initial=0) + 1) + order) * catalogue.size + item
    kept = np.sort(np.unique(order_line, return_index=True)[1])
    return SimulatedPurchases(
        customer[kept], step[kept], order[kept], day[kept], np.minimum(previous, day)[kept], item[kept]
    )


def in_opening_hours(day: Floats) -> Floats:
    """Move the time of day to when people shop; the order of moments stays."""
    whole = np.floor(day)
    share = np.concatenate([[0.0], np.cumsum(_BY_HOUR / _BY_HOUR.sum())])
    return whole + np.minimum(np.interp(day - whole, share, np.arange(25) / 24), 1 - 1e-9)


def _days(people: SampleCustomers, customer: Ints, step: Ints, same_order: Bools) -> Floats:
    """Draw the day of each purchase (p,): exponential gaps scaled to the customer's time in the shop."""
    gap = np.where(same_order, 0.0, exponential(people.key[customer], "gap", step))
    total = np.cumsum(gap)
    starts = np.cumsum(people.purchases) - people.purchases
    before = np.concatenate([[0.0], total])
    elapsed = total - before[starts][customer]
    whole = before[starts + people.purchases] - before[starts] + exponential(people.key, "last gap")
    share = elapsed / whole[customer]
    return in_opening_hours(people.joined[customer] + (people.left - people.joined)[customer] * share)


def _items(catalogue: SampleCatalogue, people: SampleCustomers, first: Ints, day: Floats) -> Ints:
    """Draw the item of each purchase (p,), step by step for all customers who buy that often."""
    busiest = np.argsort(-people.purchases, kind="stable")  # customers who still buy are always the first rows
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


def _next_items(
    catalogue: SampleCatalogue, people: SampleCustomers, rows: Ints, bought: np.ndarray, day: Floats
) -> Ints:
    """Draw the next item (a,) of the customers in `rows`; `bought` (a, step) holds their items, oldest first."""
    step = bought.shape[1]
    key = people.key[rows]
    mode = uniform(key, "mode", step)
    liked = people.favourites[rows, (uniform(key, "which favourite", step) * FAVOURITES).astype(np.int64)]
    popular = pick_product_line(catalogue, people.chinese[rows], uniform(key, "popular", step))
    by_taste = mode < _P_SUCCESSOR + _P_REPLENISH + _P_TASTE
    product_line = np.where(by_taste | (uniform(key, "first by taste") < 0.7) & (step == 0), liked, popular)
    entry = pick_from_line(catalogue, product_line, uniform(key, "entry", step))
    following = (
        catalogue.line_start[product_line]
        + (entry - catalogue.line_start[product_line] + 1) % catalogue.line_size[product_line]
    )
    candidates = [entry, following]
    if step > 0:
        last = bought[:, -1]
        order = np.searchsorted(_SUCCESSOR_SHARES, uniform(key, "successor", step), side="right")
        in_chain = mode < _P_SUCCESSOR
        chain = [catalogue.successors[last, (order + turn) % 3] for turn in range(3)]
        candidates = [np.where(in_chain, c, entry) for c in chain] + candidates
    chosen = catalogue.line_staple[product_line]  # bought again where nothing else is left
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
