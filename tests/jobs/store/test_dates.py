"""The state of every date, and which of them a backfill runs."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs.spark.errors import InputError
from jobs.store.attempts import read_attempts, record_attempt, record_waiting
from jobs.store.dates import date_states, dates_to_run, days_between, known_span
from jobs.store.lock import lock
from jobs.store.store import Store
from tests import ROOT
from tests.jobs.spark.test_files import NO_SPARK
from tests.published import put

FIRST = date(2026, 3, 1)
TODAY = {"regulars": "1", "recommend": "m2", "settings": "s"}


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


class Stop(Exception):
    """A defect."""


def fail(store: Store, at: date, error: BaseException, run_id: str = "failed-run") -> None:
    with pytest.raises(type(error)), record_attempt(NO_SPARK, store, run_id, at):
        raise error


def test_a_foreign_folder_among_the_attempts_is_skipped(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record_waiting(NO_SPARK, store, "backfill", date(2026, 3, 1))
    (tmp_path / "attempts/sub").mkdir()
    assert list(read_attempts(NO_SPARK, store)) == [date(2026, 3, 1)]


def test_every_state_is_told_from_the_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert known_span(NO_SPARK, store) is None
    assert [one.state for one in date_states(NO_SPARK, store, [day(0)], TODAY)] == ["missing"]
    put(store, day(0), versions=TODAY | {"catalogue": "changes nightly"})
    put(store, day(1), versions=TODAY | {"recommend": "m1", "settings": "t"})
    put(store, day(2), versions=TODAY, status="deadline", rows={"recommend.late": 40, "sentiment.late": 2})
    put(store, day(3), versions=TODAY, lists=0)
    fail(store, day(4), InputError("inputs.purchases: gone"))
    put(store, day(5), versions=TODAY)
    fail(store, day(5), Stop("contains a customer's name"))
    fail(store, day(6), KeyboardInterrupt())
    record_waiting(NO_SPARK, store, "backfill-1", day(8))
    # Killed after its intent was written: the next command published it, so its record says nothing any more.
    put(store, day(9), "killed-run", versions=TODAY)
    Path(store.attempt(day(9))).write_text(
        json.dumps({"run_id": "killed-run", "run_date": str(day(9)), "status": "running", "started_at": "x"})
    )
    (tmp_path / "attempts/2026-03-11.json.ab12.tmp").write_text("{")
    with lock(NO_SPARK, store, "now"), record_attempt(NO_SPARK, store, "now", day(10)):
        found = date_states(NO_SPARK, store, days_between(day(0), day(10)), TODAY)
    told = {one.run_date.day - 1: (one.state, one.detail) for one in found}
    assert told[0] == ("published", "")
    assert told[1] == ("stale", "other recommend, settings")
    assert told[2] == ("stale", "42 requests left at the deadline")
    assert told[3] == ("empty", "")
    assert told[4] == ("failed", "inputs.purchases: gone")
    assert told[5] == ("failed", "Stop, a defect: see the run's log; older data is published")
    assert told[6] == ("failed", "interrupted")
    assert told[7] == ("missing", "")
    assert told[8][0] == "failed"
    assert "waited for its turn" in told[8][1]
    assert told[9] == ("published", "")
    assert told[10][0] == "running"
    assert known_span(NO_SPARK, store) == (day(0), day(9))  # what ran with success has no record
    one = found[0]
    assert (one.rows, one.run.run_id, one.run.wall_seconds) == (3, "2026-03-01-run", 120)

    chosen = {
        mode: sorted(d.day - 1 for d in dates_to_run(found, mode)) for mode in ("missing", "failed", "stale", "all")
    }
    assert chosen == {"missing": [4, 6, 7, 8], "failed": [4, 5, 6, 8], "stale": [1, 2], "all": list(range(10))}
    assert dates_to_run(found, "stale")[day(1)] == "stale: other recommend, settings"


def test_a_killed_run_is_not_running(tmp_path: Path) -> None:
    """Neither where nobody holds the store nor where another run does."""
    store = Store(str(tmp_path))
    record = {"run_id": "killed", "run_date": str(FIRST), "status": "running", "started_at": "2026-03-02T02:00:00"}
    (tmp_path / "attempts").mkdir()
    Path(store.attempt(FIRST)).write_text(json.dumps(record))
    (one,) = date_states(NO_SPARK, store, [FIRST], TODAY)
    assert (one.state, one.detail) == ("failed", "killed; it ran since 2026-03-02T02:00:00")
    with lock(NO_SPARK, store, "another"):
        (one,) = date_states(NO_SPARK, store, [FIRST], TODAY)
    assert one.state == "failed"


def test_a_run_that_was_killed_on_another_host_is_not_running(tmp_path: Path) -> None:
    """Its text stays in the lock file of a shared volume, but the kernel has released the lock."""
    store = Store(str(tmp_path))
    record = {"run_id": "killed", "run_date": str(FIRST), "status": "running", "started_at": "2026-03-02T02:00:00"}
    (tmp_path / "attempts").mkdir()
    Path(store.attempt(FIRST)).write_text(json.dumps(record))
    elsewhere = {"host": "pod-7", "machine": "another", "pid": 1, "process_started": 0.0, "since": "02:00"}
    Path(store.lock_file).write_text(json.dumps({"run_id": "killed", **elsewhere}))
    (one,) = date_states(NO_SPARK, store, [FIRST], TODAY)
    assert (one.state, one.detail) == ("failed", "killed; it ran since 2026-03-02T02:00:00")
    assert dates_to_run([one], "missing") == {FIRST: "failed"}


def test_a_record_is_gone_once_its_date_is_published(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    fail(store, FIRST, Stop())
    with record_attempt(NO_SPARK, store, "second", FIRST):
        assert read_attempts(NO_SPARK, store)[FIRST].run_id == "second"
    assert read_attempts(NO_SPARK, store) == {}


def test_reading_the_runs_starts_no_thread_of_arrow(store: Store) -> None:
    """A thread that outlives a short command aborts it: `terminate called without an active exception`."""
    put(store, date(2026, 3, 1))
    script = f"""
import os
from datetime import date
from jobs.store.dates import published_runs
from jobs.store.store import Store
import pyarrow.parquet
before = len(os.listdir("/proc/self/task"))
assert published_runs(None, Store({store.root!r}), [date(2026, 3, 1)])
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
