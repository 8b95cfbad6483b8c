"""Compaction: the ledger in one file gives the answers that it gave before, and a kill is mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from jobs.scoring import compaction, ledger
from jobs.scoring.compaction import compact
from jobs.scoring.ledger import enough_sellable
from jobs.scoring.ledger_files import ledger_files, with_keys_of
from jobs.spark import fault_points
from jobs.store.publish import recover
from jobs.store.store import Store
from tests.jobs.store.test_date_swap import Killed
from tests.ledgers import DAY, RESULT, found_by, reasons, row_of, terms, write_wave, write_waves

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
        found = [found_by(spark, store, night, keys) for night in nights]
        used = [one.answers.orderBy("key").collect() for one in found]
        return [[reasons(one) for one in found], [[(r["key"], r["result"]) for r in rows] for rows in used]]

    days = (0, 3, 7, 11) if keep_from is None else (keep_from, 11)
    before = answers(days)
    start = None if keep_from is None else DAY + timedelta(days=keep_from)
    in_use = ledger.read(spark, store, "recommend", RESULT).select("prompt_hash")  # every prompt is published
    kept = compact(spark, store, "recommend", RESULT, "gc", start, in_use)
    assert kept == (7, 6 if keep_from is None else 4)
    assert [p.name for p in Path(store.ledger("recommend")).iterdir()] == ["wave=00000008-gc"]
    assert answers(days) == before
    assert compact(spark, store, "recommend", RESULT, "gc2") == (kept[1], kept[1])


def test_a_look_up_reads_the_ranges_and_waves_that_it_needs(
    spark: SparkSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large ledger gives the same answers as a small one, merged into ranges of the keys or not."""
    keys = [sha256(str(n).encode()).hexdigest() for n in range(400)]
    for night in range(4):
        rows = [{"key": key, "scored_on": DAY + timedelta(days=night), "item": key[:8]} for key in keys[night::2]]
        write_wave(store, f"{night + 1:08d}-n", rows)
    asked = spark.createDataFrame([(key,) for key in [*keys[::3], "0" * 64, "f" * 64]], "key string")
    night = terms(day=DAY + timedelta(days=3), catalogue_version="c2")

    def found() -> tuple[Any, Any]:
        enough = enough_sellable([key[:8] for key in keys[::6]], 1)
        one = found_by(spark, store, night, asked, enough)
        assert one.missing_count == one.missing.count()
        return reasons(one), sorted((row["key"], row["result"][0]["item_id"]) for row in one.answers.collect())

    plain = found()
    monkeypatch.setattr(ledger, "_UNFILTERED_BYTES", 0)
    assert found() == plain
    monkeypatch.setattr(compaction, "_ROWS_PER_RANGE", 40)
    compact(spark, store, "recommend", RESULT, "gc")
    merged = [file for file in ledger_files(spark, store, "recommend") if file.ranges > 1]
    assert [(file.part, file.ranges) for file in merged] == [(part, 20) for part in range(20)]
    compact(spark, store, "recommend", RESULT, "again", DAY)
    assert ledger_files(spark, store, "recommend") == merged  # nothing was written again
    in_order = [row["key"] for file in merged for row in pq.read_table(file.path, partitioning=None).to_pylist()]
    assert in_order == sorted(in_order)
    write_wave(store, "00000006-n", [{"key": "0" * 64, "scored_on": DAY, "item": "zero"}])
    assert found()[0] == plain[0] | {"0" * 64: (DAY, "catalogue")}
    of_one = with_keys_of(ledger_files(spark, store, "recommend"), asked.where("key >= 'f8'"), 20)
    assert {(file.wave, file.part, file.ranges) for file in of_one} == {(5, 19, 20), (6, 0, 1)}


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
    (row,) = found_by(spark, store, night, keys).answers.collect()
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
