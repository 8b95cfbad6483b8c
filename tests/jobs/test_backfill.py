"""Which dates a backfill runs, in what order, what it does after a failure, and that it can be gone on with."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from jobs import backfill
from jobs.backfill import BackfillOptions, run_backfill
from jobs.config.config import Config
from jobs.spark.deadline import Deadline, DeadlinePassed
from jobs.spark.errors import ConfigurationError, GateRefused, InputError, StoreBusy, UsageError
from jobs.store.attempts import read_attempts, record_attempt
from jobs.store.store import Store
from jobs.tables.runs import Night
from jobs.tasks.versions import own_config, save_settings, settings_version
from tests.models import save_causal
from tests.published import put

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST = date(2026, 3, 1)
VERSIONS = {"recommend": "m2"}


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


class Shop:
    """A store whose nights only publish a date, or fail as they are told."""

    def __init__(self, spark: SparkSession, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.spark, self.store = spark, Store(str(root / "store"))
        self.ran: list[int] = []
        self.configs: list[Config] = []
        self.failing: dict[date, BaseException] = {}
        self.printed = ""
        inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}}
        raw = {"store": self.store.root, "timezone": "UTC", "inputs": inputs}
        self.config = Config.model_validate(raw | {"models": {"recommend": str(root / "models/now")}})
        patch.setattr(backfill, "run_night", self.night)
        patch.setattr(backfill, "current", lambda config, file: (VERSIONS, []))

    def night(self, spark: SparkSession, config: Config, at: date, *_: object) -> Night:
        self.ran.append((at - FIRST).days)
        self.configs.append(config)
        if isinstance(self.failing.get(at), StoreBusy):
            raise self.failing[at]
        with record_attempt(spark, self.store, f"run-{at}", at):
            if at in self.failing:
                raise self.failing[at]
            put(self.store, at, versions=VERSIONS)
        return Night(f"run-{at}", at, self.store)

    def backfill(self, first: int, last: int, deadline: Deadline | None = None, **chosen: Any) -> list[int]:
        """Run it and return the dates that ran."""
        self.ran.clear()
        log = io.StringIO()
        console = Console(file=log, width=300)
        try:
            choices = BackfillOptions(**chosen)
            run_backfill(self.spark, self.config, day(first), day(last), console, "my shop.yaml", choices, deadline)
        finally:
            self.printed = log.getvalue()
        return self.ran


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    return Shop(spark, tmp_path, monkeypatch)


def test_only_what_is_asked_for_runs(shop: Shop) -> None:
    put(shop.store, day(1), versions=VERSIONS)
    put(shop.store, day(2), versions={"recommend": "m1"})
    put(shop.store, day(5), versions=VERSIONS)
    assert shop.backfill(0, 3, reprocess="stale") == [2]
    assert shop.backfill(0, 3) == [0, 3]
    assert re.findall(r"(\d) of 2 dates, ends about \d\d:\d\d", shop.printed) == ["1"]
    assert shop.backfill(0, 3) == []
    assert "Nothing to do: no date from 2026-03-01 to 2026-03-04 is missing" in shop.printed
    assert shop.backfill(1, 2, reprocess="all", order="newest") == [2, 1]
    # Rows that came late may belong to dates before the first; 4 was never run, so nothing can be wrong with it.
    assert shop.backfill(6, 7, lookback=3) == [3, 5, 6, 7]
    with pytest.raises(UsageError, match="--from 2026-03-04 is after --to 2026-03-02"):
        shop.backfill(3, 1)


def test_a_stopped_backfill_goes_on_with_what_it_did_not_publish(shop: Shop) -> None:
    for number in range(5):
        put(shop.store, day(number), versions={"recommend": "m1"})
    shop.failing[day(1)] = GateRefused("too few rows")
    with pytest.raises(GateRefused, match="too few rows"):
        shop.backfill(0, 4, reprocess="all")
    assert shop.ran == [0, 1]
    (command,) = re.findall(r"Go on with: (regulars backfill .*)", shop.printed)
    assert command == ("regulars backfill --config 'my shop.yaml' --from 2026-03-02 --to 2026-03-05 --reprocess failed")
    shop.failing.clear()
    assert shop.backfill(1, 4, reprocess="failed") == [1, 2, 3, 4]
    assert shop.backfill(0, 4, reprocess="failed") == []
    assert read_attempts(shop.spark, shop.store) == {}


def test_on_error_continue_runs_the_rest_and_redoes_only_what_failed(shop: Shop) -> None:
    shop.failing = {day(1): ZeroDivisionError(), day(3): InputError("gone")}
    with pytest.raises(ZeroDivisionError):
        shop.backfill(0, 4, on_error="continue")
    assert shop.ran == [0, 1, 2, 3, 4]
    assert "3 of 5 dates are published, not 2026-03-02, 2026-03-04." in shop.printed
    shop.failing.clear()
    assert shop.backfill(0, 4, reprocess="failed") == [1, 3]


@pytest.mark.parametrize("end", [StoreBusy("run x holds the store"), KeyboardInterrupt()])
def test_a_busy_store_and_an_interrupt_end_it_at_once(shop: Shop, end: BaseException) -> None:
    shop.failing[day(1)] = end
    with pytest.raises(type(end)):
        shop.backfill(0, 3, on_error="continue")
    assert shop.ran == [0, 1]
    assert "--from 2026-03-02 --to 2026-03-04 --reprocess failed" in shop.printed
    shop.failing.clear()
    assert shop.backfill(0, 3, reprocess="failed") == [1, 2, 3]


def test_after_the_deadline_no_date_begins(shop: Shop) -> None:
    passed = Deadline(datetime(2020, 1, 1, tzinfo=UTC), "05:30")
    with pytest.raises(DeadlinePassed, match="05:30 passed before 2026-03-01 began") as refusal:
        shop.backfill(0, 1, passed)
    assert (shop.ran, refusal.value.exit_code) == ([], 4)
    assert shop.backfill(0, 1, Deadline(datetime(2120, 1, 1, tzinfo=UTC), "05:30"), reprocess="failed") == [0, 1]


def test_a_date_can_be_repeated_with_its_own_versions(shop: Shop, tmp_path: Path) -> None:
    from lm.checkpoint.fingerprint import model_fingerprint

    old = save_causal(tmp_path / "models/march", seed=1)
    save_causal(tmp_path / "models/now", seed=2)
    (tmp_path / "models/notes").mkdir()  # some other folder beside them
    then = shop.config.model_copy(update={"recommend": shop.config.recommend.model_copy(update={"k": 3})})
    save_settings(shop.spark, shop.store, then)
    assert settings_version(then) != settings_version(shop.config)
    own = {"settings": settings_version(then), "recommend": model_fingerprint(old)}
    put(shop.store, day(0), versions=own)
    assert shop.backfill(0, 1, reprocess="all", versions="own") == [0, 1]
    first, second = shop.configs
    assert (first.recommend.k, first.models.recommend) == (3, str(old))
    assert settings_version(first) == own["settings"]
    assert second == shop.config  # never published: it has no versions of its own
    shop.backfill(0, 0, reprocess="all")
    assert shop.configs[-1] == shop.config
    with pytest.raises(ConfigurationError, match=r"published with model 0000, .* --versions current"):
        own_config(shop.spark, shop.store, shop.config, own | {"recommend": "0000"})
    with pytest.raises(ConfigurationError, match=r"no settings of that date .* --versions current"):
        own_config(shop.spark, shop.store, shop.config, own | {"settings": "ffff"})


def test_settings_that_decide_nothing_make_no_date_stale(shop: Shop) -> None:
    def version(**changed: Any) -> str:
        return settings_version(Config.model_validate_json(shop.config.model_copy(update=changed).model_dump_json()))

    same = settings_version(shop.config)
    gate, ledger = shop.config.gate, shop.config.ledger
    assert version(store="/elsewhere", gate=gate.model_copy(update={"max_drop": 0.5})) == same
    assert version(ledger=ledger.model_copy(update={"wave_minutes": 1.0})) == same
    assert version(ledger=ledger.model_copy(update={"max_age_days": 3})) != same
    purchases = shop.config.inputs["purchases"]
    moved = {"purchases": purchases.model_copy(update={"path": "q"}), "items": shop.config.inputs["items"]}
    assert version(inputs=moved) == same
    mapped = moved | {"purchases": purchases.model_copy(update={"where": "quantity > 0"})}
    assert version(inputs=mapped) != same
    escaped = moved | {"purchases": purchases.model_copy(update={"options": {"escape": "\\"}})}
    assert version(inputs=escaped) != same
