"""Nights that compute only what changed: their tables are those of nights from nothing."""

from __future__ import annotations

import io
import shutil
import zlib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jobs.commands.erase import erase
from jobs.nightly import run_night
from jobs.tables import recommendations
from jobs.tables.runs import Night
from schemas import contract
from tests.growing_shop import GrowingShop, use_stub
from tests.nights import tables, without_inputs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS = ("purchases", "searches", "reviews", "events")


class ChangingShop(GrowingShop):
    """A shop whose exports add a file a night: some rows come a night late or early, some a second time or changed."""

    def __init__(self, folder: Path, *, nights: int, customers: int = 60) -> None:
        super().__init__(folder, customers=customers, products=150, days=nights + 6, churn=0.007, nights=nights)
        without_inputs(Path(self.config_file), "questions", "articles")
        self.rows = {table: self._with_availability(table) for table in EVENTS}
        optouts = pd.read_parquet(folder / "data/optouts")
        users = sorted(set(self.rows["purchases"].user_id.dropna()) - set(optouts.user_id))
        self.optouts = [*optouts.user_id, *users[:nights]]

    def _with_availability(self, table: str) -> pd.DataFrame:
        """Add `comes`: the date on which an export has the row. One in twenty comes late, one early, some twice."""
        rows = pd.read_parquet(self.folder / "data" / table)
        at = pd.to_datetime(rows[contract(table).time_column], utc=True, errors="coerce")
        day = at.dt.tz_convert("Europe/London").dt.date.fillna(self.nights[0])
        late = np.random.default_rng(zlib.crc32(table.encode())).random(len(rows))
        shift = np.where(late < 0.05, 1, np.where(late < 0.1, -1, 0))
        rows["comes"] = [one + timedelta(days=int(n)) for one, n in zip(day, shift, strict=True)]
        again = rows[(late > 0.97)].assign(comes=lambda found: found.comes + pd.Timedelta(days=2))
        if table == "reviews":
            again = again.assign(rating="1")
        return pd.concat([rows, again], ignore_index=True)

    def export(self, day: date) -> None:
        """Add the files of an evening; the first evening has all rows so far."""
        first = day == self.nights[0]
        for table, rows in self.rows.items():
            there = rows[rows.comes <= day] if first else rows[rows.comes == day]
            folder = self.folder / "exports" / table / f"day={day}"
            folder.mkdir(parents=True)
            there.drop(columns="comes").to_parquet(folder / "part.parquet", index=False)
        number = self.nights.index(day)
        (self.folder / "exports/optouts").mkdir(exist_ok=True)
        gone = self.optouts[: len(self.optouts) - len(self.nights) + number // 2]
        pd.DataFrame({"user_id": gone}).to_parquet(self.folder / "exports/optouts/part.parquet", index=False)
        if number % 2:  # a title of the catalogue is corrected
            snapshot = self.folder / f"items/{day}/part-00000.parquet"
            items = pd.read_parquet(snapshot)
            items.loc[number % len(items), "title"] += " (new)"
            items.to_parquet(snapshot, index=False)

    def write_again(self, day: date) -> None:
        """Correct the products of some purchases in the file of an earlier evening."""
        part = self.folder / f"exports/purchases/day={day}/part.parquet"
        rows = pd.read_parquet(part)
        rows.loc[rows.index[:3], "item_id"] = self.items.item_id.iloc[0]
        rows.to_parquet(part, index=False)

    def erase(self, spark: SparkSession, store: str) -> None:
        """Erase two customers from a store; the exports still have them."""
        users = sorted(set(self.rows["purchases"].user_id.dropna()) - set(self.optouts))[-2:]
        listed = self.folder / "erased.txt"
        listed.write_text("\n".join(users))
        receipt = erase(spark, self.config(store), listed, Console(quiet=True))
        assert receipt["rows"].get("state", 0) > 0 or store == "from-nothing"
        assert not (self.folder / store / "state").exists()

    def run(self, spark: SparkSession, store: str, day: date, *overrides: str) -> tuple[Night, str]:
        """Run a night over the exports; returns it with what it printed."""
        paths = [f"inputs.{table}.path={self.folder}/exports/{table}" for table in (*EVENTS, "optouts")]
        more = ("privacy.min_customers=3", "recommend.k=4", "recommend.spares=2")
        # On the first evenings nobody who opted out has bought anything yet.
        config = self.config(store, *paths, *more, "inputs.optouts.allow_empty=true", *overrides)
        log = io.StringIO()
        return run_night(spark, config, day, Console(file=log, width=200), self.config_file), log.getvalue()


def with_reasons(patch: pytest.MonkeyPatch) -> None:
    """Let the stub weigh the first two events of each prompt, so that sentences name searches."""

    def scored(model: Any, prompts: Any, lists: Any, *, only_first: bool) -> list[Any]:
        parts, weights = (0.0, 0.0, 0.0, 0.0, 0.0), [(0, 2.0), (1, 1.0)]
        return [
            [(one.item_id, float(one.score), parts, weights if n == 0 else None) for n, one in enumerate(found)]
            for found in lists
        ]

    patch.setattr(recommendations, "scored_reasons", scored)


def counts(night: Night) -> dict[str, tuple[int, int, int]]:
    """Read, used and later rows of each input table."""
    return {table: (one.read, one.used, one.outside_window) for table, one in night.accounts.items()}


BY_CHANGE = "incremental.enabled=true"


@pytest.fixture(scope="module")
def stub(spark: SparkSession) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        asked = use_stub(spark, patch)
        with_reasons(patch)
        yield asked


def differences(folder: Path) -> list[str]:
    """Published files that differ between the two stores."""
    one, other = (
        {name: digest for files in tables(folder / store).values() for name, digest in files.items()}
        for store in ("by-change", "from-nothing")
    )
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.mark.slow
def test_nights_by_change_are_those_from_nothing(spark: SparkSession, tmp_path: Path, stub: Any) -> None:
    shop = ChangingShop(tmp_path, nights=3)
    first, *later = shop.nights
    shop.export(first)
    night, said = shop.run(spark, "by-change", first, BY_CHANGE)
    assert night.accounts["purchases"].outside_window > 0
    assert "starts from nothing: no earlier date is published" in said
    shutil.copytree(tmp_path / "by-change", tmp_path / "from-nothing")
    for day in later:
        shop.export(day)
        night, said = shop.run(spark, "by-change", day, BY_CHANGE)
        whole, _ = shop.run(spark, "from-nothing", day)
        assert "Only what changed since" in said
        assert counts(night) == counts(whole)
        assert 0 < night.copied < night.customers
        assert differences(tmp_path) == []


@pytest.mark.faults
def test_thirty_nights_with_edits_opt_outs_and_erased_customers(spark: SparkSession, tmp_path: Path, stub: Any) -> None:
    """A file is written again on the ninth night; customers are erased after the nineteenth; a date is repeated."""
    shop = ChangingShop(tmp_path, nights=30, customers=80)
    kinds: list[str] = []
    for number, day in enumerate(shop.nights):
        shop.export(day)
        if number == 9:
            shop.write_again(shop.nights[4])
        night, said = shop.run(spark, "by-change", day, BY_CHANGE, "incremental.full_every=12")
        whole, _ = shop.run(spark, "from-nothing", day)
        assert differences(tmp_path) == [], day
        assert counts(night) == counts(whole), day
        kinds.append("by change" if "Only what changed" in said else said.partition("starts from nothing: ")[2][:80])
        if number == 14:
            shop.run(spark, "by-change", day, BY_CHANGE)
            assert differences(tmp_path) == []
        if number == 19:
            for store in ("by-change", "from-nothing"):
                shop.erase(spark, store)
            assert differences(tmp_path) == []
    print(kinds)
    assert kinds.count("by change") >= 22
    assert any("was written again" in kind for kind in kinds)
    assert any("has no state" in kind for kind in kinds)
