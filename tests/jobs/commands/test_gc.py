"""What gc frees, that a dry run frees nothing, and that what stays is what a repeated date needs."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable
from rich.console import Console

from jobs.commands import gc
from jobs.commands.gc import Freed, collect_garbage
from jobs.config.config import Config
from jobs.scoring import ledger
from jobs.spark.errors import StoreBusy
from jobs.store.attempts import Attempt, read_attempts, record_waiting
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.lock import lock
from jobs.store.publish import publish
from jobs.store.scratch import reading_ledger
from jobs.store.store import Store
from jobs.tasks.versions import settings_version
from tests.erasable import full_store
from tests.jobs.spark.test_files import NO_SPARK
from tests.jobs.store.test_date_swap import fill
from tests.ledgers import RESULT, row_of, write_waves
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = date(2026, 3, 1)


def digests(root: str) -> dict[str, str]:
    files = sorted(path for path in Path(root).rglob("*") if path.is_file() and path.name != "lock")
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def collect(spark: SparkSession, config: Config, *, dry_run: bool) -> tuple[dict[str, Freed], str]:
    log = io.StringIO()
    freed = collect_garbage(spark, config, Console(file=log, width=200), dry_run=dry_run)
    return {one.what: one for one in freed}, log.getvalue()


def test_gc_frees_what_its_dry_run_said(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}}
    limits = {"gc": {"ledger_days": 3}, "publish": {"keep_publishes": 1}}
    config = Config.model_validate({"store": store.root, "timezone": "UTC", "inputs": inputs} | limits)
    for number in range(3):  # the newest publish replaces the one before it
        lists = {"recommendations": frame(spark, "recommendations", [{}])}
        prompts = {"prompts": frame(spark, "prompts", [{"prompt_hash": "hash of used"}])}
        runs = {"runs": frame(spark, "runs", [{"run_id": f"r{number}", "versions": {"settings": f"v{number}"}}])}
        publish(spark, store, f"r{number}", DAY + timedelta(days=5 + number // 2), lists | prompts | runs)
    records = {
        "attempts": {
            # Older than any date that stays repeatable; published after all; a night that still has to be repeated.
            "2026-03-03.json": Attempt("a", "2026-03-03", "failed", "t"),
            "2026-03-06.json": Attempt("r1", "2026-03-06", "running", "t"),
            "2026-03-05.json": Attempt("b", "2026-03-05", "failed", "t"),
        },
        # Of r0 nothing is left once gc is done: what it published was replaced two publishes ago.
        "settings": dict.fromkeys(("v0.json", "v1.json", "v2.json", "v9.json", f"{settings_version(config)}.json")),
    }
    for room, texts in records.items():
        (tmp_path / room).mkdir()
        for name, record in texts.items():
            (tmp_path / room / name).write_text(json.dumps(asdict(record) if record else {}))
    write_waves(store, (row_of(key, days) for key, days in (("used", 0), ("gone", 0), ("young", 5))))
    (tmp_path / "ledger/.DS_Store").write_text("of another program")
    (tmp_path / "attempts/foreign folder").mkdir()
    for folder in ("staging/dead", "work/dead/x", "scratch/plan-1"):
        fill(tmp_path / folder, ["12345678"])
    fill(tmp_path / "work/running", ["12345678"])

    before = digests(store.root)
    with lock(spark, store, "running"):  # what a live run has is not counted, and gc itself waits
        said, _ = collect(spark, config, dry_run=True)
        with pytest.raises(StoreBusy):
            collect(spark, config, dry_run=False)
    with reading_ledger(spark, store, "plan"), pytest.raises(StoreBusy, match=r"regulars plan .* reads the ledger"):
        collect(spark, config, dry_run=False)
    assert digests(store.root) == before
    runs = "staging, work and trash of ended runs"
    assert (said[runs].count, said["scratch"]) == ("7 files", Freed("scratch", "1 files", 8))
    assert said["ledger of recommend"].count == "1 of 3 rows in 3 waves"

    fill(tmp_path / "work/dead/y", ["12345678"])
    done, printed = collect(spark, config, dry_run=False)
    assert done[runs].count == "9 files"
    assert done["ledger of recommend"].count == said["ledger of recommend"].count
    assert "Dates from 2026-03-04 on can be repeated without the model." in printed
    after = digests(store.root)
    tables = [path for path in before if path.startswith(f"{store.root}/tables/")]
    assert [after[path] for path in tables] == [before[path] for path in tables]
    assert {path.name for path in (tmp_path / "attempts").iterdir()} == {"2026-03-05.json", "foreign folder"}
    versions = {"v1.json", "v2.json", f"{settings_version(config)}.json"}
    assert {path.name for path in (tmp_path / "settings").iterdir()} == versions
    for room in records:
        assert done[f"{room} that no date needs"] == said[f"{room} that no date needs"]
    rooms = {Path(path).relative_to(store.root).parts[0] for path in after}
    assert rooms == {"tables", "ledger", "trash", "attempts", "settings", "format.json"}
    assert [p.name for p in (tmp_path / "trash").iterdir()] == ["r2"]
    kept = {row["key"] for row in ledger.read(spark, store, "recommend", RESULT).collect()}
    assert kept == {"used", "young"}
    again, _ = collect(spark, config, dry_run=False)
    assert again[runs].size == again["scratch"].size == 0
    assert again["ledger of recommend"].count == "0 of 2 rows in 1 waves"


def test_a_record_that_a_backfill_writes_meanwhile_stays(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}}
    config = Config.model_validate({"store": str(tmp_path), "timezone": "UTC", "inputs": inputs})
    store = Store(config.store)

    def read_then_write(spark: SparkSession, store: Store) -> dict[date, Attempt]:
        found = read_attempts(spark, store)
        record_waiting(spark, store, "backfill-1", DAY)
        return found

    monkeypatch.setattr(gc, "read_attempts", read_then_write)
    collect(spark, config, dry_run=False)
    assert list(read_attempts(spark, store)) == [DAY]


def test_retention_takes_old_dates_and_their_earlier_versions(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 2026-03-05 prompts of the last two days stay, and other rows of customers of the last three."""
    full_store(store)
    Path(store.attempt(DAY)).unlink()
    monkeypatch.setattr(gc, "shop_today", lambda _: date(2026, 3, 5))
    inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}}
    raw = {"store": store.root, "timezone": "UTC", "inputs": inputs, "gc": {"ledger_days": 365}}
    lake = DeltaTables(str(tmp_path / "lake"), {})
    update_delta_tables(NO_SPARK, store, lake)
    publish_to = {"format": "delta", "to": lake.root}
    for name in ("recommend", "sentiment"):
        shutil.rmtree(Path(store.root, "ledger", name))
    config = Config.model_validate(raw | {"retention": {"prompts_days": 2, "tables_days": 3}, "publish": publish_to})
    unpublished = DAY - timedelta(days=9)
    for day in (DAY, DAY + timedelta(days=1), unpublished):
        Path(store.report(day)).mkdir(parents=True, exist_ok=True)
    assert collect(NO_SPARK, config, dry_run=True)[0]["reports of removed dates"].count == "2 reports"
    assert collect(NO_SPARK, config, dry_run=True)[0]["dates older than retention"].count == "13 files"
    assert collect(NO_SPARK, config, dry_run=False)[0]["dates older than retention"].count == "13 files"

    def dates(root: str, table: str) -> list[str]:
        return sorted(path.name[-2:] for path in Path(root).glob(f"**/{table}/run_date=*"))

    assert Path(store.report(DAY + timedelta(days=1))).exists()
    assert not Path(store.report(DAY)).exists()  # older than the lists that it shows
    assert not Path(store.report(unpublished)).exists()
    assert dates(store.tables, "prompts") == ["03"]
    assert dates(store.tables, "recommendations") == dates(store.tables, "answers") == ["02", "03"]
    assert dates(store.tables, "quarantine") == dates(store.tables, "runs") == ["01", "02", "03"]
    assert dates(f"{store.root}/trash", "prompts") == []
    assert dates(f"{store.root}/trash", "metrics") == ["01"]
    assert len(DeltaTable(f"{lake.root}/prompts").to_pyarrow_table()) == 20
    assert collect(NO_SPARK, config, dry_run=True)[0]["dates older than retention"].count == "0 files"
