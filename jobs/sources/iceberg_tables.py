"""Reads an Apache Iceberg table, in a folder or of a catalog, at one snapshot.

`pyiceberg` lists the files of a snapshot, and Spark's Parquet reader reads those. Columns are found by their field ids,
so that renamed columns keep their values. Source: the Iceberg table specification, https://iceberg.apache.org/spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
from pyiceberg.exceptions import ValidationError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import FileFormat
from pyiceberg.table import StaticTable, Table
from pyiceberg.transforms import IdentityTransform
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from jobs.config.input_settings import SourceSettings
from jobs.spark import files
from jobs.spark.errors import InputError

_METADATA = re.compile(r"v?(\d+)(-[\w-]+)?(\.gz)?\.metadata\.json(\.gz)?")
_HINT = "version-hint.text"
#: The key of a column's field id, for pyarrow and for Spark's Parquet reader.
_ARROW_ID, _SPARK_ID = b"PARQUET:field_id", "parquet.field.id"
#: What an unreadable metadata file or manifest raises.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, ValidationError)


def holds_iceberg(names: list[str]) -> bool:
    """Whether the names in a folder `metadata` are those of an Iceberg table."""
    return any(_METADATA.fullmatch(name) for name in names)


class OpenedTable(NamedTuple):
    """An Iceberg table, what messages call it, and the key of the configuration that names it."""

    table: Table
    place: str
    key: str


def pinned_snapshot(opened: OpenedTable, source: SourceSettings) -> int | None:
    """Return the id of the source's snapshot: its `version`, or the newest; None for a table without any.

    Raises InputError for a table that lacks the snapshot.
    """
    table, root, key = opened
    newest = table.current_snapshot()
    if source.version is None:
        return newest.snapshot_id if newest else None
    if table.snapshot_by_id(source.version) is None:
        raise InputError(
            f"{key.rpartition('.')[0]}.version: the Iceberg table {root} has no snapshot {source.version}: it expired, "
            "or it never existed. Choose another snapshot, or run the date with --versions current."
        )
    return source.version


def read_iceberg(spark: SparkSession, opened: OpenedTable, version: int | None) -> DataFrame:
    """Read an Iceberg table at its snapshot. Raises InputError for features that Spark's reader ignores."""
    table, root, key = opened
    newest = table.current_snapshot()
    is_newest = newest is None or version in (None, newest.snapshot_id)
    scan = table.scan(snapshot_id=version)
    columns = table.schema() if is_newest else scan.projection()
    if any(getattr(field, "initial_default", None) is not None for field in columns.fields):
        raise _refused(key, root, "columns with an initial default", "rewrite its files with rewrite_data_files")
    schema = StructType([_spark_field(field) for field in _readable(schema_to_pyarrow(columns))])
    paths = _live_files(table, scan, root, key)
    if not paths:
        rows = spark.createDataFrame([], schema)
    else:
        rows = spark.read.schema(schema).parquet(*(files.for_reading(path) for path in paths))
    # Without the ids: files that a night writes from these columns would get them too.
    return rows.select(*(F.col(_quoted(name)).alias(name, metadata={}) for name in schema.names))


def open_folder(spark: SparkSession, source: SourceSettings, root: str, source_key: str) -> OpenedTable:
    """Open the Iceberg table in a folder. Raises InputError for one that cannot be opened or that was moved."""
    key = f"{source_key}.path"
    newest = _newest_metadata(spark, root, key)
    here = files.local(root)
    options = {name: str(value) for name, value in source.options.items()}
    try:
        table = StaticTable.from_metadata(f"{files.uri(root)}/metadata/{newest}", options)
    except _UNREADABLE as error:
        raise _unreadable(key, root, error) from None
    location = urlsplit(table.location()).path.rstrip("/")
    moved = Path(location).resolve() != here.resolve() if here else location != urlsplit(root).path.rstrip("/")
    if moved:
        raise InputError(
            f"{key}: {root} is a copy of the Iceberg table {table.location()}, and its metadata names the files "
            f"there. Write path: {table.location()}, or export the table as Parquet."
        )
    return OpenedTable(table, root, key)


