"""A crash at any point of a swap leaves whole folders, old or new, and the next command makes them all new."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.spark import fault_points
from jobs.spark.errors import ConfigurationError
from jobs.store import date_swap
from jobs.store.date_swap import Intent
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.store import Store
from lm.checkpoint.folder_exchange import exchange_folders
from tests import ROOT
from tests.jobs.spark.test_files import NO_SPARK, mount

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Passages of each point in one commit of the change below, with an exchange and without.
EXCHANGED = {
    "intent-opened": 1,
    "swap-exchanged": 2,
    "swap-done": 3,
    "retired": 1,
    "intent-closed": 1,
}
RENAMED = {**{k: n for k, n in EXCHANGED.items() if k != "swap-exchanged"}, "swap-moved-out": 2}
CRASHES = [
    (exchange, f"{point}:{nth}")
    for exchange, points in ((True, EXCHANGED), (False, RENAMED))
    for point, passages in points.items()
    for nth in range(1, passages + 1)
]

OLD = {
    "tables/a/run_date=2026-03-01": ["old a"],
    "tables/b/run_date=2026-03-01": ["old b1", "old b2"],
    "ledger/t/w1": ["w1"],
}
NEW = {
    "tables/a/run_date=2026-03-01": ["new a1", "new a2"],
    "tables/b/run_date=2026-03-01": ["new b"],
    "tables/c/run_date=2026-03-01": ["new c"],
}

DATE = "tables/a/run_date=2026-03-01"


class Killed(BaseException):
    """Stands for SIGKILL where the test must live on; nothing of ours catches it."""


def prepare(root: Path) -> None:
    """A store with two published folders and a wave, and a run that has staged three folders and retires the wave."""
    for folder, texts in OLD.items():
        fill(root / folder, texts)
    for folder, texts in NEW.items():
        fill(root / "staging/run" / folder, texts)


def fill(folder: Path, texts: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"part-{number:05d}.parquet").write_text(text)


def intent(spark: SparkSession, store: Store) -> Intent:
    swaps = [date_swap.prepare_swap(spark, store, f"{store.staging('run')}/{f}", f"{store.root}/{f}") for f in NEW]
    return Intent("run", swaps, ("ledger/t/w1",))


def contents(root: Path) -> dict[str, list[str]]:
    """What a reader finds, by folder."""
    parts = sorted([*root.glob("tables/*/*/*"), *root.glob("ledger/*/*/*")])
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(str(part.parent.relative_to(root)), []).append(part.read_text())
    return found


def assert_whole(root: Path, *, may_be_missing: bool = False) -> None:
    found = contents(root)
    for folder in NEW:
        allowed = [OLD.get(folder), NEW[folder]] + ([None] if may_be_missing else [])
        assert found.get(folder) in allowed, folder


def assert_all_new(root: Path) -> None:
    assert contents(root) == NEW
    rooms = {p.relative_to(root).parts[0] for p in root.rglob("*") if p.is_file()}
    assert rooms <= {"tables", "trash"}  # what was replaced stays for readers that were just listing it


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def die() -> None:
        raise Killed

    monkeypatch.setattr(fault_points, "_kill", die)
    monkeypatch.setattr(fault_points, "_passages", Counter())
    return monkeypatch


def commit_until(point: str, spark: SparkSession, store: Store, killed: pytest.MonkeyPatch) -> None:
    fault_points._passages.clear()
    killed.setenv(fault_points.VARIABLE, point)
    with pytest.raises(Killed):
        date_swap.commit(spark, store, intent(spark, store))
    killed.delenv(fault_points.VARIABLE)


@pytest.mark.parametrize(("exchange", "point"), CRASHES)
def test_every_crash_is_finished_by_the_next_command(
    tmp_path: Path, killed: pytest.MonkeyPatch, exchange: bool, point: str
) -> None:
    if not exchange:
        killed.setattr(date_swap, "exchange_folders", lambda one, other: False)
    prepare(tmp_path)
    store = Store(str(tmp_path))
    commit_until(point, NO_SPARK, store, killed)
    assert_whole(tmp_path, may_be_missing=not exchange)
    said = recover(NO_SPARK, store)
    assert_all_new(tmp_path)
    assert len(said) == (0 if point.startswith("intent-closed") else 1)
    assert recover(NO_SPARK, store) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_every_fault_point_was_meant(tmp_path: Path, killed: pytest.MonkeyPatch, exchange: bool) -> None:
    """The list of crashes above is complete: a commit passes just these points."""
    if not exchange:
        killed.setattr(date_swap, "exchange_folders", lambda one, other: False)
    prepare(tmp_path)
    killed.setenv(fault_points.VARIABLE, "found-written:99")
    date_swap.commit(NO_SPARK, Store(str(tmp_path)), intent(NO_SPARK, Store(str(tmp_path))))
    assert fault_points._passages == (EXCHANGED if exchange else RENAMED)
    assert_all_new(tmp_path)


def test_a_crash_while_recovering_is_recovered_too(tmp_path: Path, killed: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    store = Store(str(tmp_path))
    commit_until("swap-exchanged:1", NO_SPARK, store, killed)
    for point in ("swap-exchanged", "swap-done:1", "retired", "intent-closed"):
        fault_points._passages.clear()
        killed.setenv(fault_points.VARIABLE, point)
        try:
            recover(NO_SPARK, store)
        except Killed:
            assert_whole(tmp_path)
    killed.delenv(fault_points.VARIABLE)
    recover(NO_SPARK, store)
    assert_all_new(tmp_path)


def test_a_real_kill_between_two_swaps(tmp_path: Path) -> None:
    prepare(tmp_path)
    script = (
        "import sys; from tests.jobs.store.test_date_swap import *; store = Store(sys.argv[1]);"
        "date_swap.commit(NO_SPARK, store, intent(NO_SPARK, store))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = os.environ | {fault_points.VARIABLE: "swap-done:1", "PYTHONPATH": str(ROOT)}
    died = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert contents(tmp_path) == OLD | {"tables/a/run_date=2026-03-01": NEW["tables/a/run_date=2026-03-01"]}
    assert recover(NO_SPARK, Store(str(tmp_path))) == [f"finished the interrupted publish of run run: {', '.join(NEW)}"]
    assert_all_new(tmp_path)


def test_a_store_copied_after_the_crash_recovers_in_its_new_place(tmp_path: Path, killed: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "here")
    commit_until("swap-exchanged:2", NO_SPARK, Store(str(tmp_path / "here")), killed)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    recover(NO_SPARK, Store(str(tmp_path / "there")))
    assert_all_new(tmp_path / "there")


@pytest.mark.parametrize("damage", ["staged folder gone", "staged file cut", "staged file foreign"])
@pytest.mark.parametrize(
    ("exchange", "point"),
    [(e, p) for e, p in CRASHES if p.startswith(("intent-opened", "swap")) and p != "swap-done:3"],
)
def test_lost_files_undo_the_run(
    tmp_path: Path, killed: pytest.MonkeyPatch, point: str, damage: str, exchange: bool
) -> None:
    """Someone tidied up `staging`, or the disk did: what was swapped goes back, nothing is mixed."""
    if not exchange:
        killed.setattr(date_swap, "exchange_folders", lambda one, other: False)
    prepare(tmp_path)
    store = Store(str(tmp_path))
    commit_until(point, NO_SPARK, store, killed)
    last = tmp_path / "staging/run/tables/c/run_date=2026-03-01"
    if damage == "staged folder gone":
        shutil.rmtree(last)
    elif damage == "staged file cut":
        os.truncate(last / "part-00000.parquet", 3)
    else:
        (last / "part-00000.parquet").write_text("NEW C")
    said = recover(NO_SPARK, store)
    assert said[0].startswith("undid run run, whose staged files are damaged")
    assert contents(tmp_path) == OLD
    assert [
        p for p in tmp_path.rglob("*") if p.is_file() and p.parts[len(tmp_path.parts)] not in ("tables", "ledger")
    ] == []


def test_a_folder_that_was_not_there_is_gone_again_after_an_undo(tmp_path: Path, killed: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "staging/run/tables/a/run_date=2026-03-01", ["new a"])
    fill(tmp_path / "staging/run/tables/b/run_date=2026-03-01", ["new b"])
    store = Store(str(tmp_path))
    swaps = [
        date_swap.prepare_swap(NO_SPARK, store, f"{store.staging('run')}/{f}", f"{store.root}/{f}")
        for f in ("tables/a/run_date=2026-03-01", "tables/b/run_date=2026-03-01")
    ]
    killed.setenv(fault_points.VARIABLE, "swap-done:1")
    with pytest.raises(Killed):
        date_swap.commit(NO_SPARK, store, Intent("run", swaps))
    killed.delenv(fault_points.VARIABLE)
    shutil.rmtree(tmp_path / "staging")
    recover(NO_SPARK, store)
    assert contents(tmp_path) == {}


def test_what_dead_runs_left_behind_goes(tmp_path: Path) -> None:
    for folder in ("staging/dead/x", "work/dead/y", "trash/dead/z", "tables/a/run_date=2026-03-01", "ledger/t/wave=1"):
        fill(tmp_path / folder, ["1"])
    fill(tmp_path / "intents", [])
    (tmp_path / "intents/dead.json.1234.tmp").write_text('{"half":')
    assert recover(NO_SPARK, Store(str(tmp_path))) == []
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["ledger/t/wave=1/part-00000.parquet", "tables/a/run_date=2026-03-01/part-00000.parquet"]


def test_an_intent_that_is_no_json_file_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "intents/run.json").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"intents/run.json is damaged"):
        recover(NO_SPARK, store)
    (tmp_path / "intents/run.json").rmdir()
    (tmp_path / "intents/run.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"intents/run.json is damaged"):
        recover(NO_SPARK, store)


def test_foreign_files_in_the_trash_stop_no_command(tmp_path: Path) -> None:
    for name in (".DS_Store", "my notes.txt"):
        (tmp_path / "trash").mkdir(exist_ok=True)
        (tmp_path / "trash" / name).write_text("foreign")
    store = Store(str(tmp_path))
    assert date_swap.next_publish(NO_SPARK, store) == 1
    assert recover(NO_SPARK, store) == []


def test_a_command_that_ends_early_says_what_is_published(
    tmp_path: Path, killed: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Interrupted, or out of room, before, between and in the middle of its publishes."""
    store, days = Store(str(tmp_path)), ("2026-03-01", "2026-03-02")
    killed.setattr(date_swap, "_begun", [])
    killed.setattr(date_swap, "_finished", [])

    def ending(publishes: int, error: BaseException, point: str = "") -> str:
        def command(**_: object) -> None:
            for number in range(publishes):
                fill(Path(store.staging(f"run{number}")) / "a", [f"new {number}"])
                target = f"{store.table('a')}/run_date={days[number]}"
                swap = date_swap.prepare_swap(NO_SPARK, store, f"{store.staging(f'run{number}')}/a", target)
                date_swap.commit(NO_SPARK, store, Intent(f"run{number}", [swap], number=number + 1))
            raise error

        killed.setattr(cli, "app", command)
        with pytest.raises(SystemExit):
            cli.main()
        return " ".join(capfd.readouterr().err.split())

    full = OSError(errno.ENOSPC, "No space left on device")
    assert "Interrupted. Nothing was published. The same" in ending(0, KeyboardInterrupt())
    assert "/tmp). Nothing was published. Make room" in ending(0, full)
    assert "Interrupted. Finished before that: 2026-03-01, 2026-03-02. The same" in ending(2, KeyboardInterrupt())
    assert "/tmp). Finished before that: 2026-03-01, 2026-03-02. Make room" in ending(0, full)

    def interrupt() -> None:
        raise KeyboardInterrupt

    shutil.rmtree(tmp_path / "tables")
    date_swap._begun.clear()
    date_swap._finished.clear()
    killed.setattr(fault_points, "_kill", interrupt)
    killed.setenv(fault_points.VARIABLE, "intent-opened")
    assert "2026-03-01 was being published: the next command that writes finishes" in ending(1, KeyboardInterrupt())


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "../../home"},
        {"run_id": "another"},
        {"retires": ["../outside/a"]},
        {"retires": ["tables/../../outside/a"]},
        {"retires": ["/etc"]},
        {"retires": ["tables/a"]},
        {"retires": ["tables/a/notes"]},
        {"retires": ["tables/link/run_date=2026-03-01"]},
        {"retires": ["tables/a/run_date=2026-03-02/a"]},
        {"retires": [7]},
        {"swaps": [{"staged": "staging/run/a", "target": "../outside/a", "replaces": False, "contents": {}}]},
        {
            "swaps": [
                {"staged": "../outside/a", "target": "tables/a/run_date=2026-03-01", "replaces": False, "contents": {}}
            ]
        },
        {"swaps": [{"staged": "staging/run/a"}]},
        {"swaps": [{"staged": "staging/run/a", "target": DATE, "replaces": False, "contents": None}]},
        {"swaps": [{"staged": "staging/run/a", "target": DATE, "replaces": False, "contents": {"a": 1}}]},
        {"swaps": [{"staged": "staging/run/a", "target": DATE, "replaces": "x", "contents": {}}]},
        {"number": "x"},
    ],
)
def test_a_foreign_intent_is_refused_and_moves_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    store = Store(str(tmp_path / "store"))
    fill(tmp_path / "outside/a", ["payroll"])
    for link in ("tables/link", "tables/a/run_date=2026-03-02"):
        Path(store.root, link).parent.mkdir(parents=True, exist_ok=True)
        Path(store.root, link).symlink_to(tmp_path / "outside")
    fill(tmp_path / "outside/run_date=2026-03-01", ["salaries"])
    Path(store.intents).mkdir(parents=True)
    record = {"run_id": "run", "swaps": [], "retires": [], "number": 1} | change
    Path(store.intents, "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match=r"intents/run.json is damaged, or names paths outside the store"):
        recover(NO_SPARK, store)
    assert not Path(store.trash("run")).exists()
    assert sorted(path.read_text() for path in (tmp_path / "outside").rglob("*.parquet")) == ["payroll", "salaries"]


@pytest.mark.parametrize("point", [f"{point}:1" for point in RENAMED])
def test_elsewhere_every_crash_is_finished_too(
    spark: SparkSession, tmp_path: Path, killed: pytest.MonkeyPatch, point: str
) -> None:
    prepare(tmp_path)
    store = Store(mount(spark, tmp_path))
    with lock(spark, store, "run"):
        commit_until(point, spark, store, killed)
        assert_whole(tmp_path, may_be_missing=True)
    with lock(spark, store, "next"):
        recover(spark, store)
    assert_all_new(tmp_path)


def test_an_unknown_fault_point_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fault_points.VARIABLE, "swap-dome")
    with pytest.raises(KeyError, match=r"swap-dome is no fault point"):
        fault_points.point("swap-done")


