"""Nights of a growing shop, each killed somewhere: in the end the history of a store that nobody disturbed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands.gc import collect_garbage
from jobs.config.settings import Config, PublishSettings
from jobs.scoring import ledger
from jobs.spark import fault_points
from jobs.store.lock import lock
from jobs.store.publish import publish, recover
from jobs.store.store import Store
from tests.growing_shop import GrowingShop, use_stub
from tests.ledgers import DAY, requests, terms
from tests.nights import tables, without_inputs
from tests.rows import filled

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.faults

ONCE = ("checked", "intent-opened", "intent-closed")
EACH_TASK = ("found-written", "requests-written", "wave-written", "wave-committed")
EACH_TABLE = ("table-staged", "swap-done")


def places(tasks: int, tables: int) -> dict[str, int]:
    """The places that a night passes, with how often."""
    return dict.fromkeys(ONCE, 1) | dict.fromkeys(EACH_TASK, tasks) | dict.fromkeys(EACH_TABLE, tables)


def killed_at(*places: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Places, and which passage of each, at which a command is killed before it is left to come to its end."""
    return st.lists(st.tuples(st.sampled_from(places), st.integers(1, 2)), min_size=1, max_size=3)


IN_A_NIGHT = killed_at(*ONCE, *EACH_TASK, *EACH_TABLE)
IN_GC = killed_at("intent-opened", "swap-done", "retired", "intent-closed")


class Killed(BaseException):
    """Passes every handler but the kernel's own: what a killed process held is closed, nothing else is done."""


def _die() -> None:
    raise Killed


