"""Recognises folders of Delta, Iceberg and Hudi tables, pins their version, and reads Delta tables.

Such a folder also holds Parquet files of older versions, so reading all its files brings deleted rows back. The
`deltalake` library lists the files of a version of a Delta table, and Spark's Parquet reader reads those. Source: the
Delta transaction log protocol, https://github.com/delta-io/delta/blob/master/PROTOCOL.md.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from jobs.config.input_settings import SourceSettings, unescaped
from jobs.config.strict_model import scalar_text
from jobs.sources.iceberg_catalogs import find_table
from jobs.sources.iceberg_tables import OpenedTable, holds_iceberg, open_folder, pinned_snapshot, read_iceberg
from jobs.sources.paths import is_glob, literal_first
from jobs.spark import files
from jobs.spark.errors import InputError

#: The formats of tables that are read at one version, by the name of their kind.
TABLE_FORMATS = {"Delta": "delta", "Iceberg": "iceberg"}
_FILE_FORMATS = ("parquet", "orc", "avro", *TABLE_FORMATS.values())
#: The library stops the process at such a path.
_UNSUPPORTED = re.compile(r"[\[\]^|]")
_Source = TypeVar("_Source", bound=SourceSettings)


def pin_version(spark: SparkSession, source: _Source, key: str) -> _Source:
    """Return the source with its table's format and version, if its path is one of TABLE_FORMATS; else the source.

    A table of an Iceberg catalog that Spark lacks gets its version too.

    `key` names the source in messages. Raises InputError for a folder of Hudi, for a part of a table, for a table
    beside other paths, and for one that cannot be opened.
    """
    if source.table is not None:
        found_table = find_table(spark, source.table, key)
        if found_table is None:
            return source
        opened = OpenedTable(found_table, source.table, f"{key}.table")
        return source.model_copy(update={"version": pinned_snapshot(opened, source)})
    if source.kind != "path" or source.format.lower() not in _FILE_FORMATS:
        return source
    found = {path: _table_format(spark, path) for path in source.paths}
    for path, (kind, root) in found.items():
        if kind == "Hudi":
            raise InputError(
                f"{key}.path: {unescaped(path)} belongs to the {kind} table {root}. Its files hold deleted rows too, so"
                f" they are not read as {source.format}. Name the table of its catalog with {key}.table, with {kind}'s "
                "jar in spark.jars, or export it as Parquet. Then run the command again."
            )
    tables = {path: (kind, root) for path, (kind, root) in found.items() if kind}
    wanted = next((kind for kind, name in TABLE_FORMATS.items() if name == source.format.lower()), None)
    if wanted and any(kind != wanted for kind, _ in tables.values() or [("", "")]):
        raise InputError(f"{key}.path: {source.place} is no {wanted} table. Correct path or format.")
    if not tables and source.version is not None:
        raise InputError(
            f"{key}.version: {source.place} is no Delta or Iceberg table, so it has no version {source.version}. Remove"
            " the key; a date of --versions own runs with --versions current."
        )
    if not tables:
        return source
    (path, (kind, root)), *_ = tables.items()
    if len(source.paths) > 1:
        raise InputError(
            f"{key}.path: {root} is {'an' if kind == 'Iceberg' else 'a'} {kind} table, and a list of paths cannot hold "
            "one. Name each table under sources, and read them with a query: TABLE a UNION ALL TABLE b."
        )
    if root != _root(spark, source):
        raise InputError(
            f"{key}.path: {unescaped(path)} is a part of the {kind} table {root}, and its files hold deleted rows too. "
            f"Write path: {root}, and choose the rows with where, such as where: \"day >= '{{run_date-30d}}'\"."
        )
    if kind == "Delta":
        version: int | None = _open(source, root, key).version()
    else:
        version = pinned_snapshot(open_folder(spark, source, root, key), source)
    return source.model_copy(update={"format": TABLE_FORMATS[kind], "version": version})


def read_table_format(spark: SparkSession, source: SourceSettings, key: str) -> DataFrame:
    """Open a pinned table at its version. Raises InputError for features that Spark's Parquet reader ignores."""
    root = _root(spark, source)
    if source.format == TABLE_FORMATS["Delta"]:
        return _read_delta(spark, source, root, key)
    return read_iceberg(spark, open_folder(spark, source, root, key), source.version)


def read_catalog_table(spark: SparkSession, name: str, version: int | None, key: str) -> DataFrame:
    """Open a table of Spark's catalogs, or of an Iceberg catalog at its pinned version. Spark's errors pass through."""
    table = find_table(spark, name, key)
    return (
        spark.table(name) if table is None else read_iceberg(spark, OpenedTable(table, name, f"{key}.table"), version)
    )


