"""Commands that start from a store whose date was published twice: in this process, or as processes of their own.

A second JVM for each command would take longer than most commands, so those that nobody kills run in this process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psutil
import pytest

from jobs import cli
from jobs.spark.fault_points import PAUSE
from tests.nights import Shop, wait_for

#: A training of a second.
TINY = tuple(f"train.recommend.{key}" for key in ("n_embd=16", "n_layer=1", "max_epochs=1", "vocab_size=400"))


@dataclass(frozen=True)
class Place:
    """A shop, whose last two dates are not published yet, and a store."""

    shop: Shop
    store: Path

    def options(self, command: str, *, of_model: bool = False) -> list[str]:
        """The options of a command that has something to do; with `of_model`, `evaluate` judges the model."""
        first, second, last = (str(self.shop.day + timedelta(days=days)) for days in range(3))
        if command == "train" or (command == "evaluate" and of_model):
            named = ["--task", "recommend"] if command == "train" else []
            return ["--protocol", "leave-one-out", "--as-of", first, *named]
        if command == "erase":
            erased = self.shop.folder / "erased.txt"
            erased.write_text(min(pd.read_parquet(self.shop.folder / "data/purchases").user_id), encoding="utf-8")
            return ["--users", str(erased)]
        return {
            "nightly": ["--run-date", first],
            "rollback": ["--run-date", first],
            "unpublish": ["--run-date", first],
            "backfill": ["--from", second, "--to", last],
            "plan": ["--from", first, "--to", first, "--reprocess", "all"],
            "evaluate": ["--run-date", first, "--days", "2"],
        }.get(command, [])

    def run(
        self, capfd: pytest.CaptureFixture[str], command: str, *overrides: str, of_model: bool = False
    ) -> tuple[int, str]:
        """Run a command in this process to its end: its exit code and what it said, in one line."""
        options = self.options(command, of_model=of_model)
        line = self.shop.arguments(self.store, command, *options, overrides=(*TINY, *overrides))
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["regulars", *line])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capfd.readouterr()
        return int(ended.value.code or 0), re.sub(r"\s+", " ", said.out + said.err)

    def start(
        self, command: str, *overrides: str, pauses: Sequence[str] = (), of_model: bool = False
    ) -> subprocess.Popen[str]:
        """Start a command as a process that stops itself at the first passage of each of the points in `pauses`."""
        options = self.options(command, of_model=of_model)
        env = {PAUSE: ",".join(pauses)} if pauses else {}
        return self.shop.start(self.store, *TINY, *overrides, command=command, options=options, env=env)


def publish_twice(folder: Path, capfd: pytest.CaptureFixture[str]) -> Place:
    """Make a shop, train its model and publish one date, first with lists of five; the ledger has two waves a task."""
    shop = Shop(folder)
    shop.day -= timedelta(days=2)
    place = Place(shop, folder / "published")
    shutil.rmtree(folder / "models/recommend")
    for command, overrides in (("train", []), ("nightly", ["recommend.k=5"]), ("nightly", [])):
        code, said = place.run(capfd, command, *overrides)
        assert code == 0, said
    return place


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Wait until a process has come to a pause."""
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, process)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Let a process go on to its end: its exit code and what it said, in one line."""
    os.kill(process.pid, signal.SIGCONT)
    said, _ = process.communicate(timeout=400)
    return process.returncode, re.sub(r"\s+", " ", said)
