"""Compaction: the ledger in one file gives the answers that it gave before, and a kill is mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.scoring import ledger
from jobs.scoring.compaction import compact
from jobs.spark import fault_points
from jobs.store.publish import recover
from jobs.store.store import Store
from tests.jobs.store.test_date_swap import Killed
from tests.ledgers import DAY, RESULT, row_of, terms, write_waves

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


HISTORY = [
    ("x", 0, "c1", "x0"), ("x", 3, "c2", "x3"), ("x", 3, "c2", "x3 again"), ("x", 9, "c3", "x9"),
    ("y", 5, "c1", "y5"), ("z", 1, "c1", "z1"), ("z", 2, "c2", "z2"),
]  # fmt: skip


def history() -> list[dict[str, Any]]:
    columns = ("key", "scored_on", "catalogue_version", "item")
    return [dict(zip(columns, (k, DAY + timedelta(days=d), v, i), strict=True)) for k, d, v, i in HISTORY]


@pytest.mark.parametrize("keep_from", [None, 4])
def test_compaction_changes_no_answer(spark: SparkSession, store: Store, keep_from: int | None) -> None:
    write_waves(store, history())
    keys = spark.createDataFrame([("x",), ("y",), ("z",), ("new",)], "key string")

    def answers(days: Sequence[int]) -> list[Any]:
        nights = [terms(day=DAY + timedelta(days=d), catalogue_version="c9", max_age_days=4) for d in days]
        found = [ledger.lookup(spark, store, night, keys) for night in nights]
        known = zip(nights, found, strict=True)
        used = [ledger.usable_answers(spark, store, night, rows, 4).orderBy("key").collect() for night, rows in known]
        why = [rows.select("key", "why_missing").orderBy("key").collect() for rows in found]
        return [why, [[(r["key"], r["result"]) for r in rows] for rows in used]]

    days = (0, 3, 7, 11) if keep_from is None else (keep_from, 11)
    before = answers(days)
    start = None if keep_from is None else DAY + timedelta(days=keep_from)
    in_use = ledger.read(spark, store, "recommend", RESULT).select("prompt_hash")  # every prompt is published
    kept = compact(spark, store, "recommend", RESULT, "gc", start, in_use)
    assert kept == (7, 6 if keep_from is None else 4)
    assert [p.name for p in Path(store.ledger("recommend")).iterdir()] == ["wave=00000008-gc"]
    assert answers(days) == before
    assert compact(spark, store, "recommend", RESULT, "gc2") == (kept[1], kept[1])


@pytest.mark.parametrize("point", ["intent-opened", "swap-done", "retired:1", "retired:3", "intent-closed"])
def test_a_killed_compaction_is_finished(
    spark: SparkSession, store: Store, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise Killed

    write_waves(store, history())
    monkeypatch.setattr(fault_points, "_kill", die)
    monkeypatch.setattr(fault_points, "_passages", Counter())
    monkeypatch.setenv(fault_points.VARIABLE, point)
    with pytest.raises(Killed):
        compact(spark, store, "recommend", RESULT, "gc")
    # In between a look-up may see a row in both waves: it is the same answer.
    keys = spark.createDataFrame([("x",)], "key string")
    night = terms(day=DAY + timedelta(days=9))
    (row,) = ledger.usable_answers(spark, store, night, ledger.lookup(spark, store, night, keys), 1).collect()
    assert row["result"][0]["item_id"] == "x9"
    monkeypatch.delenv(fault_points.VARIABLE)
    recover(spark, store)
    assert [p.name for p in Path(store.ledger("recommend")).iterdir()] == ["wave=00000008-gc"]
    assert ledger.read(spark, store, "recommend", RESULT).count() == 6


def test_answers_that_no_kept_date_uses_are_dropped(spark: SparkSession, store: Store) -> None:
    """Old ones stay while a published date's prompts still ask for them."""
    scored = (("used", 0), ("gone", 0), ("used", 1), ("young", 9))
    write_waves(store, (row_of(key, days) for key, days in scored))
    prompts = spark.createDataFrame([("hash of used",), ("hash of used",), ("hash of new",)], "prompt_hash string")
    assert compact(spark, store, "recommend", RESULT, "gc", DAY + timedelta(days=5), prompts) == (4, 2)
    left = ledger.read(spark, store, "recommend", RESULT).orderBy("key").collect()
    assert [(row["key"], row["scored_on"]) for row in left] == [
        ("used", DAY + timedelta(days=1)),
        ("young", DAY + timedelta(days=9)),
    ]
    assert compact(spark, store, "recommend", RESULT, "gc2", DAY + timedelta(days=5)) == (2, 1)
