"""Each night leaves a report, also one that failed, was refused or was interrupted, and none fails by it."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from jobs.config.config import Config
from jobs.report import write
from jobs.report.facts import NightFacts
from jobs.report.write import read_facts, reported, rewrite
from jobs.spark.deadline import Deadline, DeadlinePassed
from jobs.spark.errors import GateRefused, InputError, StoreBusy, UsageError
from jobs.store.attempts import record_attempt
from jobs.store.byte_scan import Needles
from jobs.store.erasure import erase_customers
from jobs.store.store import Store
from jobs.tables.runs import Night
from tests.jobs.spark.test_files import NO_SPARK
from tests.published import put

DAY = date(2026, 3, 1)
CONFIG = "my shop.yaml"


@pytest.fixture
def config(tmp_path) -> Config:
    columns = {"user_id": "u", "item_id": "i", "purchased_at": "t", "title": "n"}
    raw = {
        "store": str(tmp_path / "store"),
        "timezone": "UTC",
        "inputs": {"purchases": {"path": "p", "columns": columns}},
    }
    return Config.model_validate(raw)


def fail(config: Config, error: BaseException, deadline: Deadline | None = None) -> tuple[str, NightFacts]:
    """A night of DAY that read its inputs and ended with `error`: what it printed, and the facts of its report."""
    log = io.StringIO()
    night = Night("the-run", DAY, Store(config.store), deadline, versions={})
    night.seconds, night.input_ages = {"inputs": 12.5}, {"purchases": (3.25, 100)}
    night.quarantined = {("purchases", "unknown_item"): 7}

    def run() -> None:
        console = Console(file=log, width=400)
        with (
            reported(NO_SPARK, config, CONFIG, night, console) as report,
            record_attempt(NO_SPARK, night.store, night.run_id, DAY),
        ):
            report.note("models.recommend knows later events")
            raise error

    with pytest.raises(type(error)):
        run()
    return log.getvalue(), NightFacts.model_validate_json((Path(night.store.report(DAY)) / "run.json").read_text())


def test_a_failed_night_says_why_what_is_left_and_how_to_go_on(config):
    put(Store(config.store), DAY - timedelta(days=3))
    put(Store(config.store), DAY - timedelta(days=1), seconds={"inputs": 9.0})
    said, facts = fail(config, InputError("inputs.purchases: gone"))
    assert said.startswith("FAILED 2026-03-01 | Nothing new was published. Readers find the data of 2026-02-28 | ")
    assert (facts.outcome, facts.exit_code, facts.reason) == ("failed", 5, "inputs.purchases: gone")
    assert facts.command == "regulars nightly --config 'my shop.yaml' --run-date 2026-03-01"
    assert [(one.table, one.rule, one.rows) for one in facts.rejected] == [("purchases", "unknown_item", 7)]
    assert [(one.table, one.hours, one.rows) for one in facts.input_ages] == [("purchases", 3.25, 100)]
    assert [(one.run_date, one.state) for one in facts.days[-5:]] == [
        (DAY - timedelta(days=4), "before"),
        (DAY - timedelta(days=3), "published"),
        (DAY - timedelta(days=2), "missing"),
        (DAY - timedelta(days=1), "published"),
        (DAY, "failed"),
    ]
    assert facts.notes == ["models.recommend knows later events"]
    page = (Path(Store(config.store).report(DAY)) / "index.html").read_text()
    assert "inputs.purchases: gone" in page
    assert "2026-02-25: before the first night" in page


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (GateRefused("too few rows"), "kept", 4),
        (DeadlinePassed("the deadline passed"), "kept", 4),
        (KeyboardInterrupt(), "failed", 130),
        (ValueError("anna@example.com"), "failed", 1),
    ],
)
def test_each_end_of_a_night_has_its_outcome_and_no_value_of_a_row(config, error, outcome, code):
    put(Store(config.store), DAY - timedelta(days=1))
    _, facts = fail(config, error)
    assert (facts.outcome, facts.exit_code) == (outcome, code)
    assert "anna" not in facts.model_dump_json()


def test_nothing_was_kept_where_nothing_was_published(config):
    _, facts = fail(config, GateRefused("too few rows"))
    assert facts.outcome == "failed"
    assert facts.newest_published is None


def test_the_margin_to_the_deadline_is_that_of_the_end(config):
    at = datetime.now(UTC) + timedelta(hours=1)
    _, facts = fail(config, InputError("x"), Deadline(at, "05:30"))
    assert facts.deadline == "05:30"
    assert facts.deadline_margin_seconds == pytest.approx(3600, abs=60)


def test_an_error_in_the_report_is_a_warning_and_the_nights_own_error_counts(config, monkeypatch):
    def broken(*_: object) -> str:
        raise RuntimeError("anna@example.com")

    monkeypatch.setattr(write, "render", broken)
    log = io.StringIO()
    night = Night("the-run", DAY, Store(config.store), versions={})
    with (
        pytest.raises(InputError, match="gone"),
        reported(NO_SPARK, config, CONFIG, night, Console(file=log, width=400)),
    ):
        raise InputError("gone")
    assert (
        log.getvalue() == "Warning: the report could not be reported (RuntimeError); the night itself is not affected\n"
    )


def test_a_report_can_be_turned_off(config):
    off = config.model_copy(update={"report": config.report.model_copy(update={"write": False})})
    night = Night("the-run", DAY, Store(config.store), versions={})
    with reported(NO_SPARK, off, CONFIG, night, Console(file=io.StringIO())):
        pass
    assert not (Path(config.store) / "reports").exists()


def test_a_night_that_lost_the_lock_leaves_the_report_to_the_run_that_has_it(config):
    night = Night("the-run", DAY, Store(config.store), versions={})
    console = Console(file=io.StringIO())
    with pytest.raises(StoreBusy), reported(NO_SPARK, config, CONFIG, night, console):
        raise StoreBusy("another run took the store")
    assert not (Path(config.store) / "reports").exists()


def test_a_failed_nights_report_is_written_again_with_todays_dates(config):
    _, before = fail(config, InputError("inputs.purchases: gone"))
    put(Store(config.store), DAY - timedelta(days=3))
    facts, line = rewrite(NO_SPARK, config, CONFIG, DAY)
    assert facts.days[-4].state == "published"
    assert facts.reason == before.reason
    assert facts.finished_at == before.finished_at
    assert facts == read_facts(NO_SPARK, Store(config.store), DAY)
    assert line.startswith("FAILED 2026-03-01")


def test_a_killed_night_has_a_report_by_its_record_alone(config):
    store = Store(config.store)
    path = Path(store.attempt(DAY))
    path.parent.mkdir(parents=True)
    record = {"run_id": "killed", "run_date": str(DAY), "status": "running", "started_at": "2026-03-02T02:30:00+00:00"}
    path.write_text(json.dumps(record))
    facts, _ = rewrite(NO_SPARK, config, CONFIG, DAY)
    assert facts.outcome == "failed"
    assert "killed" in facts.reason
    with pytest.raises(UsageError, match=r"no night of 2026-01-01 was ever run"):
        rewrite(NO_SPARK, config, CONFIG, date(2026, 1, 1))


def test_a_night_without_lists_has_a_report(config):
    store = Store(config.store)
    put(
        store,
        DAY,
        "reviews-alone",
        seconds={"inputs": 2.0},
        rows={"sentiment.scored": 5, "reviews.read": 5, "customers": 7},
    )
    shutil.rmtree(store.table("recommendations"))
    facts, line = rewrite(NO_SPARK, config, CONFIG, DAY)
    assert (facts.outcome, facts.run_id, facts.changes, facts.replays) == ("published", "reviews-alone", None, [])
    assert [(one.task, one.scored) for one in facts.tasks] == [("sentiment", 5)]
    assert [(one.table, one.read) for one in facts.inputs] == [("reviews", 5)]
    assert line.startswith("PUBLISHED 2026-03-01 | 0 labelled reviews | ")


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_erasure_deletes_all_reports_because_none_says_whose_lists_it_shows(config, dry_run):
    fail(config, InputError("gone"))
    store = Store(config.store)
    done = erase_customers(NO_SPARK, store, "erase-1", {}, Needles(["anna"], []), dry_run=dry_run)
    assert done.rows["reports"] == 1
    assert (Path(store.root) / "reports").exists() == dry_run


@pytest.mark.parametrize("write_page", [True, False])
def test_the_file_for_prometheus_needs_no_page_and_fails_no_night(config, tmp_path, write_page):
    path = tmp_path / "metrics" / "regulars.prom"
    settings = config.report.model_copy(update={"prometheus": str(path), "write": write_page})
    config = config.model_copy(update={"report": settings})
    log, console = io.StringIO(), Console(width=400)
    console.file = log
    night = Night("the-run", DAY, Store(config.store), None, versions={})
    report = write.NightReport(NO_SPARK, config, CONFIG, night, console)
    report.write(InputError("inputs.purchases: gone"))
    assert "report.prometheus" in log.getvalue()  # its folder is missing
    path.parent.mkdir()
    report.write(InputError("inputs.purchases: gone"))
    assert "regulars_night_exit_code 5.0" in path.read_text()
    assert Path(night.store.report(DAY)).exists() == write_page
