"""Stores of an earlier and of a later release."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from jobs.scoring import ledger
from jobs.spark.errors import ConfigurationError
from jobs.store.publish import publish
from jobs.store.store import Store
from jobs.store.store_format import FORMAT, check_format
from jobs.tables.loyalty import labels_as_of
from tests.ledgers import DAY, never, requests, terms, write_wave
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def golden(spark: SparkSession, store: Store) -> None:
    """A store as the first release left it: no record of its form, nor the newer columns of sentiments and ledger."""
    publish(spark, store, "old", DAY, {"sentiments": frame(spark, "sentiments", [{"review_id": "r1"}])})
    part = Path(store.date_folder("sentiments", DAY)) / "part-00000.parquet"
    pq.write_table(pq.read_table(part, partitioning=None).drop_columns(["shortened"]), part)
    (key,) = [row.key for row in requests(spark, ["tea"]).collect()]
    write_wave(store, "00000001-old", [{"key": key, "scored_on": DAY, "item": "i1", "model_version": "model-1"}])


def test_the_first_releases_store_is_read_and_what_changed_is_told_once(spark: SparkSession, store: Store) -> None:
    golden(spark, store)
    said, *later = check_format(spark, store)
    assert len(later) == FORMAT - 2
    assert "has layout version 1, of an earlier release, and stays readable. Version 2: the ledger also stores" in said
    assert any("Version 4: quarantine has keyed hashes" in line for line in later)
    assert check_format(spark, store) == []
    tomorrow = DAY + timedelta(days=1)
    found = ledger.results(spark, store, terms("new", tomorrow), requests(spark, ["tea"]), never)
    assert [row.result[0].item_id for row in found.rows.collect()] == ["i1"]
    labels = labels_as_of(spark, store, tomorrow, frame(spark, "sentiments", [{"review_id": "r2"}]))
    assert labels is not None
    assert sorted(row.review_id for row in labels.collect()) == ["r1", "r2"]


def test_a_new_store_says_nothing(spark: SparkSession, store: Store) -> None:
    assert check_format(spark, store) == []
    assert json.loads(Path(store.root, "format.json").read_text()) == {"format": FORMAT}


@pytest.mark.parametrize(
    ("text", "says"), [('{"format": 99}', "written by a later Regulars"), ("{", "set its content to ")]
)
def test_what_is_not_understood_is_left_alone(spark: SparkSession, store: Store, text: str, says: str) -> None:
    Path(store.root).mkdir()
    Path(store.root, "format.json").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        check_format(spark, store)
    assert [path.name for path in Path(store.root).iterdir()] == ["format.json"]
