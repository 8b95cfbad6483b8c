"""Published dates in Delta tables, on a folder and on an S3 stand-in: one version a date, none missed or doubled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from moto.server import ThreadedMotoServer
from pydantic import ValidationError
from rich.console import Console

from jobs.commands.rollback import rollback
from jobs.config.config import Config
from jobs.config.settings import PublishSettings
from jobs.spark.errors import DeltaTablesBehind
from jobs.store import date_swap
from jobs.store.date_swap import Intent
from jobs.store.delta_tables import DeltaTables, update_delta_tables, vacuum_delta_tables
from jobs.store.publish import publish
from jobs.store.store import Store
from schemas import OUTPUTS, contract
from tests.jobs.spark.test_files import NO_SPARK
from tests.jobs.store.test_date_swap import Killed
from tests.published import put
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY, OTHER = date(2026, 3, 1), date(2026, 3, 2)
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The storage options of an S3 stand-in on loopback with a bucket named lake; the environment has the keys."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="lake")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> DeltaTables:
    if request.param == "folder":
        return DeltaTables(str(tmp_path / "lake"), {})
    return DeltaTables(f"s3://lake/{tmp_path.name}", request.getfixturevalue("s3"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def read(lake: DeltaTables, name: str = "recommendations", version: int | None = None) -> list[tuple[Any, ...]]:
    """Date and rows of each date of a table in one version."""
    table = DeltaTable(f"{lake.root}/{name}", version=version, storage_options=lake.options)
    rows = duckdb.from_arrow(table.to_pyarrow_table())
    return rows.aggregate("run_date, count(*), sum(rank)", "run_date").order("run_date").fetchall()


def version(lake: DeltaTables, name: str = "recommendations") -> int:
    found = lake.table(name)
    assert found is not None
    return int(found.version())


def test_a_date_is_replaced_in_one_version(store: Store, lake: DeltaTables) -> None:
    put(store, DAY, lists=3)
    put(store, OTHER, lists=2)
    assert update_delta_tables(NO_SPARK, store, lake) == [
        f"{t}/{d}" for t in ("recommendations", "runs") for d in (DAY, OTHER)
    ]
    assert update_delta_tables(NO_SPARK, store, lake) == []
    before = version(lake)
    assert read(lake) == [(DAY, 3, 6), (OTHER, 2, 3)]

    put(store, DAY, lists=5)
    assert update_delta_tables(NO_SPARK, store, lake) == [f"recommendations/{DAY}", f"runs/{DAY}"]
    assert version(lake) == before + 1
    assert read(lake, version=before) == [(DAY, 3, 6), (OTHER, 2, 3)]
    assert read(lake, version=before + 1) == [(DAY, 5, 15), (OTHER, 2, 3)]

    put(store, DAY, lists=0)  # a date that became empty
    update_delta_tables(NO_SPARK, store, lake)
    assert version(lake) == before + 2
    assert read(lake) == [(OTHER, 2, 3)]
    assert update_delta_tables(NO_SPARK, store, lake) == []

    for part in Path(store.date_folder("recommendations", OTHER)).iterdir():  # a date that was rolled back to nothing
        part.unlink()
    Path(store.date_folder("recommendations", OTHER)).rmdir()
    assert update_delta_tables(NO_SPARK, store, lake) == [f"recommendations/{OTHER}"]
    assert (version(lake), read(lake)) == (before + 3, [])
    assert update_delta_tables(NO_SPARK, store, lake) == []
    assert vacuum_delta_tables(lake, store, dry_run=True) == 0  # of replaced files none is a week old


def test_a_date_of_several_files_is_one_version(store: Store, lake: DeltaTables) -> None:
    put(store, DAY, lists=5)
    (single,) = Path(store.date_folder("recommendations", DAY)).iterdir()
    rows = pq.read_table(single, partitioning=None)
    pq.write_table(rows.slice(0, 2), single.with_name("part-00000-run.parquet"))
    pq.write_table(rows.slice(2), single.with_name("part-00001-run.parquet"))
    single.unlink()
    update_delta_tables(NO_SPARK, store, lake)
    assert (version(lake), read(lake)) == (0, [(DAY, 5, 15)])
    assert update_delta_tables(NO_SPARK, store, lake) == []


def test_foreign_files_among_the_tables_are_passed_over(store: Store, tmp_path: Path) -> None:
    put(store, DAY, lists=3)
    folder = Path(store.date_folder("recommendations", DAY))
    for name in (".DS_Store", "notes.txt", "part-00000.parquet.bak"):
        (folder / name).write_text("foreign")
    (folder.parent / "run_date=2026-03-01.bak").mkdir()
    (folder.parent / "run_date=2026-02-31").mkdir()
    Path(store.tables, ".DS_Store").write_text("foreign")
    delta = DeltaTables(str(tmp_path / "delta"), {})
    assert update_delta_tables(NO_SPARK, store, delta) == [f"recommendations/{DAY}", f"runs/{DAY}"]
    assert read(delta) == [(DAY, 3, 6)]


def test_a_writer_that_saw_an_older_version_overwrites_none(store: Store, lake: DeltaTables) -> None:
    """The storage itself refuses a version that is there, so a writer outside the store's lock loses nothing."""
    put(store, DAY, lists=3)
    update_delta_tables(NO_SPARK, store, lake)
    stale = lake.table("recommendations")
    assert stale is not None
    rows = stale.to_pyarrow_table()
    put(store, OTHER, lists=2)
    update_delta_tables(NO_SPARK, store, lake)
    write_deltalake(stale, rows, mode="overwrite", predicate=f"run_date = '{DAY}'", partition_by=["run_date"])
    assert (version(lake), read(lake)) == (2, [(DAY, 3, 6), (OTHER, 2, 3)])


