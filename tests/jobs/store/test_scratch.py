"""Scratch of commands without the store's lock lives as long as its command, and no longer."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.spark import files
from jobs.spark.errors import ConfigurationError, StoreBusy
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.scratch import dead_scratch, reading_ledger, rewriting_ledger, scratch_folder
from jobs.store.store import Store
from tests.jobs.spark.test_files import NO_SPARK, mount

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Another process with a scratch folder that holds one file.
OWN = """
import sys
from pathlib import Path
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
with scratch_folder(None, Store(sys.argv[1]), "train") as folder:
    Path(folder).mkdir()
    Path(folder, "rows.parquet").write_text("rows")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def test_a_night_keeps_the_scratch_of_a_running_training(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training = subprocess.Popen(
        [sys.executable, "-c", OWN, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert training.stdout is not None
    rows = Path(training.stdout.readline().strip(), "rows.parquet")
    with lock(NO_SPARK, store, "night"):
        recover(NO_SPARK, store)
        assert rows.read_text() == "rows"
    training.send_signal(signal.SIGKILL)
    training.communicate(timeout=60)
    with lock(NO_SPARK, store, "night"):
        recover(NO_SPARK, store)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_next_training_deletes_the_scratch_of_a_killed_one_and_keeps_that_of_a_running_one(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", OWN, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdout is not None
        rows = Path(training.stdout.readline().strip(), "rows.parquet")
        with scratch_folder(NO_SPARK, store, "train"):
            assert rows.read_text() == "rows"
        training.send_signal(signal.SIGKILL)
        training.wait(timeout=60)
    with scratch_folder(NO_SPARK, store, "train"):
        assert not rows.parent.exists()


def test_a_store_that_cannot_be_written_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, not a folder")
    with pytest.raises(ConfigurationError, match=r"store: .* cannot be written .* run the same command again"):
        scratch_folder(NO_SPARK, Store(str(tmp_path / "store")), "plan").__enter__()


def test_a_command_that_begins_while_old_scratch_is_deleted_keeps_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark was seen before its owner had locked it: deleting it then would leave the folder without an owner."""
    store = Store(str(tmp_path))
    with scratch_folder(NO_SPARK, store, "train") as folder:
        Path(folder).mkdir()
        monkeypatch.setattr("jobs.store.scratch.dead_scratch", lambda spark, store: [folder, f"{folder}.live"])
        recover(NO_SPARK, store)
        assert Path(folder).is_dir()
        assert Path(f"{folder}.live").exists()


def test_links_and_folders_in_the_place_of_marks_go_and_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "payroll").write_text("salaries")
    scratch = tmp_path / "store/scratch"
    (scratch / "folder.live").mkdir(parents=True)
    (scratch / "folder.live/file").write_text("rows")
    (scratch / "link.live").symlink_to(tmp_path / "payroll")
    (scratch / "dangling.live").symlink_to(tmp_path / "gone")
    recover(NO_SPARK, Store(str(tmp_path / "store")))
    assert list(scratch.iterdir()) == []
    assert (tmp_path / "payroll").read_text() == "salaries"


def test_scratch_goes_with_its_block(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def failing_command() -> None:
        with scratch_folder(NO_SPARK, store, "plan") as folder:
            Path(folder).mkdir()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        failing_command()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("kind", ["local", pytest.param("viewfs", marks=pytest.mark.spark)])
def test_readers_and_rewriters_of_the_ledger_exclude_each_other(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    spark: SparkSession = NO_SPARK if kind == "local" else request.getfixturevalue("spark")
    store = Store(str(tmp_path) if kind == "local" else mount(spark, tmp_path))
    with reading_ledger(spark, store, "plan"), reading_ledger(spark, store, "plan"):
        with pytest.raises(StoreBusy, match=r"regulars plan \(process \d+ on .*\) reads the ledger"):
            rewriting_ledger(spark, store, "gc").__enter__()
        assert dead_scratch(spark, store) == []
    with (
        rewriting_ledger(spark, store, "gc"),
        pytest.raises(StoreBusy, match=r"regulars gc .* rewrites the ledger"),
        reading_ledger(spark, store, "plan"),
    ):
        pytest.fail("plan reads a ledger that gc rewrites")
    with reading_ledger(spark, store, "plan"):
        pass
    assert files.listdir(spark, f"{store.root}/scratch") == []
