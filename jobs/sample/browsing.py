"""Draws the sample shop's views, carts and wishes: some precede a purchase, most lead to none.

Half of the purchases that are no replenishment follow a view of the product, mostly minutes before and sometimes days.
Between purchases customers look at products of their favourite product lines and at popular ones.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jobs.sample.customers import SimulatedPurchases
from jobs.sample.events import CustomerBlock, finished, item_ids
from jobs.sample.random import Bools, Floats, Ints, normal, uniform
from jobs.sample.searches import browsed_items

_P_VIEWED = 0.55
_P_EARLY = 0.35  # of the viewed: on an earlier day
_LEAD = (np.log(25 / 1440), 1.2)  # lognormal in days: half of the purchases follow within 25 minutes
_EARLY_LEAD = (np.log(1.5), 0.8)
_P_CART = 0.45  # of the viewed
_IDLE_VIEWS = 6  # draws between two purchases, and as many after the last
_P_IDLE = 0.5
_P_IDLE_CART, _P_IDLE_WISH = 0.06, 0.04
_STEPS = 16  # numbers of draws for one purchase

#: Shares of events that are dirty, one kind a row.
EVENT_DIRT = {"duplicate": 0.004, "unknown_item": 0.003, "null_user": 0.003, "future": 0.002}


def events_table(block: CustomerBlock, bought: SimulatedPurchases) -> pa.Table:
    """Return the events table of the block, dirty rows included."""
    parts = [*_before_purchases(block, bought), *_idle(block, bought)]
    customer, step, day, item, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Two looks at one product in the same second would be a duplicate that nobody planted.
    identity = np.stack([customer, item, kind, block.period.seconds(day)], axis=1)
    kept = np.sort(np.unique(identity, axis=0, return_index=True)[1])
    customer, step, day, item, kind = (column[kept] for column in (customer, step, day, item, kind))
    key = block.people.key[customer]
    dirt = block.dirt("events", key, step, EVENT_DIRT)
    table = pa.table(
        {
            "user_id": block.users(customer, dirt["null_user"]),
            "item_id": item_ids(block.catalogue, item, dirt["unknown_item"], key, step),
            "kind": pa.array(np.array(["view", "cart", "wish"])[kind]),
            "happened_at": block.instants(day, dirt["future"], key, step),
        }
    )
    return finished(table, "happened_at", dirt["duplicate"])


_Part = tuple[Ints, Ints, Floats, Ints, Ints]  # customer, step, day, item, kind


def _before_purchases(block: CustomerBlock, bought: SimulatedPurchases) -> list[_Part]:
    """Return views and carts of products that are then bought, within the time since the purchase before."""
    key = block.people.key[bought.customer]
    gap = bought.day - bought.previous_day
    viewed = (gap > 0) & (uniform(key, "viewed", bought.step) < _P_VIEWED)
    early = uniform(key, "early view", bought.step) < _P_EARLY
    mean, spread = (np.where(early, far, near) for far, near in zip(_EARLY_LEAD, _LEAD, strict=True))
    lead = np.minimum(np.exp(mean + spread * normal(key, "view lead", bought.step)), 0.9 * gap)
    carted = viewed & (uniform(key, "carted", bought.step) < _P_CART)

    def part(chosen: Bools, offset: int, share: float) -> _Part:
        rows = np.flatnonzero(chosen)
        step = _STEPS * bought.step[rows] + offset
        kind = np.full(len(rows), int(offset == 1))
        return bought.customer[rows], step, (bought.day - share * lead)[rows], bought.item[rows], kind

    return [part(viewed, 0, 1.0), part(carted, 1, 0.8)]


def _idle(block: CustomerBlock, bought: SimulatedPurchases) -> list[_Part]:
    """Return looks at products that the customer then does not buy, between purchases and after the last one."""
    people = block.people
    last_day = people.joined.copy()
    last_day[bought.customer] = bought.day  # rows are sorted by time, so the last one wins
    customer = np.concatenate([bought.customer, np.arange(len(people.key))])
    number = np.concatenate([bought.step, people.purchases])
    start = np.concatenate([bought.previous_day, last_day])
    end = np.concatenate([bought.day, np.maximum(last_day, people.left)])
    parts = []
    for draw in range(_IDLE_VIEWS):
        step = _STEPS * number + 2 + draw
        key = people.key[customer]
        rows = np.flatnonzero((end > start) & (uniform(key, "looked", step) < _P_IDLE))
        key, step = key[rows], step[rows]
        day = start[rows] + (end - start)[rows] * uniform(key, "looked at", step)
        u = uniform(key, "looked how", step)
        kind = np.where(u < _P_IDLE_CART, 1, np.where(u < _P_IDLE_CART + _P_IDLE_WISH, 2, 0))
        parts.append((customer[rows], step, day, browsed_items(block, customer[rows], step, "browsed"), kind))
    return parts