def test_what_a_kill_left_out_follows(store: Store, lake: DeltaTables, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def dying(*args: Any, **values: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        write_deltalake(*args, **values)

    monkeypatch.setattr("jobs.store.delta_tables.write_deltalake", dying)
    put(store, DAY)
    put(store, OTHER)
    with pytest.raises(Killed):
        update_delta_tables(NO_SPARK, store, lake)
    assert lake.table("runs") is None  # which comes last: without it a date is not complete
    monkeypatch.undo()
    assert update_delta_tables(NO_SPARK, store, lake) == [f"runs/{DAY}", f"runs/{OTHER}"]
    assert version(lake) == 1


def test_a_rollback_reaches_the_lake(tmp_path: Path, store: Store, lake: DeltaTables) -> None:
    raw = {"store": store.root, "timezone": "UTC", "inputs": {"purchases": {"path": "p"}, "items": {"path": "i"}}}
    config = Config.model_validate(raw | {"publish": {"format": "delta", "to": lake.root, "options": lake.options}})
    for run_id, lists in (("one", 3), ("two", 4)):
        made = Store(str(tmp_path / run_id))
        put(made, DAY, lists=lists)
        staged = f"{store.staging(run_id)}/recommendations"
        Path(staged).parent.mkdir(parents=True)
        Path(made.date_folder("recommendations", DAY)).rename(staged)
        one = date_swap.prepare_swap(NO_SPARK, store, staged, store.date_folder("recommendations", DAY))
        date_swap.commit(NO_SPARK, store, Intent(run_id, [one], number=date_swap.next_publish(NO_SPARK, store)))
        update_delta_tables(NO_SPARK, store, lake)
        assert read(lake) == [(DAY, lists, sum(range(lists + 1)))]
    rollback(NO_SPARK, config, DAY, Console(quiet=True))
    assert (version(lake), read(lake)) == (2, [(DAY, 3, 6)])


def test_every_table_goes_through_as_it_is(spark: SparkSession, store: Store, tmp_path: Path) -> None:
    lake = DeltaTables(str(tmp_path / "lake"), {})
    publish(spark, store, "run", DAY, {table: frame(spark, table, [{}]) for table in OUTPUTS})
    assert update_delta_tables(spark, store, lake)[-1] == f"runs/{DAY}"
    for name in OUTPUTS:
        table = lake.table(name)
        assert table is not None
        rows = table.to_pyarrow_table().to_pylist()
        there = spark.read.parquet(store.table(name)).toArrow().to_pylist()
        assert rows == there, name
        assert set(rows[0]) == {*contract(name).column_names, "run_date"}


def test_a_storage_that_does_not_answer_is_named(store: Store) -> None:
    put(store, DAY)
    nowhere = {
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "max_retries": "0",
    }
    with pytest.raises(DeltaTablesBehind, match=r"s3://lake/shop could not be brought up to date") as refusal:
        update_delta_tables(NO_SPARK, store, DeltaTables("s3://lake/shop", KEYS | nowhere))
    assert refusal.value.exit_code == 6


@pytest.mark.parametrize("wrong", [{"format": "delta"}, {"to": "s3://bucket/shop"}])
def test_delta_needs_a_place_and_a_place_needs_delta(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"format: delta and `to` need each other"):
        PublishSettings.model_validate(wrong)
    assert DeltaTables.of(PublishSettings()) is None
