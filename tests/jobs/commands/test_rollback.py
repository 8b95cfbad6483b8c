"""A rolled-back date is its version before, in every table, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.commands.rollback import rollback
from jobs.config.config import Config
from jobs.spark import fault_points
from jobs.spark.errors import InputError, UsageError
from jobs.spark.privacy_key import keyed_hash
from jobs.store import date_swap
from jobs.store.date_swap import Intent
from jobs.store.publish import recover
from jobs.store.store import Store
from tests.jobs.spark.test_files import NO_SPARK
from tests.jobs.store.test_date_swap import Killed, fill

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY, OTHER = date(2026, 3, 1), date(2026, 3, 2)
QUIET = Console(quiet=True)
KEY = "the key of all tests"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def config(store: Store, keep: int = 5) -> Config:
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    return Config.model_validate(raw | {"publish": {"keep_publishes": keep}})


def publish(store: Store, run_id: str, day: date, tables: str, keep: int = 5) -> None:
    """A publish of one-letter tables, each holding the run's name, as the next run after it begins."""
    recover(NO_SPARK, store, keep)
    for table in tables:
        fill(Path(store.staging(run_id)) / table, [run_id])
    swaps = [
        date_swap.prepare_swap(NO_SPARK, store, f"{store.staging(run_id)}/{table}", store.date_folder(table, day))
        for table in tables
    ]
    date_swap.commit(NO_SPARK, store, Intent(run_id, swaps, number=date_swap.next_publish(NO_SPARK, store)))


def versions(store: Store, day: date = DAY) -> dict[str, str]:
    """Per table the run that its date is of."""
    parts = Path(store.tables).glob(f"*/run_date={day}/*")
    return {part.parts[-3]: part.read_text() for part in sorted(parts)}


def test_the_version_before_comes_back_and_goes_again(store: Store) -> None:
    publish(store, "one", DAY, "ab")
    publish(store, "two", DAY, "ab")
    publish(store, "three", OTHER, "ab")
    assert rollback(NO_SPARK, config(store), DAY, QUIET) == ["a", "b"]
    assert versions(store) == {"a": "one", "b": "one"}
    assert versions(store, OTHER) == {"a": "three", "b": "three"}
    publish(store, "four", OTHER, "ab")  # what was taken away outlives the nights after it
    rollback(NO_SPARK, config(store), DAY, QUIET)
    assert versions(store) == {"a": "two", "b": "two"}
    rollback(NO_SPARK, config(store), OTHER, QUIET)
    assert versions(store, OTHER) == {"a": "three", "b": "three"}
    assert not list(Path(store.root).glob("staging/*"))


