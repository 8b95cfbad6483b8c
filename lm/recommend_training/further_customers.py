"""Customers of a large shop who are not in memory: Parquet files, of which a training reads one part after the other.

A training holds some customers in memory. It chooses the held-out purchases among them. GPT-2 may learn from further
ones, and what all others bought is counted too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from numpy.typing import NDArray

from lm.metrics.baselines import BASKET_ITEMS, Baskets
from lm.recommend.co_purchase import purchase_counts
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.prompt import Event
from lm.train.training_state import TrainingError

Ints = NDArray[np.int64]


class FurtherCounts(NamedTuple):
    """What further customers bought of N items."""

    baskets: Baskets  # the newest distinct items of each customer
    purchases: NDArray[np.float64]  # (2, N) as `lm.recommend.co_purchase.purchase_counts`


@dataclass(frozen=True)
class FurtherCustomers:
    """The customers beyond those in memory.

    The files of `histories` have `part` (1, 2, ...), `user_id`, `events`, `days` and `moments` of the customers whom
    GPT-2 learns from. Those of `purchases` have `items` and `days`, oldest first, of each customer beyond those in
    memory. Days are numbers from any epoch, the same as that of the customers in memory.
    """

    purchases: Path
    histories: Path | None  # None where GPT-2 learns from the customers in memory alone
    parts: int  # of the histories, that of the customers in memory included
    customers: int  # in `purchases`
    version: str  # changes with the rows of `purchases`
    last_day: int | None = None  # later events are not read

    def upto(self, last_day: int | None) -> FurtherCustomers:
        """The same customers without the events after a day."""
        return replace(self, last_day=last_day)

    def part(self, number: int) -> list[CustomerEvents]:
        """The customers of one part, sorted by id. Raises TrainingError where the files cannot be read."""
        rows = _open(self.histories).to_table(filter=pc.field("part") == number).sort_by("user_id")
        customers = customers_of(rows.to_batches(max_chunksize=4096))
        return list(customers) if self.last_day is None else [one.upto_day(self.last_day) for one in customers]

    def counts(self, codes: Mapping[str, int], newest: int = 0) -> FurtherCounts:
        """What the customers bought of N items with these codes; other items are left out.

        The age of a purchase is the number of days to `newest`, at least 0. Raises TrainingError where the files cannot
        be read.
        """
        ids = pa.array(list(codes), pa.large_string())
        code_of = np.append(np.fromiter(codes.values(), np.int64, len(codes)), -1)
        found, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        purchases = np.zeros((2, len(codes)))
        for batch in _open(self.purchases).to_batches(columns=["items", "days"]):
            items, days = batch.column("items"), batch.column("days")
            place = pc.index_in(items.flatten().cast(pa.large_string()), value_set=ids).fill_null(-1).to_numpy()
            code = code_of[place]
            customer = pc.list_parent_indices(items).to_numpy().astype(np.int64)
            day = days.flatten().to_numpy().astype(np.int64)
            kept = code >= 0
            if self.last_day is not None:
                kept &= day <= self.last_day
            code, customer, day = code[kept], customer[kept], day[kept]
            purchases += purchase_counts(code, np.maximum(newest - day, 0), len(codes))
            code, customer = _newest_distinct(code, customer, len(codes))
            found.append(code.astype(np.int32))
            lengths.append(np.bincount(customer, minlength=len(batch)))
        return FurtherCounts(Baskets(np.concatenate(found), np.cumsum([0, *np.concatenate(lengths)])), purchases)


def customers_of(batches: Sequence[pa.RecordBatch]) -> Iterator[CustomerEvents]:
    """Customers from rows with `events`, `days` and `moments`; equal events share one object, which saves memory."""
    interned: dict[Event, Event] = {}
    for batch in batches:
        for row in batch.select(["events", "days", "moments"]).to_pylist():
            made = [Event(*(event[name] for name in Event._fields)) for event in row["events"]]
            shared = [interned.setdefault(event, event) for event in made]
            yield CustomerEvents(shared, row["days"], row["moments"])


def part_of_epoch(further: FurtherCustomers | None, seed: int) -> Callable[[int], int]:
    """The part (0: the customers in memory) that each epoch reads; each pass over all parts has an order of its own."""
    parts = 1 if further is None else further.parts

    def part(epoch: int) -> int:
        if parts == 1:
            return 0
        return int(np.random.default_rng((seed, epoch // parts)).permutation(parts)[epoch % parts])

    return part


def _newest_distinct(code: Ints, customer: Ints, items: int) -> tuple[Ints, Ints]:
    """Each customer's newest distinct items, newest first; the purchases of a customer lie together, oldest first."""
    code, customer = code[::-1], customer[::-1]
    _, first = np.unique(customer * items + code, return_index=True)
    first.sort()
    code, customer = code[first][np.argsort(customer[first], kind="stable")], np.sort(customer[first])
    rank = np.arange(len(customer)) - np.searchsorted(customer, customer)
    return code[rank < BASKET_ITEMS], customer[rank < BASKET_ITEMS]


def _open(folder: Path | None) -> pyarrow.dataset.Dataset:
    try:
        return pyarrow.dataset.dataset(folder, format="parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(
            f"the customers' files in {folder} cannot be read ({type(error).__name__}): with "
            "train.recommend.processes above 1, put the store on a file system that all executors mount"
        ) from error
