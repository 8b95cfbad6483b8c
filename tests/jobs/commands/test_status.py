"""The command that goes on from the state of the dates, and what is seen of a running night."""

from __future__ import annotations

import io
import re
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.commands import status, store_commands
from jobs.commands.status import next_commands
from jobs.config.settings import Config
from jobs.nightly import _keep_progress
from jobs.spark.errors import UsageError
from jobs.spark.progress import Stages, UsualSeconds
from jobs.store.attempts import record_attempt
from jobs.store.dates import DateState, State
from jobs.store.lock import lock
from jobs.store.store import Store
from jobs.tables.runs import Night
from jobs.tasks.versions import current
from tests.jobs.spark.test_files import NO_SPARK
from tests.models import save_causal
from tests.published import put

DAY = date(2026, 3, 1)


def states(text: str) -> list[DateState]:
    names: dict[str, State] = {"p": "published", "f": "failed", "m": "missing", "s": "stale"}
    return [DateState(DAY + timedelta(days=number), names[one]) for number, one in enumerate(text)]


@pytest.mark.parametrize(
    ("found", "has_models", "commands"),
    [
        ("pps", True, []),
        ("pps", False, []),
        ("pf", True, ["nightly --config 'a b.yaml' --run-date 2026-03-02"]),
        ("fpf", True, ["backfill --config 'a b.yaml' --from 2026-03-01 --to 2026-03-03 --reprocess failed"]),
        ("pm", True, ["nightly --config 'a b.yaml' --run-date 2026-03-02"]),
        (
            "pmfm",
            False,
            [
                "train --config 'a b.yaml' --as-of 2026-03-02",
                "nightly --config 'a b.yaml' --run-date 2026-03-03",
                "backfill --config 'a b.yaml' --from 2026-03-02 --to 2026-03-04 --reprocess missing",
            ],
        ),
    ],
)
def test_failed_and_missing_dates_have_their_command_and_a_missing_model_its_training(found, has_models, commands):
    assert next_commands(states(found), "--config 'a b.yaml'", has_models=has_models) == [
        f"regulars {one}" for one in commands
    ]


def test_old_failed_dates_are_listed_and_a_perhaps_mistaken_date_has_its_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    monkeypatch.setattr(status, "current", lambda config, file: ({}, []))
    put(store, DAY - timedelta(days=1))
    for day in (DAY, DAY + timedelta(days=60)):
        with pytest.raises(UsageError, match="no column"), record_attempt(NO_SPARK, store, "a-night", day):
            raise UsageError("no column")
    log = io.StringIO()
    status.show_status(NO_SPARK, Config.model_validate(raw), Console(file=log, width=200), "shop.yaml")
    listed = re.findall(r"│ (\d{4}-\d\d-\d\d) +│ failed", log.getvalue())
    assert listed == ["2026-03-01", "2026-04-30"]
    assert "47 earlier dates are not listed: --from 2026-02-28" in log.getvalue()
    asked = re.findall(r"Was (.*) a mistake\? Then forget it: regulars unpublish (.*)", log.getvalue())
    assert asked == [("2026-04-30", "--config shop.yaml --run-date 2026-04-30")]


def test_without_a_session_the_automatic_number_format_makes_no_date_stale(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a worker knows what `auto` means."""
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    save_causal(tmp_path / "model", item_ids=["tea"])
    models = {"recommend": str(tmp_path / "model"), "sentiment": None}
    monkeypatch.setattr(SparkSession, "getActiveSession", staticmethod(lambda: None))
    for dtype, names in (("auto", None), ("float32", "float32")):
        found, problems = current(Config.model_validate(raw | {"models": models | {"dtype": dtype}}), "shop.yaml")
        assert problems == []
        assert found.get("dtype") == names


def test_a_running_night_shows_its_stage_customers_rate_and_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that the night keeps for other shells is what `status` of another shell prints."""
    day, log = date(2026, 3, 1), io.StringIO()
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    config = Config.model_validate(raw)
    monkeypatch.setattr(status, "current", lambda config, file: ({}, []))
    night = Night("the-night", day, store, versions={})
    stages = Stages(Console(quiet=True), keep=partial(_keep_progress, NO_SPARK, night))

    def shown() -> str:
        log.truncate(log.seek(0))
        status.show_status(NO_SPARK, config, Console(file=log, width=200), "shop.yaml")
        return log.getvalue()

    with lock(NO_SPARK, store, night.run_id), record_attempt(NO_SPARK, store, night.run_id, day):
        assert "running, since" in shown()  # nothing is kept yet
        with stages.stage("inputs"):
            assert "inputs, since" in shown()
        stages.usual = UsualSeconds(date(2026, 2, 28), {"prompts": 21.0})
        with stages.stage("prompts"):
            estimate = r"prompts, about 21 s from \d\d:\d\d:\d\d as in the night of 2026-02-28, since"
            assert re.search(estimate, shown())
        with stages.stage("recommendations"), stages.counter("customers") as counter:
            stages._kept_at = float("-inf")  # the last line is five seconds old
            counter.update(100, 1200)
            stages._kept_at = float("-inf")
            counter.update(300, 1200)
            line = shown()
    assert re.search(
        r"recommendations: 300 of 1,200 customers, [\d,.]+ a second, ends about \d\d:\d\d:\d\d, since", line
    )


def test_the_status_of_a_local_store_starts_no_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Java takes most of the seconds of a command that only looks."""
    store = Store(str(tmp_path / "store"))
    put(store, DAY, lists=7)
    file = tmp_path / "regulars.yaml"
    file.write_text("store: store\ntimezone: UTC\ninputs: {purchases: {path: p}, items: {path: i}}\n")
    monkeypatch.delattr("jobs.spark.session.create_session")
    store_commands.status(config=file)
    printed = capsys.readouterr().out
    assert re.search(rf"{DAY} │ published │ {DAY}-run │ 7 ", printed), printed
