"""Folders of Iceberg tables: read at one snapshot with the columns of today's names, or refused with the mend."""

from __future__ import annotations

import gzip
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import FileScanTask, Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import UUIDType

from jobs.config.config import Config
from jobs.inputs.reader import Inputs, read_inputs
from jobs.sources.iceberg_tables import _live_files
from jobs.spark.errors import InputError
from jobs.tasks.versions import own_config, save_settings, settings_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.store.store import Store


def purchases(*users: str, **more: list[Any]) -> pa.Table:
    n = len(users)
    columns = {"user_id": list(users), "item_id": ["i1"] * n, "purchased_at": ["2026-03-01"] * n, "title": ["Tea"] * n}
    return pa.table(columns | more)


SCHEMA = purchases("u1").schema


def config_of(source: object, **columns: str) -> Config:
    names = {name: name for name in ("user_id", "item_id", "purchased_at", "title")} | columns
    inputs = {"purchases": {"columns": names} | (source if isinstance(source, dict) else {"path": str(source)})}
    return Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": inputs})


def read(spark: SparkSession, tmp_path: Path, source: object, **columns: str) -> Inputs:
    return read_inputs(spark, config_of(source, **columns), date(2026, 3, 31), str(tmp_path / "work"))


def users(inputs: Inputs) -> list[str]:
    return sorted(row.user_id for row in inputs.used["purchases"].collect())


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    (tmp_path / "lake").mkdir()
    found = SqlCatalog("shop", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/lake")
    found.create_namespace("shop")
    return found


@pytest.fixture
def table(catalog: SqlCatalog) -> Table:
    """A table from which a customer was deleted: the Parquet file of the first snapshot is still there."""
    table = catalog.create_table("shop.purchases", SCHEMA)
    table.append(purchases("u1", "u2", "u3"))
    table.delete("user_id = 'u1'")
    return table


def folder(table: Table) -> str:
    return table.location().removeprefix("file://")


def test_the_newest_snapshot_is_read_and_recorded(spark: SparkSession, tmp_path: Path, table: Table) -> None:
    first, second = (snapshot.snapshot_id for snapshot in table.snapshots())
    found = read(spark, tmp_path, folder(table), quantity="IF(user_id = 'u2', -1, 1)")
    assert users(found) == ["u3"]
    assert found.versions == {"inputs.purchases.version": str(second)}
    [rejected] = found.quarantine.collect()
    [live] = table.scan().plan_files()
    assert live.file.file_path.endswith(f"/purchases/data/{rejected.source_file}")
    found = read(spark, tmp_path, {"path": folder(table), "format": "iceberg", "version": first})
    assert (users(found), found.versions) == (["u1", "u2", "u3"], {"inputs.purchases.version": str(first)})
    with pytest.raises(InputError, match=r"inputs\.purchases\.version: the Iceberg table .* has no snapshot 7"):
        read(spark, tmp_path, {"path": folder(table), "version": 7})
    with pytest.raises(InputError, match=r"/purchases is no Delta table\. Correct path or format"):
        read(spark, tmp_path, {"path": folder(table), "format": "delta"})
    with pytest.raises(InputError, match="is a part of the Iceberg table"):
        read(spark, tmp_path, f"{folder(table)}/data")


def test_a_date_is_read_again_at_its_own_snapshot(spark: SparkSession, store: Store, table: Table) -> None:
    config = config_of(folder(table))
    save_settings(spark, store, config)
    first = table.snapshots()[0].snapshot_id
    published = {"settings": settings_version(config), "inputs.purchases.version": str(first)}
    assert own_config(spark, store, config, published).inputs["purchases"].version == first


def test_renamed_and_added_columns_and_those_without_a_type_of_spark(
    spark: SparkSession, tmp_path: Path, table: Table
) -> None:
    """A name that a new column takes over from a dropped one has the values of the new one alone."""
    first = table.snapshots()[0].snapshot_id
    with table.update_schema() as changes:
        changes.rename_column("user_id", "customer")
        changes.add_column("key", UUIDType())
    with table.update_schema(allow_incompatible_changes=True) as changes:
        changes.delete_column("title")
    with table.update_schema() as changes:
        changes.add_column("title", table.schema().find_type("item_id"))
    later = purchases("u4").rename_columns(["customer", "item_id", "purchased_at", "title"])
    table.append(later)
    found = read(spark, tmp_path, folder(table), user_id="concat_ws('|', customer, title)")
    assert users(found) == ["u2", "u3", "u4|Tea"]
    assert users(read(spark, tmp_path, {"path": folder(table), "version": first})) == ["u1", "u2", "u3"]
    with pytest.raises(InputError, match=r"purchases\.columns\.order_id: .*key"):
        read(spark, tmp_path, folder(table), user_id="customer", order_id="key")


def test_partitions_keep_their_values(spark: SparkSession, tmp_path: Path, catalog: SqlCatalog) -> None:
    rows = purchases("u1", "u2", "u3", store=["007", "a/b c", None])
    table = catalog.create_table("shop.stores", rows.schema)
    with table.update_spec() as spec:
        spec.add_field("store", IdentityTransform())
    table.append(rows)
    found = read(spark, tmp_path, folder(table), user_id="concat_ws('|', user_id, store)")
    assert users(found) == ["u1|007", "u2|a/b c", "u3"]


def test_an_empty_table(spark: SparkSession, tmp_path: Path, catalog: SqlCatalog) -> None:
    table = catalog.create_table("shop.purchases", SCHEMA)
    with pytest.raises(InputError, match="/purchases has no rows"):
        read(spark, tmp_path, folder(table))
    table.append(purchases("u1"))
    table.delete()
    with pytest.raises(InputError, match="/purchases has no rows"):
        read(spark, tmp_path, folder(table))


def test_folders_that_are_not_what_they_say(spark: SparkSession, tmp_path: Path, table: Table) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder(table), copy)
    with pytest.raises(InputError, match=r"/copy is a copy of the Iceberg table file:.*/purchases, and its metadata"):
        read(spark, tmp_path, copy)
    metadata = Path(folder(table), "metadata")
    newest = max(metadata.glob("*.metadata.json"))
    rival = metadata / "00002-aaaa.metadata.json"
    shutil.copy(newest, rival)
    with pytest.raises(InputError, match="has 2 metadata files of version 2, so its folder does not say which"):
        read(spark, tmp_path, folder(table))
    rival.unlink()
    packed = metadata / "v2.gz.metadata.json"
    packed.write_bytes(gzip.compress(newest.read_bytes()))
    newest.unlink()
    (metadata / "version-hint.text").write_text("2")
    assert users(read(spark, tmp_path, folder(table))) == ["u2", "u3"]
    packed.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(InputError, match=r"the Iceberg table .*/purchases cannot be opened \(.*\)\. Correct it\."):
        read(spark, tmp_path, folder(table))


