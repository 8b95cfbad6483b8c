"""Returns are netted against the purchases that they return; what matches none goes to quarantine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.inputs.returns import Movement, net_movements
from jobs.inputs.row_accounting import RowAccount
from jobs.tables.histories import histories
from jobs.tables.loyalty import measure_customers
from tests.jobs.inputs.test_reader import ITEMS, RUN_DATE, config_of, read, read_inputs, values

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.parametrize(
    ("movements", "left", "unmatched"),
    [
        ([(1, 3, None), (2, -3, None)], [0, 0], set()),
        ([(1, 3, None), (2, -1, None)], [2, 0], set()),
        ([(1, 3, None), (2, -4, None)], [3, -4], {1}),  # not covered: it changes nothing
        ([(2, 3, None), (1, -3, None)], [3, -3], {1}),  # before the purchase
        ([(1, -2, None), (1, 2, None)], [0, 0], set()),  # at the same time
        ([(1, 2, "a"), (2, 2, "b"), (3, -2, None)], [2, 0, 0], set()),  # the newest
        ([(1, 2, "a"), (2, 2, "b"), (3, -2, "a")], [0, 2, 0], set()),  # its own order
        ([(1, 2, "a"), (2, 2, "b"), (3, -3, "a")], [0, 1, 0], set()),  # its own order, then the newest
        ([(1, 2, "a"), (2, 2, "b"), (3, -3, "c")], [1, 0, 0], set()),  # an order of its own
        ([(1, 1, None), (2, -1, None), (3, 1, None), (4, -1, None)], [0, 0, 0, 0], set()),
        ([(1, 1, None), (2, -1, None), (3, -1, None)], [0, 0, -1], {2}),
        ([(1, 2, None), (2, -5, None), (3, -2, None)], [0, -5, 0], {1}),
    ],
)
def test_returns_reduce_earlier_purchases(movements: list[Any], left: list[int], unmatched: set[int]) -> None:
    assert net_movements([Movement(*movement) for movement in movements]) == (left, unmatched)


MOVEMENTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-3, 3).filter(bool), st.sampled_from([None, "a", "b"])),
    max_size=12,
    unique_by=lambda row: (row[0], row[2], row[1] < 0),
)


@given(MOVEMENTS, st.randoms())
def test_pieces_are_neither_lost_nor_returned_twice(rows: list[tuple[int, int, str | None]], dice: Any) -> None:
    movements = [Movement(*row) for row in rows]
    left, unmatched = net_movements(movements)
    matched = [m for n, m in enumerate(movements) if m.quantity < 0 and n not in unmatched]
    assert sum(n for n in left if n > 0) == sum(m.quantity for m in movements if m.quantity > 0) + sum(
        m.quantity for m in matched
    )
    for movement, remaining in zip(movements, left, strict=True):
        assert movement.quantity < 0 or 0 <= remaining <= movement.quantity
    order = list(range(len(rows)))
    dice.shuffle(order)
    again, unmatched_again = net_movements([movements[n] for n in order])
    assert [again[order.index(n)] for n in range(len(rows))] == left
    assert {order[n] for n in unmatched_again} == unmatched


def bought(order: str, day: str, quantity: int, **more: Any) -> dict[str, Any]:
    return {
        "order_id": order,
        "purchased_at": f"2026-06-{day} 10:00:00",
        "quantity": quantity,
        "unit_price": "2",
        **more,
    }


def shop_of_returns() -> Iterable[dict[str, Any]]:
    return [
        bought("kept", "01", 5),
        bought("C-kept", "02", -2),
        bought("gone", "03", 1, item_id="i2"),
        bought("C-gone", "04", -1, item_id="i2"),
        bought("C-gone", "04", -1, item_id="i2"),  # the same return twice is a duplicate
        bought("C-none", "05", -1, user_id="u2"),
        bought("same", "06", 1, user_id="u3"),
        bought("same", "06", -1, user_id="u3"),  # the same order at the same time
        bought("old", "07", 1, user_id="u4", purchased_at="1066-10-14 09:00:00"),  # no nanosecond holds this time
        bought("later", "08", 1, user_id="u5"),
        bought("C-later", "09", -1, user_id="u5", purchased_at="2026-07-01 10:00:00"),
        bought("C-old", "07", -1, user_id="u6"),
        bought("C-unknown", "08", -1, item_id="i9"),
    ]


def test_a_night_counts_what_customers_kept(spark: SparkSession, tmp_path: Path) -> None:
    found = read(spark, tmp_path, {"purchases": shop_of_returns(), "items": ITEMS})
    assert values(found.used["purchases"], "user_id", "item_id", "quantity", "order_id") == [
        ("u1", "i1", 3, "kept"),
        ("u4", "i1", 1, "old"),
        ("u5", "i1", 1, "later"),
    ]
    assert found.accounts["purchases"] == RowAccount(
        13, used=3, quarantined=3, duplicates=1, outside_window=1, returned=5
    )
    assert found.rejected_by_rule == {("purchases", "return_unmatched"): 2, ("purchases", "unknown_item"): 1}
    rejected = found.quarantine.where("rule = 'return_unmatched'").collect()
    assert {row.source_file for row in rejected} == {"part-0.json"}
    assert len({row.key_hash for row in rejected}) == 2
    assert {row.detail for row in rejected} == {
        "quantity is negative, and earlier purchases of the customer do not cover it"
    }
    bought_items = {row.user_id: row.purchased for row in histories(found.used, 10).collect()}
    assert bought_items == {"u1": ["i1"], "u4": ["i1"], "u5": ["i1"]}
    value = {
        row.user_id: row.monetary_value for row in measure_customers(found.used["purchases"], None, RUN_DATE).collect()
    }
    assert value["u1"] == 6


def test_a_purchase_counts_until_the_day_of_its_return(spark: SparkSession, tmp_path: Path) -> None:
    config = config_of(tmp_path, {"purchases": shop_of_returns(), "items": ITEMS})
    before = read_inputs(spark, config, date(2026, 6, 3), str(tmp_path / "before"))
    assert ("u1", "gone") in values(before.used["purchases"], "user_id", "order_id")
    after = read_inputs(spark, config, date(2026, 6, 4), str(tmp_path / "after"))
    assert ("u1", "gone") not in values(after.used["purchases"], "user_id", "order_id")


def test_a_product_that_was_returned_stays_in_a_derived_catalogue(spark: SparkSession, tmp_path: Path) -> None:
    mapping = {name: name for name in ("user_id", "item_id", "purchased_at", "quantity")} | {"title": "name"}
    rows = [bought("a", "01", 1, name="Tea"), bought("b", "01", 1, item_id="i2", name="Cup")]
    rows += [bought("c", "02", -1, item_id="i2", name="Cup")]
    found = read(spark, tmp_path, {"purchases": rows}, purchases={"columns": mapping})
    assert values(found.used["purchases"], "item_id") == [("i1",)]
    assert values(found.used["items"], "item_id", "title") == [("i1", "Tea"), ("i2", "Cup")]