COLUMNS = ["user_id", "item_id", "score", "version"]


def read_duckdb(folder: Path) -> pa.Table:
    connection = duckdb.connect()
    return connection.execute(f"SELECT {', '.join(COLUMNS)} FROM '{folder}/*/*.parquet'").to_arrow_table()


def read_pandas(folder: Path) -> pa.Table:
    return pa.Table.from_pandas(pd.read_parquet(folder)[COLUMNS], preserve_index=False)


def read_pyarrow(folder: Path) -> pa.Table:
    return ds.dataset(folder, partitioning="hive").to_table(COLUMNS)


def version_of(version: int) -> pa.Table:
    rng = np.random.default_rng(version)
    rows = 2000 + 137 * version % 500
    columns = [
        [f"u{n:06d}" for n in range(rows)],
        [f"i{n}" for n in rng.integers(0, 500, rows)],
        rng.random(rows),
        np.full(rows, version),
    ]
    return pa.table(columns, COLUMNS)


@pytest.mark.parametrize("read", [read_duckdb, read_pandas, read_pyarrow])
def test_readers_see_one_version_while_it_is_replaced(tmp_path: Path, read: Callable[[Path], pa.Table]) -> None:
    """pandas and pyarrow never fail. DuckDB opens a file again after it read its footer: if the file was replaced in
    between, its query ends with an error (not with wrong rows), and it must be run again."""
    store, folder = Store(str(tmp_path)), tmp_path / "tables/a"
    versions = {n: version_of(n) for n in range(1, 60)}

    def publish(version: int) -> None:
        staged = Path(store.staging(f"run{version}")) / "a"
        staged.mkdir(parents=True)
        pq.write_table(versions[version], staged / "part-00000.parquet")
        change = date_swap.prepare_swap(NO_SPARK, store, str(staged), f"{folder}/run_date=2026-03-01")
        date_swap.commit(NO_SPARK, store, Intent(f"run{version}", [change]))

    publish(1)
    other = tmp_path / "staging"
    if not exchange_folders(folder, other) or not exchange_folders(folder, other):
        pytest.skip("this file system cannot exchange folders: a reader may miss a date for an instant")
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(lambda: [publish(version) for version in versions if version > 1])
        seen = []
        while not publishing.done():
            try:
                rows = read(folder)
            except duckdb.Error:
                continue
            seen.append(rows.column("version")[0].as_py())
            assert rows.cast(versions[1].schema).equals(versions[seen[-1]])
        publishing.result()
    assert seen == sorted(seen)
    assert read(folder).column("version")[0].as_py() == 59
