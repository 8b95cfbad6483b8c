"""Many customers' events as integer codes: equal events share a code and become one `Event` object a batch."""

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
    """C customers with N events, U of them distinct, stored customer by customer, oldest first.

    Purchases of products with an item token (`coded`) come after all other events of their customer.
    """

    code: Ints  # (N,) code of each event
    offset: Ints  # (C + 1,) customer c's events are offset[c]:offset[c + 1]
    is_coded: Bools  # (U,)
    events: Callable[[Ints], list[Event]]  # codes -> their events

    @classmethod
    def of_lists(cls, histories: Sequence[Sequence[Event]], coded: Collection[str]) -> HistoryBatch:
        """From a list of events a customer; `coded` are the products with an item token."""
        codes: dict[Event, int] = {}
        code = [codes.setdefault(event, len(codes)) for event in itertools.chain.from_iterable(histories)]
        events = list(codes)
        offset = np.cumsum([0, *map(len, histories)])
        is_coded = np.array([event.kind == "bought" and event.item_id in coded for event in events], np.bool_)
        made = cls(np.array(code, np.int64), offset, is_coded, lambda some: [events[i] for i in some.tolist()])
        return made._coded_last()

    @classmethod
    def of_arrow(cls, histories: pa.ListArray, coded: Collection[str]) -> HistoryBatch:
        """From list<struct> with at least Event's fields; `coded` are the products with an item token."""
        flat = histories.flatten()
        columns = [flat.field(name) for name in Event._fields]
        key = np.zeros(len(flat), np.int64)
        for column in columns:
            column_code, count = _codes(column)
            key, _ = _codes(pa.array(key * count + column_code))  # never above N * N
        distinct = int(key.max(initial=-1)) + 1
        first = np.empty(distinct, np.int64)
        first[key[::-1]] = np.arange(len(key))[::-1]  # the last assignment wins

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
        """The customer of each event: (N,)."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def newest(self, customers: Ints, skip: int, count: int) -> tuple[Ints, Ints]:
        """The `count` events before the newest `skip` of each of `customers`.

        Returns the events' codes, and for each event the index into `customers`.
        """
        stop = self.offset[customers + 1] - skip
        number = stop - np.maximum(stop - count, self.offset[customers])
        owner = np.repeat(np.arange(len(customers)), number)
        event = np.arange(len(owner)) - (np.cumsum(number) - stop)[owner]
        return self.code[event], owner

    def newest_within(self, tokens: Ints, room: int) -> tuple[Bools, Ints]:
        """Mark each customer's newest events that fit together into `room` tokens.

        `tokens` (U,) is each event's length, negative for events too old to fit. Returns the marks (N,) and the tokens
        used by each customer (C,).
        """
        cost = tokens[self.code]
        cost = np.where(cost < 0, room + 1, cost)
        until = np.concatenate([[0], np.cumsum(cost)])
        customer = self.customer()
        kept = until[self.offset[customer + 1]] - until[:-1] <= room
        used = np.zeros(len(self.offset) - 1, np.int64)
        np.add.at(used, customer[kept], cost[kept])
        return kept, used

    def newest_too_long(self, kept: Bools) -> Iterator[tuple[int, int]]:
        """Yield (index of the newest text event, customer) for customers none of whose text events were kept.

        Text events are those without an item token; `kept` (N,) marks the kept events.
        """
        is_text = ~self.is_coded[self.code]
        customer = self.customer()
        customers = len(self.offset) - 1
        number = np.bincount(customer[is_text], minlength=customers)
        none = (np.bincount(customer[is_text & kept], minlength=customers) == 0) & (number > 0)
        for one in np.flatnonzero(none).tolist():
            yield int(self.offset[one] + number[one] - 1), one


def _codes(column: pa.Array) -> tuple[Ints, int]:
    """A code for each distinct value, null included, and the number of codes (at least 1)."""
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(len(encoded.dictionary), 1)
