"""Where things lie, and that one writing command at a time holds a store."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.spark import files
from jobs.spark.errors import ConfigurationError, StoreBusy
from jobs.store import lock
from jobs.store.date_swap import Intent, commit, prepare_swap
from jobs.store.store import Store, published_dates
from tests.jobs.spark.test_files import NO_SPARK, mount

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = date(2026, 3, 1)
#: Another process that takes the lock, says so, and holds it until it is told to go on.
HOLD = """
import sys
from jobs.store.lock import lock
from jobs.store.store import Store
with lock(None, Store(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(store: Store, run_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, store.root, run_id]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_nothing_but_finished_tables_lies_below_tables() -> None:
    store = Store("/data/store/")
    day = date(2026, 3, 1)
    assert store.date_folder("prompts", day) == "/data/store/tables/prompts/run_date=2026-03-01"
    others = [
        store.ledger("t"),
        store.staging("r"),
        store.work("r"),
        store.trash("r"),
        store.intent("r"),
        store.lock_file,
    ]
    assert not [path for path in others if path.startswith(store.tables)]
    assert len(set(others)) == len(others)
    assert Store("hdfs://shop/store/").work("r") == "hdfs://shop/store/work/r"
    assert Store("file:///data/store").root == "/data/store"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "a\0", "a" * 200, "ä"])
def test_names_cannot_leave_their_folder(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder of the store"):
        Store("/data/store").staging(name)


def test_published_dates_are_the_folders(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert published_dates(NO_SPARK, store, "prompts") == []
    for day in ("2026-03-02", "2026-02-28"):
        (tmp_path / "tables/prompts" / f"run_date={day}").mkdir(parents=True)
    assert published_dates(NO_SPARK, store, "prompts") == [date(2026, 2, 28), date(2026, 3, 2)]


def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    other = hold(store, "first-run")
    try:
        with pytest.raises(StoreBusy) as busy, lock.lock(NO_SPARK, store, "second-run"):
            pytest.fail("two runs hold one store")
    finally:
        other.communicate("go on\n", timeout=60)
    said = str(busy.value)
    assert said.startswith(f"Run first-run holds the store {store.root} since 20")
    assert f"(process {other.pid} on {socket.gethostname()})" in said
    assert said.endswith("then run the same command again.")
    assert busy.value.exit_code == 75
    with lock.lock(NO_SPARK, store, "second-run"):
        assert json.loads(Path(store.lock_file).read_text())["run_id"] == "second-run"


def test_a_damaged_text_of_a_held_lock_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    other = hold(store, "first-run")
    try:
        Path(store.lock_file).write_bytes(b"\xff\xfe")
        with pytest.raises(StoreBusy, match="Another run holds the store"), lock.lock(NO_SPARK, store, "second-run"):
            pytest.fail("two runs hold one store")
        assert lock.holder(NO_SPARK, store) is None
        lock.require_lock(NO_SPARK, store)
    finally:
        other.communicate("go on\n", timeout=60)


def test_the_owner_of_a_lock_cannot_write_to_the_terminal() -> None:
    owner = lock.LockOwner("\x1b]0;title\x07", "h\u202eost", "m\n", 7, 1.0, "since\x9b2J")
    assert lock.parse_owner(json.dumps(asdict(owner))) == lock.LockOwner("]0;title", "host", "m", 7, 1.0, "since2J")
    assert lock.parse_owner("[1]") is None


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    other = hold(store, "killed")
    other.send_signal(signal.SIGKILL)
    other.communicate(timeout=60)
    assert other.returncode == -signal.SIGKILL
    with lock.lock(NO_SPARK, store, "next"):
        pass


def test_asking_for_the_holder_takes_nothing_from_the_holder_or_the_next(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert lock.holder(NO_SPARK, store) is None
    with lock.lock(NO_SPARK, store, "one"):
        found = lock.holder(NO_SPARK, store)
        assert found is not None
        assert (found.run_id, found.is_this_process()) == ("one", True)
    assert lock.holder(NO_SPARK, store) is None
    # A reader that asks just now holds the file for an instant: the command waits for it.
    with Path(store.lock_file).open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (asking.fileno(), fcntl.LOCK_UN)).start()
        with lock.lock(NO_SPARK, store, "two"):
            pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "payroll").write_text("salaries")
    (tmp_path / "store").mkdir()
    (tmp_path / "store/lock").symlink_to(tmp_path / "payroll")
    store = Store(str(tmp_path / "store"))
    assert lock.holder(NO_SPARK, store) is None
    with pytest.raises(ConfigurationError, match=r"store/lock is a symbolic link, .* Delete the link"):
        lock.lock(NO_SPARK, store, "run").__enter__()
    assert (tmp_path / "payroll").read_text() == "salaries"


@pytest.mark.parametrize("room", ["work", "trash", "staging", "intents", "attempts", "scratch", "tables/prompts"])
def test_a_link_out_of_the_store_stops_every_writing_command(tmp_path: Path, room: str) -> None:
    (tmp_path / "payroll/2026").mkdir(parents=True)
    link = tmp_path / "store" / room
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "payroll")
    store = Store(str(tmp_path / "store"))
    with pytest.raises(ConfigurationError, match=rf"store/{room} is a symbolic link to .*/payroll, outside the store"):
        lock.lock(NO_SPARK, store, "run").__enter__()
    assert (tmp_path / "payroll/2026").is_dir()


