"""Views, carts and wishes are checked and counted like purchases, and reach histories; items have path and brand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.settings import Config
from jobs.inputs.reader import Inputs, read_inputs
from jobs.inputs.row_accounting import RowAccount
from jobs.tables.histories import histories
from jobs.training.training_data import collect_customers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RUN_DATE = date(2026, 6, 30)


def at(minute: int) -> datetime:
    return datetime(2026, 6, 1, 12, tzinfo=UTC) + timedelta(minutes=minute)


TABLES: dict[str, list[dict[str, Any]]] = {
    "items": [
        {"item_id": "i1", "title": "Pan", "category": ["Home", " Kitchen ", "Pans"], "brand": " Ada\x1b "},
        {"item_id": "i2", "title": "Tea", "category": [], "brand": None},
    ],
    "purchases": [
        {"user_id": "a", "item_id": "i1", "purchased_at": at(3)},
        {"user_id": "a", "item_id": "i2", "purchased_at": at(9)},
    ],
    "events": [
        {"user_id": "a", "item_id": "i1", "kind": "view", "happened_at": at(1)},
        {"user_id": "a", "item_id": "i1", "kind": "view", "happened_at": at(1)},
        {"user_id": "a", "item_id": "i1", "kind": "cart", "happened_at": at(2)},
        {"user_id": "a", "item_id": "i2", "kind": "wish", "happened_at": at(4)},
        {"user_id": "a", "item_id": "i2", "kind": "sold", "happened_at": at(5)},
        {"user_id": "a", "item_id": "i9", "kind": "view", "happened_at": at(5)},
        {"user_id": "a", "item_id": "i2", "kind": "view", "happened_at": at(99_999)},
        {"user_id": "gone", "item_id": "i2", "kind": "view", "happened_at": at(5)},
        {"user_id": "only looks", "item_id": "i2", "kind": "view", "happened_at": at(7)},
    ],
    "optouts": [{"user_id": "gone"}],
}


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("shop")
    for table, rows in TABLES.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
    inputs = {table: {"path": str(folder / f"{table}.parquet")} for table in TABLES}
    config = Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": inputs})
    return read_inputs(spark, config, RUN_DATE, str(folder / "work"))


def test_each_row_has_one_outcome(shop: Inputs) -> None:
    assert shop.accounts["events"] == RowAccount(9, used=4, quarantined=2, opted_out=1, duplicates=1, outside_window=1)
    rejected = {rule: n for (table, rule), n in shop.rejected_by_rule.items() if table == "events"}
    assert rejected == {"kind_known": 1, "unknown_item": 1}


def test_a_category_may_be_an_array_and_a_brand_is_kept(shop: Inputs) -> None:
    rows = {row.item_id: (row.category, row.brand) for row in shop.used["items"].collect()}
    assert rows == {"i1": ("Home > Kitchen > Pans", "Ada"), "i2": (None, None)}


def test_browsing_never_displaces_other_events_of_a_history(shop: Inputs) -> None:
    def kinds(used: dict[str, Any], events: int) -> dict[str, list[tuple[str, str, str]]]:
        rows = histories(used, events).collect()
        return {row.user_id: [(e.kind, e.item_id, e.title) for e in row.events] for row in rows}

    assert kinds(shop.used, 2) == {
        "a": [
            ("in cart", "i1", "Pan"),
            ("bought", "i1", "Pan"),
            ("wished", "i2", "Tea"),
            ("bought", "i2", "Tea"),
        ],
        "only looks": [("viewed", "i2", "Tea")],
    }
    without = {name: rows for name, rows in shop.used.items() if name != "events"}
    assert kinds(without, 2) == {"a": [("bought", "i1", "Pan"), ("bought", "i2", "Tea")]}
    counted = histories(shop.used, 2).where("user_id = 'a'").head()
    assert counted is not None
    assert (counted.events_total, counted.purchased) == (5, ["i1", "i2"])


def test_a_training_reads_and_counts_browsing(shop: Inputs) -> None:
    found = collect_customers(shop.used)
    assert [[event.kind for event in one.events] for one in found.customers] == [
        ["viewed", "in cart", "bought", "wished", "bought"]
    ]
    assert found.window["browsed_events"] == 3