class Kills:
    """Runs commands that are killed at named places; `seen` are those where it came to that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fault_points, "_kill", _die)
        self._environment = monkeypatch
        self.seen: list[str] = []

    def command(self, run: Callable[[], object], at: Sequence[tuple[str, int]], check: Callable[[str], None]) -> None:
        """Run a command until it ends by itself, killed at each of these passages; `check` is told of each kill."""
        for place, passage in at:
            fault_points._passages.clear()
            self._environment.setenv(fault_points.VARIABLE, f"{place}:{passage}")
            try:
                run()
                return
            except Killed:
                self.seen.append(place)
                check(place)
            finally:
                self._environment.delenv(fault_points.VARIABLE)
        run()


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
        lists = filled(rows, "recommendations")
        publish(spark, store, run_id, day, {"recommendations": lists, "prompts": filled(prompts, "prompts")})


class TwoStores:
    """A store whose commands are killed, beside one whose commands never are."""

    def __init__(self, folder: Path, kills: Kills) -> None:
        self.killed, self.undisturbed = Store(str(folder / "killed")), Store(str(folder / "undisturbed"))
        self.kills = kills

    def run(self, command: Callable[[Store], object], at: Sequence[tuple[str, int]]) -> None:
        """Run a command on both stores, on the one killed at each of these places and then to its end."""
        before = published(self.killed)
        command(self.undisturbed)
        after = published(self.undisturbed)

        def check(place: str) -> None:
            seen = published(self.killed)
            assert all(seen.get(path) in (before.get(path), after[path]) for path in after), place
            assert seen.keys() <= after.keys(), place

        self.kills.command(lambda: command(self.killed), at, check)
        assert published(self.killed) == after


class KilledNights(RuleBasedStateMachine):
    """Commands that are killed wherever hypothesis likes."""

    def __init__(self, spark: SparkSession, stores: TwoStores) -> None:
        super().__init__()
        self.spark, self.stores, self.nights, self.runs = spark, stores, 0, 0

    def one_night(self, number: int, at: Sequence[tuple[str, int]]) -> None:
        def command(store: Store) -> None:
            self.runs += 1
            one_night(self.spark, store, number, f"{self.runs:03d}")

        self.stores.run(command, at)

    @rule(at=IN_A_NIGHT)
    def night(self, at: list[tuple[str, int]]) -> None:
        """The next date."""
        self.one_night(self.nights, at)
        self.nights += 1

    @precondition(lambda self: self.nights)
    @rule(back=st.integers(0, 5), at=IN_A_NIGHT)
    def again(self, back: int, at: list[tuple[str, int]]) -> None:
        """A date that is there, once more."""
        self.one_night(max(0, self.nights - 1 - back), at)

    @precondition(lambda self: self.nights)
    @rule(at=IN_GC)
    def gc(self, at: list[tuple[str, int]]) -> None:
        """What is freed and merged changes no date, and nothing is left behind."""
        self.stores.run(lambda store: collect(self.spark, store), at)
        assert left_behind(self.stores.killed) == []

    @invariant()
    def nothing_is_asked_twice(self) -> None:
        """What a killed run had kept is in the ledger once."""
        if self.nights:
            killed, undisturbed = (ledger_rows(self.spark, s) for s in (self.stores.killed, self.stores.undisturbed))
            assert killed == undisturbed


def test_commands_killed_anywhere_leave_the_store_of_an_undisturbed_history(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (tmp_path / str(number) for number in count())
    kills = Kills(monkeypatch)
    some = settings(max_examples=4, stateful_step_count=10, derandomize=True, database=None, deadline=None)
    run_state_machine_as_test(lambda: KilledNights(spark, TwoStores(next(folders), kills)), settings=some)
    print(f"{len(kills.seen)} kills at {len(set(kills.seen))} places")
    assert len(set(kills.seen)) >= 6


def test_thirty_whole_nights_with_a_kill_in_each(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(spark, monkeypatch)
    nights = 30
    shop = GrowingShop(tmp_path, customers=25, products=30, days=35, churn=0.05, nights=nights)
    shop.events = ("purchases", "reviews")
    without_inputs(Path(shop.config_file), "searches", "questions", "articles", "optouts")
    kills, draw = Kills(monkeypatch), random.Random(3)
    passed = places(2, 7)
    stores = TwoStores(tmp_path, kills)
    killed, undisturbed = stores.killed, stores.undisturbed
    for day in shop.nights:
        shop.grow(day)
        before = published(killed)
        drawn = draw.sample(list(passed), 2 if draw.random() < 0.3 else 1)
        at = [(place, draw.randint(1, passed[place])) for place in drawn]
        stores.run(lambda store, day=day: shop.night(spark, store.root, day, growing=True), at)
        assert before.items() <= published(killed).items(), day
    print(f"{len(kills.seen)} kills in {nights} nights at {len(set(kills.seen))} places")
    assert len(kills.seen) >= nights - 2  # a place that the second try does not pass kills nothing
    assert set(kills.seen) == set(passed)
    for store in (killed, undisturbed):
        collect(spark, store)
    assert left_behind(killed) == []
    larger = size(tmp_path / "killed") / size(tmp_path / "undisturbed")
    print(f"after gc {larger:.2f} times the undisturbed store's size")
    assert larger <= 1.1
    assert published(killed) == published(undisturbed)


def collect(spark: SparkSession, store: Store) -> None:
    """`regulars gc` on a store, of which the last three publishes' replaced versions stay."""
    inputs = {name: {"path": "never opened"} for name in ("purchases", "items")}
    config = Config.model_validate({"store": store.root, "timezone": "Europe/London", "inputs": inputs})
    config = config.model_copy(update={"publish": PublishSettings(keep_publishes=3)})
    collect_garbage(spark, config, Console(quiet=True), dry_run=False)


def left_behind(store: Store) -> list[Path]:
    """What no run needs once it has ended."""
    return [path for name in ("staging", "work", "intents") for path in (Path(store.root) / name).glob("*")]


def published(store: Store) -> dict[str, str]:
    """Every published file by its rows."""
    found = tables(Path(store.root)) if Path(store.tables).exists() else {}
    return {name: digest for files in found.values() for name, digest in files.items()}


def ledger_rows(spark: SparkSession, store: Store) -> int:
    return ledger.read(spark, store, "recommend", "array<struct<item_id:string,score:double>>").count()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
