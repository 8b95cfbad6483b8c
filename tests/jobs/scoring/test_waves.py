"""Waves: how requests are cut, what a kill loses, and that none starts after the deadline."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.scoring import ledger, waves
from jobs.spark import fault_points
from jobs.spark.deadline import Deadline
from jobs.store.publish import recover
from jobs.store.store import Store
from tests.jobs.store.test_date_swap import Killed
from tests.ledgers import listing, never, requests, terms

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def test_a_killed_run_loses_one_wave_at_most(
    spark: SparkSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise Killed

    monkeypatch.setattr(fault_points, "_kill", die)
    monkeypatch.setattr(waves, "FIRST_WAVE", 15)
    monkeypatch.setattr(waves, "next_size", lambda size, seconds, minutes: 15)
    asked = requests(spark, [f"p{n}" for n in range(50)])
    sizes: list[int] = []

    def infer(frame: DataFrame) -> DataFrame:
        sizes.append(frame.count())
        return listing("a", "b")(frame)

    for point, kept in (("found-written", 0), ("requests-written", 0), ("wave-written:2", 1), ("wave-committed:1", 2)):
        monkeypatch.setattr(fault_points, "_passages", Counter())
        monkeypatch.setenv(fault_points.VARIABLE, point)
        with pytest.raises(Killed):
            ledger.results(spark, store, terms(point.replace(":", "-")), asked, infer)
        recover(spark, store)
        assert len(list(Path(store.ledger("recommend")).glob("*/*.parquet"))) == kept, point
    monkeypatch.delenv(fault_points.VARIABLE)
    lost = sizes[1]  # scored, but the kill came before its rename
    finished = ledger.results(spark, store, terms("last"), asked, infer)
    assert finished.reused == sizes[0] + sizes[2]
    assert finished.scored == 50 - finished.reused
    assert sum(sizes) == 50 + lost
    assert finished.rows.count() == 50
    names = sorted(p.name for p in Path(store.ledger("recommend")).iterdir())
    assert [name.split("-")[0] for name in names] == [f"wave={n:08d}" for n in range(1, len(names) + 1)]


class CountingDeadline(Deadline):
    """One that passes after so many looks at the clock."""

    def seconds_left(self) -> float:
        looks.append(1)
        return 2.0 - len(looks)


looks: list[int] = []


def test_after_the_deadline_no_wave_starts(spark: SparkSession, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waves, "FIRST_WAVE", 15)
    asked = requests(spark, [f"p{n}" for n in range(50)])
    passed = Deadline(datetime(2020, 1, 1, tzinfo=UTC), "05:30")
    none = ledger.results(spark, store, terms("one"), asked, never, deadline=passed)
    assert (none.reused, none.scored, none.late, none.model_seconds) == (0, 0, 50, 0.0)
    assert none.rows.count() == 0
    assert not Path(store.ledger("recommend")).exists()
    looks.clear()
    soon = CountingDeadline(passed.at, "05:30")
    some = ledger.results(spark, store, terms("two"), asked, listing("a"), deadline=soon)
    assert 15 <= some.scored < 50
    assert some.late == 50 - some.scored
    assert some.model_seconds > 0
    assert some.rows.count() == some.scored
    rest = ledger.results(spark, store, terms("three"), asked, listing("a"))
    assert (rest.reused, rest.scored, rest.late) == (some.scored, some.late, 0)


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    targets=st.lists(st.integers(1, 400), min_size=1, max_size=60),
)
def test_waves_cover_every_slot_once(counts: list[int], targets: list[int]) -> None:
    start, done, sizes = 0, 0, []
    for target in targets * len(counts):
        if done == sum(counts):
            break
        stop = waves.next_stop(counts, start, target)
        assert stop > start
        size = sum(counts[start:stop])
        assert size < target + max(counts) + target / 4
        done, start = done + size, stop
        sizes.append(size)
    assert done == sum(counts)
    assert 0 not in sizes or sizes == [0]


def test_a_small_rest_goes_with_the_last_wave() -> None:
    assert waves.next_stop([10] * 11, 0, 50) == 5
    assert waves.next_stop([10] * 11, 5, 50) == 11  # 10 are left: no wave of their own


@pytest.mark.parametrize(
    ("size", "seconds", "minutes", "expected"),
    [
        (256, 64, 5, 1200),  # 4 a second for 300 seconds
        (256, 1, 5, 2048),  # eightfold at most
        (256, 100_000, 5, 1),
        (256, 0, 5, 2048),
    ],
)
def test_the_next_wave_is_sized_by_the_last_ones_speed(
    size: int, seconds: float, minutes: float, expected: int
) -> None:
    assert waves.next_size(size, seconds, minutes) == expected
