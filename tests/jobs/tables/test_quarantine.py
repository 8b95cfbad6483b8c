"""`quarantine` of a date holds what no earlier date rejected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.spark import parquet
from jobs.spark.privacy_key import keyed_hash
from jobs.store.store import Store
from jobs.tables.quarantine import hashed, new_rejections
from schemas import contract
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = date(2026, 3, 1)
KEY = b"a key of the tests"


def rejected(spark: SparkSession, keys: Sequence[str], file: str = "a.csv", rule: str = "r") -> DataFrame:
    rows = [{"table": "purchases", "rule": rule, "key_hash": key, "source_file": file} for key in keys]
    return frame(spark, "quarantine", rows)


def new_keys(spark: SparkSession, store: Store, day: date, rows: DataFrame) -> list[str]:
    found = new_rejections(spark, store, day, rows, KEY)
    assert found.columns == list(contract("quarantine").column_names)
    return sorted(row.key_hash for row in found.collect())


def test_each_rejected_row_is_published_once(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    nights = [["a", "b", "b"], ["a", "b", "b", "c"], ["a", "b", "b", "b", "c", "d"], ["a", "d"]]
    published = []
    for number, keys in enumerate(nights):
        day = DAY + timedelta(days=number)
        # The export gives its files other names every night.
        fresh = new_rejections(spark, store, day, rejected(spark, keys, f"part-{number}.csv"), KEY)
        parquet.write(spark, fresh, store.date_folder("quarantine", day))
        published.append(sorted(row.key_hash for row in fresh.collect()))
    assert published == [["a", "b", "b"], ["c"], ["b", "d"], []]
    # A date that is repeated later sees the dates before it only.
    second = DAY + timedelta(days=1)
    assert new_keys(spark, store, second, rejected(spark, nights[1])) == ["c"]
    assert new_keys(spark, store, DAY, rejected(spark, nights[0])) == ["a", "b", "b"]
    # The same row for another reason is new.
    assert new_keys(spark, store, DAY + timedelta(days=4), rejected(spark, ["a"], rule="other")) == ["a"]


def test_ids_are_hashed_with_the_key_and_older_plain_hashes_are_recognised(spark: SparkSession, tmp_path: Path) -> None:
    store, plain = Store(str(tmp_path)), "0" * 64
    names = "table string, rule string, key_hash string, user_id string, source_file string, detail string"
    rows = [("purchases", "r", plain, "ann", "f", "d"), ("purchases", "r", "1" * 64, None, "f", "d")]
    fresh = hashed(spark.createDataFrame(rows, names), KEY)
    found = {row.key_hash: row.user_hash for row in fresh.collect()}
    assert found == {keyed_hash(KEY, plain): keyed_hash(KEY, "ann"), keyed_hash(KEY, "1" * 64): None}
    assert all(len(one) == 32 for one in found)
    assert keyed_hash(KEY, "ann") != keyed_hash(b"another key of the tests", "ann")
    # An earlier release published the hash without a key, and had no column of the customer.
    parquet.write(spark, rejected(spark, [plain]).drop("user_hash"), store.date_folder("quarantine", DAY))
    assert new_keys(spark, store, DAY + timedelta(days=1), fresh) == [keyed_hash(KEY, "1" * 64)]
