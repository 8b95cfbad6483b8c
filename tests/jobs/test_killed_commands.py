"""Every writing command, and a training, killed or interrupted at random moments.

Readers see whole dates, no process is left, and the next command leaves no folder of the killed one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.commands import Place, publish_twice, wait_until_stopped
from tests.nights import left_running, tables, wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults

#: Seconds after its lock within which a command is killed: about as long as it works.
SECONDS = {"nightly": 15.0, "backfill": 25.0, "train": 8.0, "gc": 6.0, "rollback": 1.0, "unpublish": 0.3}
#: These hold the lock so briefly that they first stop where their change begins.
SHORT = ("rollback", "unpublish")
#: Each command is killed twice and interrupted once.
MOMENTS = [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGTERM, 2)]


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shop lies; needs the session so that commands in this process have one."""
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def published() -> list[Place]:
    """The shop once it is made, by the first test that needs it."""
    return []


@pytest.mark.parametrize("command", SECONDS)
def test_ended_at_a_random_moment(
    published: list[Place], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    if not published:
        published.append(publish_twice(folder / "shop", capfd))
    shop, store = published[0].shop, tmp_path / "store"
    place = Place(shop, store)
    old, new = versions(published[0].store)
    for number, seed in MOMENTS:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(published[0].store, store)
        scratch = tmp_path / f"spark-{seed}"
        scratch.mkdir()
        where = f"{command}, signal {number}, seed {seed}"
        end_at_random(place, command, number, scratch, random.Random(f"{command} {seed}"), where)
        assert_whole(store, shop.day.isoformat(), [old, new], where, may_mix=True)
        code, said = place.run(capfd, "gc")
        assert code == 0, f"{where}: {said}"
        assert_whole(store, shop.day.isoformat(), [old, new], where, may_mix=False)
        for room in ("staging", "work", "scratch", "intents"):
            assert not list((store / room).glob("*")), f"{where}: {room}"
        gone = not (store / f"tables/runs/run_date={shop.day}").exists()
        code, said = place.run(capfd, command)
        assert code == (2 if command == "unpublish" and gone else 0), f"{where}: {said}"
        assert not (shop.folder / "models/recommend.training").exists(), where


def end_at_random(place: Place, command: str, number: int, scratch: Path, generator: random.Random, where: str) -> None:
    """Start a command, end it by a signal at a random moment of its work and see that nothing of it stays."""
    # Java's temporary files are Spark's: they go with the JVM.
    local = f"spark.spark.local.dir={scratch}"
    process = place.start(command, local, pauses=["intent-opened"] if command in SHORT else [])
    try:
        if command in SHORT:
            wait_until_stopped(process)
            os.kill(process.pid, signal.SIGCONT)
        else:
            lock, scratches = place.store / "lock", place.store / "scratch"
            wait_for(lambda: lock.read_text() or list(scratches.glob("*.live")), process)
        time.sleep(generator.uniform(0, SECONDS[command]))
        family = children(process)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    ended = -signal.SIGKILL if number == signal.SIGKILL else 130
    assert process.returncode in (0, ended), f"{where}: {said}"
    assert "Traceback" not in said, f"{where}: {said}"
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == [], where
    assert left_running(place.store) == [], where
    assert not list(scratch.iterdir()), where


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below one; none where it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def versions(store: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The files of the date's first and second version, by the SHA-256 of their rows."""
    (replaced,) = [folder for folder in (store / "trash").iterdir() if (folder / "tables").exists()]
    old, new = flat(replaced), flat(store)
    assert old.keys() == new.keys()
    assert old["recommendations"] != new["recommendations"]
    return old, new


def flat(root: Path) -> dict[str, str]:
    """The only file of each table below a folder, by the SHA-256 of its rows."""
    return {table: digest for table, files in tables(root).items() for digest in files.values()}


def assert_whole(store: Path, day: str, allowed: Sequence[dict[str, str]], where: str, *, may_mix: bool) -> None:
    """Each table of the date is of one of the versions, or absent; without `may_mix` all tables are of the same one."""
    seen = {
        table: digest
        for table, files in tables(store).items()
        for name, digest in files.items()
        if f"run_date={day}" in name
    }
    if may_mix:
        assert all(digest in [version[table] for version in allowed] for table, digest in seen.items()), where
    else:
        assert seen in ({}, *allowed), where
    runs = {path.parent.name for path in (store / "tables/runs").glob("*/*.parquet")}
    for table in allowed[0]:
        dates = {path.parent.name for path in (store / f"tables/{table}").glob("*/*.parquet")}
        assert may_mix or dates == runs, f"{where}: {table}"
