"""The table "Two commands at once" of jobs/store/README.md, pair by pair, with commands that really run at once.

The first command is a process that stops itself at a named point. Meanwhile the second ones run in this process, which
has a Spark session already. Then the first one goes on to its end.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from lm.checkpoint.fingerprint import model_fingerprint
from tests import ROOT
from tests.commands import Place, end_of, publish_twice, wait_until_stopped
from tests.nights import tables, wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults

COMMANDS = ("nightly", "backfill", "rollback", "unpublish", "gc", "erase", "train", "plan", "status", "evaluate")
WRITERS = ("nightly", "backfill", "rollback", "unpublish", "gc", "erase")
#: What the second training of a pair learns is another model.
OTHER = "train.recommend.n_embd=8"

Run = Callable[..., tuple[int, str]]
Start = Callable[..., subprocess.Popen[str]]


def agreed() -> dict[tuple[str, str], str]:
    """The letters of the page: (the command that runs, the one that starts) to the letter."""
    page = (ROOT / "jobs/store/README.md").read_text(encoding="utf-8")
    lines = page.split("### Two commands at once")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    columns = rows[0][1:]
    return {(row[0], column): letter for row in rows[2:] for column, letter in zip(columns, row[1:], strict=True)}


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shop lies; needs the session so that commands in this process have one."""
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def published() -> list[Place]:
    """The shop once it is made, by the first test that needs it."""
    return []


