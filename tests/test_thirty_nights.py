"""Thirty nights of a growing shop, each killed somewhere: in the end the history of a store that nobody disturbed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from jobs import faults
from jobs.gc import collect_garbage
from tests.growing_shop import GrowingShop, use_stub
from tests.nights import tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults

NIGHTS = 30
#: Places that a night of this shop passes, with how often.
PLACES = {
    "found-written": 2,
    "requests-written": 2,
    "wave-written": 2,
    "wave-committed": 2,
    "table-staged": 7,
    "checked": 1,
    "intent-opened": 1,
    "swap-done": 7,
    "intent-closed": 1,
}


class Killed(BaseException):
    """Passes every handler but the kernel's own: what a killed process held is closed, nothing else is done."""


def test_thirty_nights_with_a_kill_in_each(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(spark, monkeypatch)
    monkeypatch.setattr(faults, "_kill", _die)
    shop = GrowingShop(tmp_path, customers=25, products=30, days=NIGHTS + 5, churn=0.05, nights=NIGHTS)
    draw, kills = random.Random(7), 0
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for day in shop.nights:
        shop.grow(day)
        shop.night(spark, "undisturbed", day, growing=True)
        before, after = _tables(killed), _tables(undisturbed)
        while True:
            place = draw.choice(list(PLACES))
            monkeypatch.setenv(faults.VARIABLE, f"{place}:{draw.randint(1, PLACES[place])}")
            faults._passages.clear()
            try:
                shop.night(spark, "killed", day, growing=True)
                break
            except Killed:
                kills += 1
                seen = _tables(killed)
                assert all(seen[name] == before.get(name, after[name]) for name in seen), (day, place)
            if draw.random() < 0.7:  # else the next try is killed too
                monkeypatch.delenv(faults.VARIABLE)
                shop.night(spark, "killed", day, growing=True)
                break
        monkeypatch.delenv(faults.VARIABLE, raising=False)
        assert _tables(killed) == after, day
    print(f"{kills} kills in {NIGHTS} nights")
    assert kills >= NIGHTS * 2 / 3
    for store in (killed, undisturbed):
        collect_garbage(spark, shop.config(store.name), Console(quiet=True), dry_run=False)
    assert _files(killed) <= _files(undisturbed) * 1.2
    assert not any(
        (killed / name).exists() and any((killed / name).iterdir()) for name in ("staging", "work", "intents")
    )


def _die() -> None:
    raise Killed


def _tables(store: Path) -> dict[str, str]:
    """Every published file by its rows."""
    if not (store / "tables").exists():
        return {}
    return {name: digest for files in tables(store).values() for name, digest in files.items()}


def _files(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
