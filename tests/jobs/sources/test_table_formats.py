"""Folders of Delta and Hudi tables: read at one version, or refused; never with deleted rows."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.config.config import Config
from jobs.inputs.reader import Inputs, read_inputs
from jobs.spark.errors import InputError
from jobs.tasks.versions import own_config, save_settings, settings_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.store.store import Store

DAY = date(2026, 3, 31)


def purchases(*users: str, **more: list[Any]) -> pa.Table:
    n = len(users)
    columns = {"user_id": list(users), "item_id": ["i1"] * n, "purchased_at": ["2026-03-01"] * n, "title": ["Tea"] * n}
    return pa.table(columns | more)


def config_of(source: object, **sources: object) -> Config:
    names = {name: name for name in ("user_id", "item_id", "purchased_at", "title")}
    inputs = {"purchases": {"columns": names} | (source if isinstance(source, dict) else {"path": str(source)})}
    return Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": inputs, "sources": sources})


def read(spark: SparkSession, tmp_path: Path, source: object, **sources: object) -> Inputs:
    return read_inputs(spark, config_of(source, **sources), DAY, str(tmp_path / "work"))


def users(inputs: Inputs) -> list[str]:
    return sorted(row.user_id for row in inputs.used["purchases"].collect())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A Delta table from which a customer was deleted: the Parquet file of version 0 is still there."""
    folder = tmp_path / "purchases"
    write_deltalake(folder, purchases("u1", "u2", "u3"))
    DeltaTable(folder).delete("user_id = 'u1'")
    return folder


def test_a_delta_table_is_read_at_its_newest_version(spark: SparkSession, tmp_path: Path, table: Path) -> None:
    found = read(spark, tmp_path, table)
    assert users(found) == ["u2", "u3"]
    assert found.versions == {"inputs.purchases.version": "1"}
    assert users(read(spark, tmp_path, {"path": str(table), "format": "delta"})) == ["u2", "u3"]


def test_a_version_is_read_again(spark: SparkSession, tmp_path: Path, table: Path) -> None:
    found = read(spark, tmp_path, {"path": str(table), "version": 0})
    assert (users(found), found.versions) == (["u1", "u2", "u3"], {"inputs.purchases.version": "0"})
    named = {"lake": {"path": str(table), "version": 0}}
    found = read(spark, tmp_path, {"query": "SELECT * FROM lake"}, **named)
    assert (users(found), found.versions) == (["u1", "u2", "u3"], {"sources.lake.version": "0"})
    with pytest.raises(
        InputError, match=r"inputs\.purchases\.version: version 7 of the Delta table .* cannot be opened"
    ):
        read(spark, tmp_path, {"path": str(table), "version": 7})
    shutil.rmtree(table / "_delta_log")
    with pytest.raises(
        InputError, match=r"purchases\.version: .*/purchases is no Delta or Iceberg table, so it has no version 0"
    ):
        read(spark, tmp_path, {"path": str(table), "version": 0})


def test_own_versions_are_those_of_the_published_date(spark: SparkSession, store: Store, table: Path) -> None:
    config = config_of({"query": "SELECT * FROM lake"}, lake={"path": str(table)})
    save_settings(spark, store, config)
    published = {"settings": settings_version(config), "sources.lake.version": "0"}
    own = own_config(spark, store, config, published)
    assert own.sources["lake"].version == 0
    assert settings_version(own) == settings_version(config)
    database = {"url": "jdbc:postgresql://db/shop", "table": "t"}
    moved = config_of({"query": "SELECT * FROM lake"}, lake={"jdbc": database})
    assert own_config(spark, store, moved, published).sources["lake"].version is None


def test_queries_decide_settings_and_paths_do_not() -> None:
    def version(query: str, path: str = "a", **source: object) -> str:
        return settings_version(config_of({"query": query}, lake={"path": path, **source}))

    assert version("TABLE lake") == version("TABLE lake", path="b")
    assert len({version("TABLE lake"), version("SELECT 1 FROM lake"), version("TABLE lake", format="csv")}) == 3
    plain = config_of("a")
    assert settings_version(plain) == settings_version(plain.model_copy(update={"sources": {}}))


