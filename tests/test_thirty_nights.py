"""Nights of a growing shop, each killed somewhere: in the end the history of a store that nobody disturbed."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs import faults, ledger
from jobs.gc import collect_garbage
from jobs.lock import lock
from jobs.publish import publish, recover
from jobs.settings import Config, PublishSettings
from jobs.store import Store
from tests.growing_shop import GrowingShop, use_stub
from tests.ledgers import DAY, requests, terms
from tests.nights import tables, without_inputs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.faults

ONCE = ("checked", "intent-opened", "intent-closed")
EACH_TASK = ("found-written", "requests-written", "wave-written", "wave-committed")
EACH_TABLE = ("table-staged", "swap-done")


def places(tasks: int, tables: int) -> dict[str, int]:
    """The places that a night passes, with how often."""
    return dict.fromkeys(ONCE, 1) | dict.fromkeys(EACH_TASK, tasks) | dict.fromkeys(EACH_TABLE, tables)


class Killed(BaseException):
    """Passes every handler but the kernel's own: what a killed process held is closed, nothing else is done."""


def _die() -> None:
    raise Killed


class Kills:
    """Runs nights, each killed at a place drawn at random, some of them again when they are repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: dict[str, int], seed: int) -> None:
        monkeypatch.setattr(faults, "_kill", _die)
        self.places, self._environment, self._draw = places, monkeypatch, random.Random(seed)
        self.seen: list[str] = []

    def night(self, run: Callable[[], object], check: Callable[[str], None]) -> None:
        """Run a night until it ends by itself; `check` is told the place after each kill."""
        for share in (1.0, 0.3, 0.0):
            place = self._draw.choice(list(self.places))
            faults._passages.clear()
            if self._draw.random() < share:
                self._environment.setenv(faults.VARIABLE, f"{place}:{self._draw.randint(1, self.places[place])}")
            try:
                run()
                return
            except Killed:
                self.seen.append(place)
                check(place)
            finally:
                self._environment.delenv(faults.VARIABLE, raising=False)


def one_night(spark: SparkSession, store: Store, number: int, attempt: str) -> None:
    """What a night does to a store: 20 customers and two more each night, a fifth of them with another prompt."""
    day, run_id, catalogue = DAY + timedelta(days=number), f"{number:02d}-{attempt}", f"c{number // 4}"
    versions = {c: sum(crc32(f"{c} {n}".encode()) % 5 == 0 for n in range(number + 1)) for c in range(20 + 2 * number)}
    asked = requests(spark, [f"customer {c} in form {version}" for c, version in versions.items()])

    def infer(missing: DataFrame) -> DataFrame:
        item = F.concat(F.lit(f"{catalogue} "), F.substring("key", 1, 6))
        return missing.withColumn("result", F.array(F.struct(item.alias("item_id"), F.lit(-1.0).alias("score"))))

    with lock(spark, store, run_id):
        recover(spark, store, 3)
        asking = terms(run_id, day, catalogue_version=catalogue, max_age_days=6)
        found = ledger.results(spark, store, asking, asked, infer)
        rows = found.rows.join(asked.select("key", F.col("prompt").alias("user_id")), on="key", how="inner").select(
            "user_id",
            F.lit(1).alias("rank"),
            F.col("result")[0]["item_id"].alias("item_id"),
            F.lit("title").alias("title"),
            F.col("result")[0]["score"].alias("score"),
            *("prompt_hash", "model_version", "catalogue_version", "scored_on", "why_scored"),
        )
        fill = {"tokens": 1, "events_used": 1, "events_dropped": 0, "last_event_at": datetime(2026, 3, 1, tzinfo=UTC)}
        literals = [F.lit(value).alias(name) for name, value in fill.items()]
        prompts = asked.select(F.col("prompt").alias("user_id"), "prompt", "prompt_hash", *literals)
        publish(spark, store, run_id, day, {"recommendations": rows, "prompts": prompts})


def test_thirty_nights_with_a_kill_in_each(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills, nights = Kills(monkeypatch, places(1, 2), seed=7), 30
    killed, undisturbed = Store(str(tmp_path / "killed")), Store(str(tmp_path / "undisturbed"))
    for number in range(nights):
        one_night(spark, undisturbed, number, "run")
        before, after = published(killed), published(undisturbed)
        tries = iter("abcd")

        def check(place: str, before: dict[str, str] = before, after: dict[str, str] = after) -> None:
            seen = published(killed)
            assert before.items() <= seen.items() <= after.items(), place

        kills.night(lambda number=number, tries=tries: one_night(spark, killed, number, next(tries)), check)
        assert published(killed) == after, number
    print(f"{len(kills.seen)} kills in {nights} nights at {len(set(kills.seen))} places")
    assert len(kills.seen) >= nights
    assert set(kills.seen) == set(kills.places)
    assert ledger_rows(spark, killed) == ledger_rows(spark, undisturbed), "what was committed is not asked again"
    for store in (killed, undisturbed):
        inputs = {name: {"path": "never opened"} for name in ("purchases", "items")}
        config = Config.model_validate({"store": store.root, "timezone": "Europe/London", "inputs": inputs})
        config = config.model_copy(update={"publish": PublishSettings(keep_publishes=3)})
        collect_garbage(spark, config, Console(quiet=True), dry_run=False)
    left = [path for name in ("staging", "work", "intents") for path in (tmp_path / "killed" / name).glob("*")]
    assert left == []
    assert size(tmp_path / "killed") <= 1.1 * size(tmp_path / "undisturbed")
    assert published(killed) == published(undisturbed)


def test_whole_nights_with_a_kill_in_each(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stub(spark, monkeypatch)
    shop = GrowingShop(tmp_path, customers=25, products=30, days=8, churn=0.05, nights=3)
    shop.events = ("purchases", "reviews")
    without_inputs(Path(shop.config_file), "searches", "questions", "articles", "optouts")
    kills = Kills(monkeypatch, places(2, 7), seed=3)
    killed, undisturbed = Store(str(tmp_path / "killed")), Store(str(tmp_path / "undisturbed"))
    for day in shop.nights:
        shop.grow(day)
        shop.night(spark, "undisturbed", day, growing=True)
        before, after = published(killed), published(undisturbed)

        def check(place: str, before: dict[str, str] = before, after: dict[str, str] = after) -> None:
            assert before.items() <= published(killed).items() <= after.items(), place

        kills.night(lambda day=day: shop.night(spark, "killed", day, growing=True), check)
        assert published(killed) == after, day
    assert len(kills.seen) >= 2


def published(store: Store) -> dict[str, str]:
    """Every published file by its rows."""
    found = tables(Path(store.root)) if Path(store.tables).exists() else {}
    return {name: digest for files in found.values() for name, digest in files.items()}


def ledger_rows(spark: SparkSession, store: Store) -> int:
    return ledger.read(spark, store, "recommend", "array<struct<item_id:string,score:double>>").count()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