def test_row_deletes_are_refused(table: Table) -> None:
    """`pyiceberg` cannot write them, so one is put into the plan of a scan."""
    scan = table.scan()
    [task] = scan.plan_files()
    assert _live_files(table, scan, "/lake/p", "k.path") == [task.file.file_path]
    removed = DataFile.from_args(content=DataFileContent.POSITION_DELETES, file_path="d.parquet")

    class Planned:
        def plan_files(self) -> list[FileScanTask]:
            return [FileScanTask(task.file, {removed})]

    with pytest.raises(InputError, match=r"k\.path: the Iceberg table /lake/p has row deletes, .*\.rewrite_data_files"):
        _live_files(table, Planned(), "/lake/p", "k.path")


def test_a_table_of_a_catalog_that_spark_lacks(spark: SparkSession, tmp_path: Path, store: Store, table: Table) -> None:
    """The section `spark` names the catalog; it is read at its newest snapshot, by a source and in a query."""
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/lake"}
    first, newest = (str(snapshot.snapshot_id) for snapshot in table.snapshots())
    names = {f"spark.sql.catalog.shop.{name}": value for name, value in properties.items()}
    with pytest.raises(InputError, match=r"inputs\.purchases\.table"):
        read(spark, tmp_path, {"table": "shop.shop.purchases"})  # nothing says where the catalog is
    try:
        for name, value in names.items():
            spark.conf.set(name, value)
        found = read(spark, tmp_path, {"table": "shop.shop.purchases"})
        assert users(found) == ["u2", "u3"]
        assert found.versions == {"inputs.purchases.version": newest}
        config = config_of({"table": "shop.shop.purchases"})
        save_settings(spark, store, config)
        published = {"settings": settings_version(config), "inputs.purchases.version": first}
        own = own_config(spark, store, config, published)
        assert users(read_inputs(spark, own, date(2026, 3, 31), str(tmp_path / "again"))) == ["u1", "u2", "u3"]
        with pytest.raises(InputError, match=r"table: the Iceberg catalog shop has no table shop\.orders\. Correct"):
            read(spark, tmp_path, {"table": "shop.shop.orders"})
        spark.conf.set("spark.sql.catalog.shop.uri", f"sqlite:///{tmp_path}/none/catalog.db")
        with pytest.raises(InputError, match=r"table: the Iceberg catalog shop cannot be asked for shop\.purchases"):
            read(spark, tmp_path, {"table": "shop.shop.purchases"})
    finally:
        for name in names:
            spark.conf.unset(name)