def test_a_store_may_be_reached_by_a_link_and_have_links_within(tmp_path: Path) -> None:
    (tmp_path / "disk/tables").mkdir(parents=True)
    (tmp_path / "disk/ledger").symlink_to(tmp_path / "disk/tables")
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    store = Store(str(tmp_path / "store"))
    with lock.lock(NO_SPARK, store, "run"):
        owner = lock.holder(NO_SPARK, store)
        assert owner is not None
        assert owner.run_id == "run"


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(RuntimeError, match="boom"), lock.lock(NO_SPARK, store, "one"):
        raise RuntimeError("boom")
    with lock.lock(NO_SPARK, store, "two"):
        pass


def test_a_store_that_cannot_be_written_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, not a folder")
    with pytest.raises(ConfigurationError, match=r"store: .* cannot be written .* run the same command again"):
        lock.lock(NO_SPARK, Store(str(tmp_path / "store")), "run").__enter__()


# Elsewhere than on this machine's file systems the lock is a file.


def test_elsewhere_the_lock_is_exclusive_and_goes_with_the_block(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(mount(spark, tmp_path))
    with lock.lock(spark, store, "first"), pytest.raises(StoreBusy, match="Run first holds the store viewfs:"):
        lock.lock(spark, store, "second").__enter__()
    assert files.listdir(spark, store.root) == []


@pytest.mark.parametrize(
    ("machine", "alive", "age", "taken_over"),
    [
        ("elsewhere", False, 60, False),  # touched a minute ago; whether it lives, nobody here can know
        ("elsewhere", False, 3600, True),
        ("here", True, 60, False),
        ("here", False, 60, True),  # killed a minute ago on this very machine
    ],
)
def test_elsewhere_a_stale_lock_is_taken_over(
    spark: SparkSession, tmp_path: Path, machine: str, alive: bool, age: float, taken_over: bool
) -> None:
    store = Store(mount(spark, tmp_path))
    owner = asdict(lock.LockOwner.of_this_process("old"))
    if machine == "elsewhere":  # a container of the same host name in another pid namespace
        owner["machine"] = "another"
    if not alive:
        gone = subprocess.Popen(["true"])
        gone.wait()
        owner["pid"] = gone.pid
    (tmp_path / "lock").write_text(json.dumps(owner))
    os.utime(tmp_path / "lock", (time.time() - age,) * 2)
    if taken_over:
        with lock.lock(spark, store, "new"):
            assert json.loads((tmp_path / "lock").read_text())["run_id"] == "new"
        assert files.listdir(spark, store.root) == []
    else:
        with pytest.raises(StoreBusy, match="Run old holds the store"):
            lock.lock(spark, store, "new").__enter__()


def test_elsewhere_the_owner_keeps_its_lock_fresh_though_a_touch_fails(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_TOUCH_EVERY", 0.05)
    failures, touch = iter([OSError("the name node does not answer"), OSError("nor now")]), files.touch

    def failing_touch(*arguments: Any) -> None:
        for failure in failures:
            raise failure
        touch(*arguments)

    monkeypatch.setattr(files, "touch", failing_touch)
    store = Store(mount(spark, tmp_path))
    with lock.lock(spark, store, "run"):
        os.utime(tmp_path / "lock", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / "lock").stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline, "the lock grows stale while its owner lives"
            time.sleep(0.02)


def test_elsewhere_a_run_whose_lock_was_taken_over_swaps_nothing(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(mount(spark, tmp_path))
    (tmp_path / "staging/slow/prompts").mkdir(parents=True)
    (tmp_path / "staging/slow/prompts/part-00000.parquet").write_text("rows")
    with lock.lock(spark, store, "slow"):
        swap = prepare_swap(spark, store, f"{store.staging('slow')}/prompts", store.date_folder("prompts", DAY))
        taken_over = asdict(lock.LockOwner.of_this_process("next")) | {"machine": "another", "host": "pod-7", "pid": 8}
        (tmp_path / "lock").write_text(json.dumps(taken_over))
        with pytest.raises(lock.LockLost, match=r"lost the lock .* run next \(process 8 on pod-7\) holds it now"):
            commit(spark, store, Intent("slow", [swap]))
    assert published_dates(spark, store, "prompts") == []
    assert json.loads((tmp_path / "lock").read_text())["run_id"] == "next"