def test_customers_who_opted_out_since_do_not_come_back(
    spark: SparkSession, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGULARS_KEY", KEY)

    def publish_lists(run_id: str, users: list[str]) -> None:
        recover(NO_SPARK, store, 5)
        rows = pa.table({"user_id": users, "rank": [1] * len(users), "price": pa.array(["1.50"] * len(users))})
        rows = rows.set_column(2, "price", rows["price"].cast(pa.decimal128(12, 2)))
        hashes = [keyed_hash(KEY.encode(), user) for user in users]
        tables = {
            "lists": rows,
            "metrics": rows.drop_columns(["user_id"]),
            "quarantine": pa.table({"table": ["reviews"] * len(users), "user_hash": hashes}),
        }
        for table, of_table in tables.items():
            folder = Path(store.staging(run_id)) / table
            folder.mkdir(parents=True)
            pq.write_table(of_table, folder / "part-00000.parquet")
        swaps = [
            date_swap.prepare_swap(NO_SPARK, store, f"{store.staging(run_id)}/{table}", store.date_folder(table, DAY))
            for table in tables
        ]
        date_swap.commit(NO_SPARK, store, Intent(run_id, swaps, number=date_swap.next_publish(NO_SPARK, store)))

    def published(table: str) -> pa.Table:
        return pq.read_table(Path(store.date_folder(table, DAY)) / "part-00000.parquet", partitioning=None)

    publish_lists("one", ["ann", "bob", "cleo"])
    publish_lists("two", ["ann", "cleo", "dora"])
    (tmp_path / "optouts.csv").write_text("user_id\n bob\nnobody\n", encoding="utf-8")
    optouts = {"path": str(tmp_path / "optouts.csv"), "format": "csv"}
    raw = config(store).model_dump(exclude_unset=True) | {"timezone": "Europe/London"}
    settings = Config.model_validate(raw | {"inputs": raw["inputs"] | {"optouts": optouts}})
    rollback(spark, settings, DAY, QUIET)
    assert published("lists")["user_id"].to_pylist() == ["ann", "cleo"]
    assert published("lists").schema.field("price").type == pa.decimal128(12, 2)
    assert len(published("metrics")) == 3
    kept = [keyed_hash(KEY.encode(), user) for user in ("ann", "cleo")]
    assert published("quarantine")["user_hash"].to_pylist() == kept
    assert spark.read.parquet(store.date_folder("lists", DAY)).selectExpr("sum(price)").first()[0] == Decimal("3.00")
    rollback(spark, settings, DAY, QUIET)
    assert published("lists")["user_id"].to_pylist() == ["ann", "cleo", "dora"]
    (tmp_path / "optouts.csv").write_text("user_id\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"inputs\.optouts: .* has no rows"):
        rollback(spark, settings, DAY, QUIET)
    assert published("lists")["user_id"].to_pylist() == ["ann", "cleo", "dora"]


def test_a_table_that_the_last_publish_added_goes_with_it(store: Store) -> None:
    publish(store, "one", DAY, "abz")
    publish(store, "two", DAY, "abc")
    rollback(NO_SPARK, config(store), DAY, QUIET)
    assert versions(store) == {"a": "one", "b": "one", "z": "one"}  # z was never replaced
    rollback(NO_SPARK, config(store), DAY, QUIET)
    assert versions(store) == {"a": "two", "b": "two", "c": "two", "z": "one"}


def test_without_an_earlier_version_nothing_changes(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"is not published in .* no earlier version of 2026-03-01 is kept.*--config regulars.yaml"
    ):
        rollback(NO_SPARK, config(store), DAY, QUIET)
    publish(store, "one", DAY, "ab")
    with pytest.raises(UsageError, match=r"published only once.* nightly --config regulars.yaml --run-date 2026-03-01"):
        rollback(NO_SPARK, config(store), DAY, QUIET)
    assert versions(store) == {"a": "one", "b": "one"}


def test_versions_are_kept_for_so_many_publishes(store: Store) -> None:
    for run in ("one", "two"):
        publish(store, run, DAY, "a", keep=2)
    publish(store, "three", OTHER, "a", keep=2)
    recover(NO_SPARK, store, 2)
    assert sorted(p.name for p in Path(store.root, "trash").iterdir()) == ["three", "two"]
    publish(store, "four", OTHER, "a", keep=2)
    with pytest.raises(UsageError, match=r"publish.keep_publishes \(2\) publishes ago"):
        rollback(NO_SPARK, config(store, keep=2), DAY, QUIET)
    assert sorted(p.name for p in Path(store.root, "trash").iterdir()) == ["four", "three"]
    recover(NO_SPARK, store, 0)
    assert list(Path(store.root, "trash").iterdir()) == []


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize(
    "point",
    ["intent-opened", "swap-exchanged", "swap-moved-out", "swap-done:1", "swap-done:2", "retired", "intent-closed"],
)
def test_a_killed_rollback_is_finished(
    store: Store, point: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(date_swap, "exchange_folders", lambda one, other: False)
    if point == ("swap-moved-out" if exchange else "swap-exchanged"):
        pytest.skip("this way of swapping does not pass there")
    publish(store, "one", DAY, "ab")
    publish(store, "two", DAY, "abc")

    def die() -> None:
        raise Killed

    monkeypatch.setattr(fault_points, "_kill", die)
    monkeypatch.setattr(fault_points, "_passages", Counter())
    monkeypatch.setenv(fault_points.VARIABLE, point)
    with pytest.raises(Killed):
        rollback(NO_SPARK, config(store), DAY, QUIET)
    monkeypatch.delenv(fault_points.VARIABLE)
    recover(NO_SPARK, store, 5)
    assert versions(store) == {"a": "one", "b": "one"}
    rollback(NO_SPARK, config(store), DAY, QUIET)
    assert versions(store) == {"a": "two", "b": "two", "c": "two"}
