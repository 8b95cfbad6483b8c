"""Many customers' events as integer codes: equal events share a code and become one `Event` object a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lm.text.template import BROWSING, Event

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class _Kinds(NamedTuple):
    """What the order of U distinct events depends on."""

    is_bought: Bools  # (U,)
    is_coded: Bools  # (U,)
    strength: Ints  # (U,) place in BROWSING, -1 for other kinds
    item: Ints  # (U,) code of the product


class HistoryBatch(NamedTuple):
    """C customers with N events, U of them distinct, stored customer by customer, oldest first.

    Browsing events come after all others of their customer, apart from purchases of products with an item token
    (`coded`), which come last. Of browsing, each product not bought since has one event: the strongest, then newest.
    """

    code: Ints  # (N,) code of each event
    offset: Ints  # (C + 1,) customer c's events are offset[c]:offset[c + 1]
    is_coded: Bools  # (U,)
    is_browsing: Bools  # (U,)
    events: Callable[[Ints], list[Event]]  # codes -> their events
    source: Ints  # (N,) place of each event in the histories that the batch was made of

    @classmethod
    def of_lists(cls, histories: Sequence[Sequence[Event]], coded: Container[str]) -> HistoryBatch:
        """From a list of events a customer; `coded` are the products with an item token."""
        codes: dict[Event, int] = {}
        code = [codes.setdefault(event, len(codes)) for event in itertools.chain.from_iterable(histories)]
        events = list(codes)
        offset = np.cumsum([0, *map(len, histories)])
        items: dict[str | None, int] = {}
        kinds = _Kinds(
            np.array([event.kind == "bought" for event in events], np.bool_),
            np.array([event.kind == "bought" and event.item_id in coded for event in events], np.bool_),
            np.array([BROWSING.index(e.kind) if e.kind in BROWSING else -1 for e in events], np.int64),
            np.array([items.setdefault(event.item_id, len(items)) for event in events], np.int64),
        )
        return cls._arranged(np.array(code, np.int64), offset, kinds, lambda some: [events[i] for i in some.tolist()])

    @classmethod
    def of_arrow(cls, histories: pa.ListArray, coded: Container[str]) -> HistoryBatch:
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

        kind, item = (column.take(pa.array(first)) for column in columns[:2])
        is_bought = _mask(pc.equal(kind, "bought"))
        kinds = _Kinds(
            is_bought,
            is_bought & _is_among(item, coded),
            pc.index_in(kind, value_set=pa.array(BROWSING)).fill_null(-1).to_numpy().astype(np.int64),
            _codes(item)[0],
        )
        offset = histories.offsets.to_numpy().astype(np.int64)
        return cls._arranged(key, offset - offset[0], kinds, events)

    @classmethod
    def _arranged(cls, code: Ints, offset: Ints, kinds: _Kinds, events: Callable[[Ints], list[Event]]) -> HistoryBatch:
        """Put the events (N,) of each customer, which are oldest first, into the batch's order."""
        batch = cls(code, offset, kinds.is_coded, kinds.strength >= 0, events, np.arange(len(code)))
        if batch.is_browsing.any():
            batch = batch._without_repeated_browsing(kinds)
        if batch.is_coded.any() or batch.is_browsing.any():
            rank = 2 * batch.is_coded + batch.is_browsing
            order = np.lexsort((rank[batch.code], batch.customer()))
            batch = batch._replace(code=batch.code[order], source=batch.source[order])
        return batch

    def _without_repeated_browsing(self, kinds: _Kinds) -> HistoryBatch:
        """Keep one browsing event for each product that its customer has not bought since."""
        customer, place = self.customer(), np.arange(len(self.code))
        browsed, bought = self.is_browsing[self.code], kinds.is_bought[self.code]
        pairs, pair = np.unique(customer * (kinds.item.max(initial=0) + 1) + kinds.item[self.code], return_inverse=True)
        last_bought = np.full(len(pairs), -1)
        np.maximum.at(last_bought, pair[bought], place[bought])
        is_open = browsed & (place > last_bought[pair])
        score = kinds.strength[self.code] * len(place) + place
        best = np.full(len(pairs), -1)
        np.maximum.at(best, pair[is_open], score[is_open])
        kept = ~browsed | (is_open & (score == best[pair]))
        return self._with(kept)

    def without_browsing(self) -> HistoryBatch:
        """The batch without its browsing events."""
        return self._with(~self.is_browsing[self.code]) if self.is_browsing.any() else self

    def _with(self, kept: Bools) -> HistoryBatch:
        numbers = np.bincount(self.customer()[kept], minlength=len(self.offset) - 1)
        offset = np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
        return self._replace(code=self.code[kept], source=self.source[kept], offset=offset)

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

    def newest_within(self, tokens: Ints, room: Ints, *, browsing: bool) -> tuple[Bools, Ints]:
        """Mark each customer's newest events that fit together into `room` (C,) tokens: browsing, or all others.

        `tokens` (U,) is each event's length, negative for events too old to fit. Returns the marks (N,) and the tokens
        used by each customer (C,).
        """
        customer, chosen = self.customer(), self.is_browsing[self.code] == browsing
        cost = tokens[self.code]
        cost = np.where(chosen, np.where(cost < 0, room.max(initial=0) + 1, cost), 0)
        until = np.concatenate([[0], np.cumsum(cost)])
        kept = chosen & (until[self.offset[customer + 1]] - until[:-1] <= room[customer])
        used = np.zeros(len(self.offset) - 1, np.int64)
        np.add.at(used, customer[kept], cost[kept])
        return kept, used

    def newest_too_long(self, kept: Bools) -> Iterator[tuple[int, int]]:
        """Yield (index of the newest text event, customer) for customers none of whose text events were kept.

        Text events are those without an item token and no browsing; `kept` (N,) marks the kept events.
        """
        is_text = ~(self.is_coded | self.is_browsing)[self.code]
        customer = self.customer()
        customers = len(self.offset) - 1
        number = np.bincount(customer[is_text], minlength=customers)
        none = (np.bincount(customer[is_text & kept], minlength=customers) == 0) & (number > 0)
        for one in np.flatnonzero(none).tolist():
            yield int(self.offset[one] + number[one] - 1), one


def _mask(values: pa.Array) -> Bools:
    mask: Bools = values.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _is_among(items: pa.Array, known: Container[str]) -> Bools:
    encoded: Any = pc.dictionary_encode(items, null_encoding="encode")
    names = encoded.dictionary.to_pylist()
    flags = np.fromiter((name is not None and name in known for name in names), np.bool_, len(names))
    mask: Bools = flags[encoded.indices.to_numpy()]
    return mask


def _codes(column: pa.Array) -> tuple[Ints, int]:
    """A code for each distinct value, null included, and the number of codes (at least 1)."""
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(len(encoded.dictionary), 1)