def _root(spark: SparkSession, source: SourceSettings) -> str:
    return unescaped(literal_first(spark, source.paths[0])).rstrip("/")


def _read_delta(spark: SparkSession, source: SourceSettings, root: str, key: str) -> DataFrame:
    table = _open(source, root, key)
    paths = _live_files(table, root, key)
    schema = StructType.fromJson(json.loads(table.schema().to_json()))
    if not paths:
        return spark.createDataFrame([], schema)
    reader = spark.read.schema(schema).option("basePath", files.uri(root))
    return reader.parquet(*(files.for_reading(path) for path in paths))


def _table_format(spark: SparkSession, path: str) -> tuple[str, str]:
    """Return the format of the table that a path is or is a part of, and its folder; ("", "") for plain files."""
    path = literal_first(spark, path).rstrip("/")
    roots = _possible_roots(path)
    try:
        if is_glob(path):
            roots += files.glob(spark, path)
        for root in roots:
            if files.exists(spark, f"{root}/_delta_log"):
                return "Delta", root
            if files.exists(spark, f"{root}/.hoodie"):
                return "Hudi", root
            if holds_iceberg(files.listdir(spark, f"{root}/metadata")):
                return "Iceberg", root
    except OSError:
        pass  # a file system that is not there: reading it says so
    return "", ""


def _possible_roots(path: str) -> list[str]:
    """Return the path up to its first glob, the folder that holds it, and the folders above partitions (day=1)."""
    while is_glob(path):
        path = path.rpartition("/")[0]
    roots = [unescaped(path), unescaped(path).rpartition("/")[0]]
    while "=" in roots[-1].rpartition("/")[2]:
        roots.append(roots[-1].rpartition("/")[0])
    return [root for root in roots if root.strip("/")]


def _open(source: SourceSettings, root: str, key: str) -> DeltaTable:
    here = files.local(root)
    if here is not None and _UNSUPPORTED.search(str(here)):
        raise InputError(
            f"{key}.path: {root} is a Delta table, and the deltalake library reads no path with [, ], ^ or |. Move the "
            "table to another folder, or name another path to it."
        )
    options = {name: str(value) for name, value in source.options.items()}
    try:
        return DeltaTable(root if here is None else str(here), version=source.version, storage_options=options)
    except (DeltaError, OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        if source.version is not None:
            raise InputError(
                f"{key}.version: version {source.version} of the Delta table {root} cannot be opened: its log was "
                f"cleaned up, or it never existed ({said}). Choose another version, or run the date with --versions "
                "current."
            ) from None
        raise InputError(f"{key}.path: the Delta table {root} cannot be opened ({said}). Correct it.") from None


def _live_files(table: DeltaTable, root: str, key: str) -> list[str]:
    """Return the files of the version, sorted; refuse what Spark's Parquet reader would read wrongly."""
    metadata = table.metadata()
    if metadata.configuration.get("delta.columnMapping.mode", "none") != "none":
        raise _refused(key, root, "column mapping", "drop it with ALTER TABLE ... SET TBLPROPERTIES")
    if "deletionVectors" in (table.protocol().reader_features or ()) and any(
        batch.num_rows for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors())
    ):
        raise _refused(key, root, "deletion vectors", "rewrite it with REORG TABLE ... APPLY (PURGE)")
    added = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    paths = []
    for file in added:
        path = unquote(file["path"])
        for column in metadata.partition_columns:
            if not _spells(path, column, file[f"partition.{column}"]):
                what = f"folders that do not spell the values of {column}"
                raise _refused(key, root, what, "copy it, partitioned by column=value")
        paths.append(path if re.match(r"/|[A-Za-z][A-Za-z0-9+.-]+:", path) else f"{root}/{path}")
    return sorted(paths)


def _spells(path: str, column: str, value: object) -> bool:
    """Whether Spark would find this value of a partition column in the names of the file's folders."""
    folders = dict(re.findall(r"(?:^|/)([^/=]+)=([^/]*)(?=/)", path))
    text = "__HIVE_DEFAULT_PARTITION__" if value is None else scalar_text(value)
    return {_unescape(name): _unescape(found) for name, found in folders.items()}.get(column) == text


def _unescape(name: str) -> str:
    """Decode a folder's name as Spark does: each %xx is one character."""
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), name)


def _refused(key: str, root: str, what: str, mend: str) -> InputError:
    return InputError(
        f"{key}.path: the Delta table {root} has {what}, which Regulars does not read: {mend}, or read it from a "
        f"catalog with {key}.table and Delta's jar in spark.jars. Then run the command again."
    )
