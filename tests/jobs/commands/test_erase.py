"""Erased customers are in no byte of the store, all other rows stay, and a killed run is repeated to the same end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable
from rich.console import Console

from jobs.commands.erase import erase
from jobs.commands.rollback import rollback
from jobs.config.config import Config
from jobs.spark.errors import GateRefused, UsageError
from jobs.spark.fault_points import VARIABLE
from jobs.spark.privacy_key import keyed_hash
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.store import Store
from lm.checkpoint.manifest import Manifest, write_manifest
from tests import ROOT
from tests.erasable import DAY, DAYS, GONE, KEY, PHRASE, USERS, full_store, rows_of_others, search
from tests.jobs.spark.test_files import NO_SPARK, mount

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

QUIET = Console(quiet=True)
#: Twelve places of an erasure, in its order.
PLACES = (
    "rows-removed:1",  # a wave is staged
    "intent-opened:1",
    "swap-exchanged:1",
    "swap-done:1",
    "intent-closed:1",
    "rows-removed:3",  # a file of the trash is replaced
    "rows-removed:9",
    "intent-opened:1",  # of the first date: the ledger is done
    "swap-exchanged:2",
    "swap-done:4",
    "intent-closed:1",  # of the second date
    "receipt-written",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    full_store(store)
    (tmp_path / "users.txt").write_text("\ufeffuser_id\n" + "\n".join(f" {user} " for user in GONE) + "\n")
    (tmp_path / "phrases.txt").write_text(PHRASE + "\n")
    return store


def config_of(store: Store, **more: object) -> Config:
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    return Config.model_validate(raw | more)


def erased(store: Store, tmp_path: Path, config: Config | None = None, *, dry_run: bool = False) -> dict[str, object]:
    users, phrases = tmp_path / "users.txt", tmp_path / "phrases.txt"
    return erase(NO_SPARK, config or config_of(store), users, QUIET, phrases=phrases, dry_run=dry_run)


def test_no_byte_of_the_customers_is_left_and_every_other_row_is(store: Store, tmp_path: Path) -> None:
    others = rows_of_others(store)
    listed = {path.name for path in Path(store.date_folder("recommendations", DAY)).iterdir()}
    pseudonyms = [keyed_hash(KEY, user) for user in GONE]
    assert len(search(Path(store.root), [*GONE, PHRASE, *pseudonyms])) > 20
    receipt = erased(store, tmp_path)
    assert search(Path(store.root), [*GONE, PHRASE, *pseudonyms]) == []
    assert rows_of_others(store) == others
    assert receipt["rows"] == {
        "attempts": 1,
        "ledger/recommend": 2,
        "tables/answers": 3,
        "tables/loyalty": 6,
        "tables/prompts": 6,
        "tables/quarantine": 6,
        "tables/recommendations": 18,
        "tables/sentiments": 6,
        "trash": 15,
    }
    assert receipt["shared_answers_kept"] == 1
    assert (receipt["customers"], receipt["customers_found"]) == (2, 2)
    (path,) = Path(store.root, "receipts").iterdir()
    assert json.loads(path.read_text()) == receipt
    assert all(len(digest) == 64 for digest in receipt["files"].values())
    assert not list(Path(store.root, "staging").iterdir())
    # A reader of several files never mixes old and new ones.
    renamed = {path.name for path in Path(store.date_folder("recommendations", DAY)).iterdir()}
    assert len(renamed) == len(listed) == 2
    assert not renamed & listed
    # Again there is nothing to do.
    assert erased(store, tmp_path)["rows"] == {}


def test_one_customer_alone_is_erased(store: Store, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(GONE[1], encoding="utf-8")
    erase(NO_SPARK, config_of(store), tmp_path / "users.txt", QUIET)
    assert search(Path(store.root), [GONE[1], keyed_hash(KEY, GONE[1])]) == []


def test_rollback_restores_no_erased_row(store: Store, tmp_path: Path) -> None:
    erased(store, tmp_path)
    rollback(NO_SPARK, config_of(store), DAY, QUIET)
    lists = pq.read_table(Path(store.date_folder("recommendations", DAY)), partitioning=None)
    assert set(lists["user_id"].to_pylist()) == set(USERS) - set(GONE)
    assert search(Path(store.root), GONE) == []


def test_a_dry_run_changes_nothing(store: Store, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        found = {path: path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file()}
        return {path: text for path, text in found.items() if "rewrites-ledger" not in str(path)}

    before = content()
    assert erased(store, tmp_path, dry_run=True) == {}
    assert content() == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_reports_and_the_next_night_are_said(store: Store, tmp_path: Path, *, dry_run: bool) -> None:
    Path(store.report(DAY)).mkdir(parents=True)
    log = io.StringIO()
    erase(NO_SPARK, config_of(store), tmp_path / "users.txt", Console(file=log, width=300), dry_run=dry_run)
    said = log.getvalue()
    assert ("to erase" in said, "erased" in said) == (dry_run, not dry_run)
    again = f"To write it again: regulars report --config regulars.yaml --run-date {DAY}"
    assert (again in said, "put the ids into inputs.optouts" in said) == (not dry_run, not dry_run)


def test_models_that_learned_from_them_are_listed(store: Store, tmp_path: Path) -> None:
    for name, as_of in (("recommend", "2026-03-02"), ("older", "2025-01-01"), ("stock", None)):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        training = {"window": {"as_of": as_of}} if as_of else {}
        write_manifest(folder, Manifest(training=training))
    models = {name: str(tmp_path / "models" / name) for name in ("recommend", "sentiment")}
    receipt = erased(store, tmp_path, config_of(store, models=models))
    said = {Path(str(one["path"])).name: one["why"] for one in receipt["remains"] if "models." in one["why"]}
    assert sorted(said) == ["older", "recommend"]
    assert "read events of them" in said["recommend"]
    assert "may have" in said["older"]


def test_delta_tables_forget_their_history_and_keep_their_newest_version(store: Store, tmp_path: Path) -> None:
    lake = DeltaTables(str(tmp_path / "lake"), {})
    config = config_of(store, publish={"format": "delta", "to": lake.root})
    update_delta_tables(NO_SPARK, store, lake)
    assert search(Path(lake.root), GONE)
    erased(store, tmp_path, config)
    assert search(Path(lake.root), [*GONE, PHRASE]) == []
    assert len(DeltaTable(f"{lake.root}/prompts").to_pyarrow_table()) == 15 + 20 + 20 - 6
    assert update_delta_tables(NO_SPARK, store, lake) == []


def test_what_the_search_still_finds_is_reported_with_its_reason(store: Store, tmp_path: Path) -> None:
    Path(store.root, "settings").mkdir()
    Path(store.root, "settings", "v.json").write_text(json.dumps({"where": f"user_id <> '{GONE[0]}'"}))
    with pytest.raises(GateRefused, match=r"1 files still have an id or a phrase: settings/v\.json"):
        erased(store, tmp_path)
    (path,) = Path(store.root, "receipts").iterdir()
    (found,) = [one for one in json.loads(path.read_text())["remains"] if "times" in one]
    assert found == {
        "path": "settings/v.json",
        "times": 1,
        "why": "settings of a night name it, for example in a condition of the configuration",
    }


def test_an_earlier_releases_rows_without_a_customer_are_named(store: Store, tmp_path: Path) -> None:
    part = Path(store.date_folder("quarantine", DAY)) / "part-00000.parquet"
    pq.write_table(pa.table({"table": ["purchases"] * 2, "key_hash": ["0" * 64] * 2}), part)
    remains = erased(store, tmp_path)["remains"]
    assert {name: one[name] for one in remains if one["path"] == "tables/quarantine" for name in ("path", "rows")} == {
        "path": "tables/quarantine",
        "rows": 2,
    }


@pytest.mark.parametrize("content", [b"", b"user_id\n", b"\xff\xfe\x00"])
def test_a_file_without_ids_is_refused(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users.txt").write_bytes(content)
    with pytest.raises(UsageError, match="--users: "):
        erased(store, tmp_path)


def run_command(tmp_path: Path, store: Store, fault: str = "") -> subprocess.CompletedProcess[str]:
    settings = config_of(store).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "regulars.yaml").write_text(yaml.safe_dump(settings))
    files = [part for name in ("users", "phrases") for part in (f"--{name}", str(tmp_path / f"{name}.txt"))]
    arguments = ["erase", "--config", str(tmp_path / "regulars.yaml"), *files]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({VARIABLE: fault} if fault else {})
    program = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_the_command_needs_no_java_and_names_no_customer(store: Store, tmp_path: Path) -> None:
    done = run_command(tmp_path, store)
    assert done.returncode == 0, done.stderr
    assert "tables/recommendations" in done.stdout
    assert not any(text in done.stdout + done.stderr for text in (*GONE, PHRASE))
    (receipt,) = Path(store.root, "receipts").iterdir()
    assert receipt.stat().st_mode & 0o777 == 0o600


@pytest.mark.faults
def test_killed_at_each_of_twelve_places_it_ends_as_if_undisturbed(store: Store, tmp_path: Path) -> None:
    """One command, killed again and again, each time later; a reader meanwhile finds whole dates."""
    others = rows_of_others(store)
    with Reader(store) as reader:
        for place in PLACES:
            done = run_command(tmp_path, store, place)
            assert done.returncode == -signal.SIGKILL, f"{place}: {done.stderr}"
        done = run_command(tmp_path, store)
    assert done.returncode == 0, done.stderr
    assert reader.mistakes == []
    assert reader.reads > 20
    assert rows_of_others(store) == others
    assert search(Path(store.root), [*GONE, PHRASE]) == []
    receipts = [json.loads(path.read_text()) for path in Path(store.root, "receipts").iterdir()]
    # The twelfth kill comes after the receipt. Kills while an earlier run's publish is finished leave none.
    states = [receipt["state"] for receipt in receipts]
    assert (states.count("done"), set(states)) == (2, {"begun", "done"})
    assert max(receipt["rows"].get("tables/prompts", 0) for receipt in receipts) == 6


class Reader:
    """Reads every date of two tables again and again: each is whole, with the customers or without them."""

    def __init__(self, store: Store) -> None:
        self.store, self.reads, self.mistakes = store, 0, list[str]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        whole: Callable[[date], set[frozenset[str]]] = lambda day: {  # noqa: E731  (a table, not a function)
            frozenset(users) for users in (self._users(day), self._users(day) - set(GONE))
        }
        while not self._ended.is_set():
            for day in DAYS:
                found = pq.read_table(self.store.date_folder("recommendations", day), partitioning=None)
                if frozenset(found["user_id"].to_pylist()) not in whole(day):
                    self.mistakes.append(f"{day}: {len(found)} rows")
                self.reads += 1

    @staticmethod
    def _users(day: date) -> set[str]:
        return set(USERS[:15] if day == DAY else USERS)


def test_a_store_on_hadoop_is_erased_too(spark: SparkSession, store: Store, tmp_path: Path) -> None:
    others = rows_of_others(store)
    there = Store(mount(spark, Path(store.root)))
    receipt = erase(spark, config_of(there), tmp_path / "users.txt", QUIET, phrases=tmp_path / "phrases.txt")
    assert receipt["rows"]["tables/recommendations"] == 18
    assert search(Path(store.root), [*GONE, PHRASE]) == []
    assert rows_of_others(store) == others