def test_partitions_and_added_columns(spark: SparkSession, tmp_path: Path) -> None:
    """Folder names give the values of partitions; a file without an added column has nulls in it."""
    folder = tmp_path / "lake"
    write_deltalake(folder, purchases("u1", "u2", store=["7/a b", None]), partition_by=["store"])
    later = purchases("u3", store=["007"], rank=[4])
    write_deltalake(folder, later, mode="append", schema_mode="merge", partition_by=["store"])
    source = {"path": str(folder), "where": "store IS NULL OR store LIKE '%7%'"}
    columns = {"user_id": "concat_ws('|', user_id, store, rank)", "item_id": "item_id", "purchased_at": "purchased_at"}
    found = read(spark, tmp_path, source | {"columns": columns | {"title": "title"}})
    assert users(found) == ["u1|7/a b", "u2", "u3|007|4"]
    assert [row.source_file for row in found.quarantine.collect()] == []
    write_deltalake(folder, purchases("u4", store=["é"]), mode="append", schema_mode="merge")
    with pytest.raises(InputError, match="folders that do not spell the values of store, which Regulars does not read"):
        read(spark, tmp_path, source)


def test_an_empty_delta_table(spark: SparkSession, tmp_path: Path, table: Path) -> None:
    DeltaTable(table).delete()
    with pytest.raises(InputError, match="/purchases has no rows"):
        read(spark, tmp_path, table)


def with_setting(table: Path, name: str, value: str) -> None:
    log = table / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "metaData" in line:
            line["metaData"]["configuration"][name] = value
        if "protocol" in line:
            line["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
    log.write_text("\n".join(map(json.dumps, lines)))


def test_features_that_change_the_rows_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "mapped"
    write_deltalake(folder, purchases("u1"))
    with_setting(folder, "delta.columnMapping.mode", "name")
    with pytest.raises(InputError, match=r"purchases\.path: .*/mapped (has column mapping|cannot be opened)"):
        read(spark, tmp_path, folder)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("*.parquet", "is a part of the Delta table {table}, and its files hold deleted rows too. Write path: {table}"),
        ("../purch*", "is a part of the Delta table {table}"),
        ("day=1/hour=2", "is a part of the Delta table {table}"),
    ],
)
def test_parts_of_a_delta_table(spark: SparkSession, tmp_path: Path, table: Path, part: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read(spark, tmp_path, f"{table.parent}/{part[3:]}" if part.startswith("../") else f"{table}/{part}")
    assert says.format(table=table) in str(caught.value)


def test_lists_of_delta_tables(spark: SparkSession, tmp_path: Path, table: Path) -> None:
    with pytest.raises(InputError, match="is a Delta table, and a list of paths cannot hold one"):
        read(spark, tmp_path, {"path": [str(table), str(tmp_path / "other")]})
    named = {"a": {"path": str(table)}, "b": {"path": str(table), "version": 0}}
    found = read(spark, tmp_path, {"query": "TABLE a UNION TABLE b"}, **named)
    assert (users(found), set(found.versions.values())) == (["u1", "u2", "u3"], {"0", "1"})


@pytest.mark.parametrize("path", ["", "day=2026-03-01/a.parquet"])
def test_hudi_is_refused(spark: SparkSession, tmp_path: Path, path: str) -> None:
    root = tmp_path / "lake"
    (root / ".hoodie").mkdir(parents=True)
    (root / ".hoodie/hoodie.properties").touch()
    with pytest.raises(InputError) as caught:
        read(spark, tmp_path, root / path)
    assert f"inputs.purchases.path: {root / path} belongs to the Hudi table {root}." in str(caught.value)
    assert "Name the table of its catalog with inputs.purchases.table" in str(caught.value)