def _newest_metadata(spark: SparkSession, root: str, key: str) -> str:
    """Return the name of the metadata file of the newest version; a catalog of files names it in its version hint."""
    folder = f"{root}/metadata"
    names = files.listdir(spark, folder)
    numbers = {name: int(found[1]) for name in names if (found := _METADATA.fullmatch(name))}
    newest = max(numbers.values())
    if _HINT in names:
        hint = files.read_text(spark, f"{folder}/{_HINT}").strip()
        newest = int(hint) if hint.isdecimal() else newest
    candidates = sorted(name for name, number in numbers.items() if number == newest)
    if len(candidates) != 1:
        raise InputError(
            f"{key}: the Iceberg table {root} has {len(candidates)} metadata files of version {newest}, so its "
            f"folder does not say which is valid. Name the table of its catalog with table, or export it as Parquet."
        )
    return candidates[0]


def _live_files(table: Table, scan: Any, root: str, key: str) -> list[str]:
    """Return the files of the snapshot, sorted; refuse what Spark's Parquet reader would read wrongly."""
    try:
        tasks = list(scan.plan_files())
    except _UNREADABLE as error:
        if "delete" in str(error):
            raise _deletes(key, root) from None
        raise _unreadable(key, root, error) from None
    if any(task.delete_files for task in tasks):
        raise _deletes(key, root)
    for task in tasks:
        fields = table.specs()[task.file.spec_id].fields
        in_folder_names = {field.source_id for field in fields if isinstance(field.transform, IdentityTransform)}
        if task.file.file_format != FileFormat.PARQUET:
            raise _refused(key, root, f"{task.file.file_format.value} files", "rewrite it with Parquet files")
        if in_folder_names - _columns_of(task.file.value_counts, task.file.column_sizes):
            raise _refused(key, root, "files without the columns that partition it", "rewrite it with its own columns")
    return sorted(task.file.file_path for task in tasks)


def _columns_of(*statistics: Mapping[int, int] | None) -> set[int]:
    """Return the field ids of which a file has statistics: those of the columns in it."""
    return {field for of_columns in statistics for field in (of_columns or {})}


def _readable(schema: pa.Schema) -> list[pa.Field]:
    """Return the columns that have a type of Spark; a time of day and a UUID have none."""
    return [field for field in schema if _is_readable(field.type)]


def _is_readable(kind: pa.DataType) -> bool:
    try:
        _spark_type(kind)
    except PySparkException:
        return False
    return True


def _spark_field(field: pa.Field) -> StructField:
    return StructField(field.name, _spark_type(field.type), True, {_SPARK_ID: int(field.metadata[_ARROW_ID])})


def _spark_type(kind: pa.DataType) -> DataType:
    if pa.types.is_struct(kind):
        return StructType([_spark_field(field) for field in kind.fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return ArrayType(_spark_type(kind.value_type))
    if pa.types.is_map(kind):
        return MapType(_spark_type(kind.key_type), _spark_type(kind.item_type))
    return from_arrow_type(kind, prefer_timestamp_ntz=True)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _unreadable(key: str, root: str, error: Exception) -> InputError:
    said = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return InputError(f"{key}: the Iceberg table {root} cannot be opened ({said}). Correct it.")


def _deletes(key: str, root: str) -> InputError:
    return _refused(key, root, "row deletes", "rewrite its files with CALL system.rewrite_data_files")


def _refused(key: str, root: str, what: str, mend: str) -> InputError:
    return InputError(
        f"{key}: the Iceberg table {root} has {what}, which Regulars does not read: {mend}, or read it from a "
        f"catalog with table and Iceberg's jar in spark.jars. Then run the command again."
    )
