"""Many customers' events at once, as numbers: equal events share one, and each is made an `Event` only once a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lm.text.template import Event

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class HistoryBatch(NamedTuple):
    """C customers with N events, of which U are different; each customer's lie together, the oldest first.

    Purchases of products that have a token of their own (`coded`) stand behind all other events.
    """

    code: Ints  # (N,) which of the different events each is
    offset: Ints  # (C + 1,) customer c's events are offset[c]:offset[c + 1]
    is_coded: Bools  # (U,)
    events: Callable[[Ints], list[Event]]  # the events of some codes

    @classmethod
    def of_lists(cls, histories: Sequence[Sequence[Event]], coded: Collection[str]) -> HistoryBatch:
        """From each customer's events."""
        codes: dict[Event, int] = {}
        code = [codes.setdefault(event, len(codes)) for event in itertools.chain.from_iterable(histories)]
        events = list(codes)
        offset = np.cumsum([0, *map(len, histories)])
        is_coded = np.array([event.kind == "bought" and event.item_id in coded for event in events], np.bool_)
        made = cls(np.array(code, np.int64), offset, is_coded, lambda some: [events[i] for i in some.tolist()])
        return made._coded_last()

    @classmethod
    def of_arrow(cls, histories: pa.ListArray, coded: Collection[str]) -> HistoryBatch:
        """From list<struct> with at least Event's fields."""
        flat = histories.flatten()
        columns = [flat.field(name) for name in Event._fields]
        key = np.zeros(len(flat), np.int64)
        for column in columns:
            part, parts = _codes(column)
            key, _ = _codes(pa.array(key * parts + part))  # below N * N at any time
        different = int(key.max(initial=-1)) + 1
        first = np.empty(different, np.int64)
        first[key[::-1]] = np.arange(len(key))[::-1]  # the last assignment counts

        def events(some: Ints) -> list[Event]:
            rows = pa.array(first[some])
            return list(map(Event, *(column.take(rows).to_pylist() for column in columns)))

        bought = [column.take(pa.array(first)) for column in columns[:2]]
        is_item = pc.is_in(bought[1], value_set=pa.array(list(coded), pa.string()))
        is_coded = pc.and_(pc.equal(bought[0], "bought"), is_item).to_numpy(zero_copy_only=False).astype(np.bool_)
        offset = histories.offsets.to_numpy().astype(np.int64)
        return cls(key, offset - offset[0], is_coded, events)._coded_last()

    def _coded_last(self) -> HistoryBatch:
        if not self.is_coded.any():
            return self
        return self._replace(code=self.code[np.lexsort((self.is_coded[self.code], self.customer()))])

    def customer(self) -> Ints:
        """Whose each event is: (N,)."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def newest(self, customers: Ints, skip: int, count: int) -> tuple[Ints, Ints]:
        """Of each of `customers` the `count` events before its newest `skip`: their codes, and whose each is."""
        stop = self.offset[customers + 1] - skip
        number = stop - np.maximum(stop - count, self.offset[customers])
        owner = np.repeat(np.arange(len(customers)), number)
        event = np.arange(len(owner)) - (np.cumsum(number) - stop)[owner]
        return self.code[event], owner

    def fitting(self, tokens: Ints, room: int) -> tuple[Bools, Ints]:
        """Which events (N,) belong to the newest of their customer that have `room` together, and their tokens (C,).

        `tokens` (U,) is negative where it is not known because nothing so old can fit.
        """
        cost = tokens[self.code]
        cost = np.where(cost < 0, room + 1, cost)
        until = np.concatenate([[0], np.cumsum(cost)])
        customer = self.customer()
        kept = until[self.offset[customer + 1]] - until[:-1] <= room
        used = np.zeros(len(self.offset) - 1, np.int64)
        np.add.at(used, customer[kept], cost[kept])
        return kept, used

    def newest_that_do_not_fit(self, kept: Bools) -> Iterator[tuple[int, int]]:
        """Each customer none of whose events fit, those with tokens of their own apart: (newest event, customer)."""
        others = ~self.is_coded[self.code]
        customer = self.customer()
        customers = len(self.offset) - 1
        number = np.bincount(customer[others], minlength=customers)
        none = (np.bincount(customer[others & kept], minlength=customers) == 0) & (number > 0)
        for one in np.flatnonzero(none).tolist():
            yield int(self.offset[one] + number[one] - 1), one


def _codes(column: pa.Array) -> tuple[Ints, int]:
    """A number for each different value, null among them, and how many there are."""
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(len(encoded.dictionary), 1)