@pytest.fixture
def place(published: list[Place], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """A copy of the store; the model is as it was when the test ends."""
    model, kept = folder / "shop/models/recommend", folder / "model"
    if not published:
        published.append(publish_twice(folder / "shop", capfd))
        shutil.copytree(model, kept)
    store = tmp_path / "store"
    shutil.copytree(published[0].store, store)
    yield Place(published[0].shop, store)
    for left in (model, model.with_name("recommend.training")):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(kept, model)


@pytest.fixture
def run(place: Place, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process to its end."""
    return lambda command, *overrides, **more: place.run(capfd, command, *overrides, **more)


@pytest.fixture
def paused(place: Place) -> Iterator[Start]:
    """Starts a command and waits until it has stopped at a point; it does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(command: str, point: str, *overrides: str, of_model: bool = False) -> subprocess.Popen[str]:
        processes.append(place.start(command, *overrides, pauses=[point], of_model=of_model))
        wait_until_stopped(processes[-1])
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def assert_is_refused(code: int, said: str, first: subprocess.Popen[str]) -> None:
    """Letter B: exit code 75, and the message names the holder and the way on."""
    assert code == 75, said
    assert re.search(rf"Run \S+ holds the store .* \(process {first.pid} on ", said)
    assert "run the same command again" in said


def letters_of(runs: str, seconds: Sequence[str]) -> set[str]:
    """The page's letters for a first command and some second ones."""
    table = agreed()
    return {table[runs, starts] for starts in seconds}


def test_the_table_has_every_pair() -> None:
    assert agreed().keys() == {(runs, starts) for runs in COMMANDS for starts in COMMANDS}


@pytest.mark.parametrize(
    ("runs", "letter", "point"),
    [
        ("nightly", "B", "swap-done"),
        ("backfill", "N", "swap-done"),
        ("rollback", "B", "swap-done"),
        ("unpublish", "B", "retired"),
        ("gc", "B", "retired"),
        ("erase", "B", "rows-removed"),
    ],
)
def test_a_writing_command_refuses_another(
    place: Place, run: Run, paused: Start, runs: str, letter: str, point: str
) -> None:
    """Letters B and N; and the readers of the table's other columns, in the middle of the exchange of folders."""
    assert letters_of(runs, WRITERS) == {letter}
    first = paused(runs, point)
    before = tables(place.store)
    for starts in WRITERS:
        assert_is_refused(*run(starts), first)
    assert tables(place.store) == before
    table = agreed()
    for starts in ("plan", "status", "evaluate"):
        code, said = run(starts)
        allowed = {"U": {0, 5, 75}, "G": {75}}.get(table[runs, starts], {0})
        assert code in allowed, f"{starts}: {said}"
        if table[runs, starts] == "S":
            assert re.search("▶|running", said), said
        if table[runs, starts] == "G":
            assert re.search(rf"regulars {runs} \(process \d+ on .*rewrites the ledger", said), said
    code, said = end_of(first)
    assert code == 0, said


@pytest.mark.parametrize("runs", ["nightly", "backfill"])
def test_a_night_keeps_its_model_when_another_is_trained(place: Place, run: Run, paused: Start, runs: str) -> None:
    """Letter T, a writing command first."""
    assert letters_of(runs, ["train"]) == {"T"}
    model = place.shop.folder / "models/recommend"
    old = model_fingerprint(model)
    first = paused(runs, "requests-written", "recommend.k=3")  # the ledger has no answers of three products
    code, said = run("train", OTHER)
    assert code == 0, said
    assert model_fingerprint(model) != old
    code, said = end_of(first)
    assert code == 0, said
    day = place.shop.day + timedelta(days=runs == "backfill")
    lists = pd.read_parquet(place.store / f"tables/recommendations/run_date={day}")
    assert set(lists.model_version) == {old}


def test_a_training_disturbs_nobody(place: Place, run: Run, paused: Start) -> None:
    """Letters T, E, F and –, the training first. Beside it every other command runs to its end."""
    others = [command for command in COMMANDS if command != "train"]
    assert letters_of("train", others) == {"T", "E", "F", "–"}
    first = paused("train", "inputs-read")
    for starts in ("nightly", "rollback", "backfill", "gc", "erase", "plan", "status", "evaluate", "unpublish"):
        code, said = run(starts)
        assert code == (75 if starts == "erase" else 0), f"{starts}: {said}"
        assert starts != "erase" or "Everything else is erased. Run the same command again" in said
    code, said = end_of(first)
    assert code == 0, said
    code, said = run("erase")
    assert code == 0, said
    assert not any((place.store / "scratch").iterdir())


def test_two_trainings_of_one_model(place: Place, run: Run, paused: Start) -> None:
    """Letter M."""
    assert letters_of("train", ["train"]) == {"M"}
    first = paused("train", "inputs-read")
    lock = place.shop.folder / "models/recommend.training/lock"
    os.kill(first.pid, signal.SIGCONT)
    wait_for(lock.exists, first)
    first.send_signal(signal.SIGSTOP)
    code, said = run("train", OTHER)
    assert code == 75, said
    assert "another training writes" in said
    code, said = end_of(first)
    assert code == 0, said


@pytest.mark.parametrize("runs", ["plan", "status", "evaluate"])
def test_a_reading_command_disturbs_nobody(place: Place, run: Run, paused: Start, runs: str) -> None:
    """Letters L, S, R, E and –, a reading command first. Only `plan` reads the ledger: `gc` and `erase` wait for it."""
    assert letters_of(runs, ["nightly", "backfill"]) <= {"L", "S", "R"}
    assert letters_of(runs, ["gc"]) == ({"G"} if runs == "plan" else {"–"})
    assert letters_of(runs, ["erase"]) == {{"plan": "G", "status": "–", "evaluate": "E"}[runs]}
    first = paused(runs, "runs-read" if runs == "status" else "inputs-read")
    for starts in ("nightly", "backfill", "rollback", "plan", "status", "evaluate", "gc", "erase"):
        code, said = run(starts)
        waits = starts in {"plan": ("gc", "erase"), "evaluate": ("erase",)}.get(runs, ())
        assert code == (75 if waits else 0), f"{starts}: {said}"
    code, said = end_of(first)
    assert code == 0, said


@pytest.mark.parametrize("runs", ["plan", "status", "evaluate"])
def test_a_date_disappears_under_a_reading_command(place: Place, run: Run, paused: Start, runs: str) -> None:
    """Letter U."""
    assert letters_of(runs, ["unpublish"]) == {"U"}
    first = paused(runs, "runs-read" if runs == "status" else "inputs-read")
    code, said = run("unpublish")
    assert code == 0, said
    code, said = end_of(first)
    assert code in (0, 75), said
    if code == 75:
        assert "Run the same command again" in said


@pytest.mark.parametrize(("runs", "expected"), [("plan", 75), ("evaluate", 75), ("status", 0)])
def test_a_model_is_replaced_under_a_reading_command(
    place: Place, run: Run, paused: Start, runs: str, expected: int
) -> None:
    """Letter F, a reading command first."""
    assert letters_of(runs, ["train"]) == {"F"}
    point = "runs-read" if runs == "status" else "inputs-read"
    first = paused(runs, point, of_model=True)
    code, said = run("train", OTHER)
    assert code == 0, said
    code, said = end_of(first)
    assert code == expected, said
    if code == 75:
        assert re.search("changed|replaced", said)
        assert re.search("[Rr]un the same command again", said)
    code, said = run("status")
    assert code == 0, said
    assert re.search("model.*changed|recommend", said), said


def test_another_command_takes_the_store_between_two_dates(place: Place, run: Run, paused: Start) -> None:
    """Letter N, between two dates of the backfill."""
    first = paused("backfill", "date-done")
    second = paused("nightly", "inputs-read")
    code, said = end_of(first)
    assert code == 75, said
    assert f"(process {second.pid} on " in said
    assert re.search(r"1 of 2 dates are published.* --reprocess failed", said)
    code, said = end_of(second)
    assert code == 0, said
