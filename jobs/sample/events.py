"""Builds the sample shop's purchases table with its dirty rows, and what all event tables share.

Shared are the period's clock, the customers of a block, ids, dirty rows and duplicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.catalogue import SampleCatalogue, money
from jobs.sample.customers import SampleCustomers, SimulatedPurchases
from jobs.sample.personal import PersonalData
from jobs.sample.random import Bools, Dice, Floats, Ints, Keys, hashed, uniform

INSTANT = pa.timestamp("us", tz="UTC")
_DAYS_AHEAD = 400  # the most days by which a wrong clock is ahead of the last day
_CONTROL_CHARACTERS = ("\x00", "\x07", "\x0b", "\x1b[31m", "\r\n", "\t", "\u200b", "\ufeff", "\x85")

#: Shares of purchases that are dirty, one kind a row.
PURCHASE_DIRT = {
    "duplicate": 0.004,
    "unknown_item": 0.003,
    "null_user": 0.003,
    "future": 0.002,
    "negative_quantity": 0.002,
    "zero_quantity": 0.001,
}


@dataclass(frozen=True)
class Period:
    """The days of the sample in the shop's time zone."""

    first_day: date
    days: int
    timezone: str

    @property
    def last_day(self) -> date:
        """The last day of the sample."""
        return self.first_day + timedelta(days=self.days - 1)

    @cached_property
    def midnights(self) -> Ints:
        """Seconds since 1970 (days + 1,) at which the days begin; the last value is the end of the last day."""
        zone = ZoneInfo(self.timezone)
        dates = [self.first_day + timedelta(days=d) for d in range(self.days + 1)]
        return np.array([int(datetime.combine(d, time(), zone).timestamp()) for d in dates], np.int64)

    def seconds(self, day: Floats) -> Ints:
        """Convert days from the start (0 <= day < days) to seconds since 1970."""
        whole = np.minimum(day.astype(np.int64), self.days - 1)
        length = np.diff(self.midnights)[whole]  # 23 or 25 hours where the clocks change
        return self.midnights[whole] + np.floor((day - whole) * length).astype(np.int64)


@dataclass
class CustomerBlock:
    """A block of customers with what their tables share; `planted` and `personal` record the planted values."""

    catalogue: SampleCatalogue
    people: SampleCustomers
    period: Period
    planted: Counter[tuple[str, str]] = field(default_factory=Counter)
    personal: list[tuple[str, PersonalData]] = field(default_factory=list)

    @cached_property
    def user_ids(self) -> pa.Array:
        """The customers' ids (n,)."""
        return numbered("C", self.people.numbers)

    def users(self, customer: Ints, missing: Bools) -> pa.Array:
        """Return the user ids of rows of the block, null where `missing`."""
        return self.user_ids.take(pa.array(customer, mask=missing))

    def dirt(self, table: str, key: Keys, step: Ints, shares: Mapping[str, float]) -> dict[str, Bools]:
        """Draw a mask (rows,) for each kind of dirt and count it; no row has two kinds."""
        u = uniform(key, table + " dirt", step)
        masks, begin = {}, 0.0
        for kind, share in shares.items():
            masks[kind] = (u >= begin) & (u < begin + share)
            begin += share
            self.planted[table, kind] += int(masks[kind].sum())
        return masks

    def instants(self, day: Floats, future: Bools, key: Keys, step: Ints) -> pa.Array:
        """Return timestamps; those marked `future` lie beyond the last day."""
        ahead = 1 + (uniform(key, "ahead", step) * _DAYS_AHEAD * 86400).astype(np.int64)
        seconds = np.where(future, self.period.midnights[-1] + ahead, self.period.seconds(day))
        return pa.array(seconds * 1_000_000, pa.int64()).cast(INSTANT)

    def add_personal(self, table: str, personal: PersonalData) -> None:
        """Record personal data that was planted in a text of `table`."""
        self.planted[table, personal.kind] += 1
        self.personal.append((table, personal))


def numbered(prefix: str, numbers: Ints, width: int = 7) -> pa.Array:
    """Return ids such as C0000042."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def order_ids(customer_numbers: Ints, orders: Ints) -> pa.Array:
    """Return order ids such as A0000042-003."""
    return pc.binary_join_element_wise(numbered("A", customer_numbers), numbered("", orders, 3), "-")


def item_ids(catalogue: SampleCatalogue, item: Ints, unknown: Bools, key: Keys, step: Ints) -> pa.Array:
    """Return item ids; those marked `unknown` are of products that the catalogue no longer has."""
    known = catalogue.item_ids.take(pa.array(item))
    gone = numbered("OLD-", (hashed(key, "gone item", step) % np.uint64(100_000)).astype(np.int64), 5)
    return pc.if_else(pa.array(unknown), gone, known)


def finished(table: pa.Table, time_column: str, duplicate: Bools) -> pa.Table:
    """Return the table sorted by time, with the rows marked `duplicate` twice."""
    order = np.argsort(table[time_column].cast(pa.int64()).to_numpy(), kind="stable")
    return table.take(pa.array(np.repeat(order, 1 + duplicate[order])))


def with_control_characters(dice: Dice, text: str) -> str:
    """Insert one to three control or invisible characters into the text."""
    for _ in range(1 + dice.below(3)):
        at = dice.below(len(text) + 1)
        text = text[:at] + dice.pick(_CONTROL_CHARACTERS) + text[at:]
    return text


def purchases_table(block: CustomerBlock, bought: SimulatedPurchases) -> pa.Table:
    """Return the purchases table of the block, dirty rows included."""
    catalogue, people = block.catalogue, block.people
    key, step = people.key[bought.customer], bought.step
    dirt = block.dirt("purchases", key, step, PURCHASE_DIRT)
    several = (uniform(key, "several", step) < 0.25) & ~catalogue.durable[bought.item]
    quantity = 1 + several * (1 + np.floor(3 * uniform(key, "how many", step) ** 2)).astype(np.int64)
    quantity = np.where(dirt["negative_quantity"], -quantity, np.where(dirt["zero_quantity"], 0, quantity))
    off = np.searchsorted((0.75, 0.92), uniform(key, "reduced", step), side="right") * 10  # percent
    price = money(catalogue.pence[bought.item] * (100 - off) // 100, uniform(key, "no price", step) < 0.01)
    table = pa.table(
        {
            "user_id": block.users(bought.customer, dirt["null_user"]),
            "item_id": item_ids(catalogue, bought.item, dirt["unknown_item"], key, step),
            "purchased_at": block.instants(bought.day, dirt["future"], key, step),
            "quantity": pa.array(quantity, pa.int32()),
            "unit_price": price,
            "order_id": order_ids(people.numbers[bought.customer], bought.order),
        }
    )
    return finished(table, "purchased_at", dirt["duplicate"])
