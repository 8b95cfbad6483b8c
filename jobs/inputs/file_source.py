"""Opens files with Spark's readers: the formats' default options, the columns of all files, empty files, archives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from jobs.config.input_settings import SourceSettings
from jobs.inputs import schema_drift
from jobs.inputs.paths import refuse_archives, spark_paths
from jobs.inputs.table_formats import TABLE_FORMATS, read_table_format
from jobs.spark.errors import BadFile, InputError

#: Reader options unless `options` says otherwise. CSV follows RFC 4180: doubled quotes, line breaks inside quotes; its
#: header names decide, not positions. JSON numbers keep their text, so one odd value does not change a column's type.
_DEFAULT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"header": True, "multiLine": True, "escape": '"', "enforceSchema": False},
    "json": {"primitivesAsString": True},
}
#: Formats in which the bytes of an archive are text.
_TEXT_FORMATS = ("csv", "json", "text", "xml")
_RELATION_PLAN = "org.apache.spark.sql.execution.datasources.LogicalRelation"
_FILES = "org.apache.spark.sql.execution.datasources.HadoopFsRelation"


@dataclass(frozen=True)
class OpenedSource:
    """An opened source: its rows, and its distinct file schemas, each under one file that has it."""

    rows: DataFrame
    file_schemas: Mapping[str, StructType]


def open_files(
    spark: SparkSession, source: SourceSettings, key: str, *, skip_bad_files: bool = False, excluded: Sequence[str] = ()
) -> OpenedSource:
    """Open the files of a source with all their columns; `key` names the source in messages.

    `skip_bad_files` infers the columns without unreadable files; files in `excluded` (URIs) may have zero bytes.
    Raises InputError for archives and BadFile for a file of zero bytes. Spark's errors pass through.
    """
    if source.format.lower() in TABLE_FORMATS.values():
        return OpenedSource(read_table_format(spark, source, key), {})
    opened = _load(spark, source, key, skip_bad_files)
    if source.format.lower() in _TEXT_FORMATS:
        refuse_archives(spark, f"{key}.path", sorted(opened.rows.inputFiles()))
    if _is_never_empty(source, opened.rows):
        _refuse_files_of_zero_bytes(spark, opened.rows, key, excluded)
    return opened


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Return Hadoop's path of a file's URI; its text equals the file's `_metadata.file_path`."""
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))


def _load(spark: SparkSession, source: SourceSettings, key: str, skip_bad_files: bool) -> OpenedSource:
    """Load the files; Parquet gives the columns of all its files and, if they differ, the distinct schemas."""
    paths, path_options = spark_paths(spark, source.paths, key)
    options = {**_reader_options(source), **path_options}
    infers = dict(options)
    if path_options and str(options.get("multiLine")).lower() == "true":
        # To find the columns of multi-line text, Spark takes the names of files as globs once more.
        if source.format.lower() != "csv":
            raise InputError(
                f"{key}.path: {source.place}: Spark reads no multi-line {source.format} from a path with special "
                "characters. Rename the folder, or write one JSON object a line. Then run the command again."
            )
        infers["multiLine"] = False
    if skip_bad_files:
        infers["ignoreCorruptFiles"] = True
    df = spark.read.format(source.format).options(**infers).load(paths)
    uris = df.inputFiles() if source.format.lower() == "parquet" else []
    found = schema_drift.distinct_schemas(spark, uris) if 1 < len(uris) <= schema_drift.MAX_FILES else {}
    partitions = _partition_columns(spark, df)
    if len(found) < 2 and infers == options and not partitions:
        return OpenedSource(df, {})
    # Folder names are text: as a number store=007 would lose its zeros.
    schema = StructType([StructField(f.name, StringType()) if f.name in partitions else f for f in df.schema.fields])
    if len(found) > 1:
        schema = schema_drift.merge_schemas([*found.values(), schema])  # only the last has the partition columns
    # Corrupt files are skipped for the schema alone: the scan must never lose their rows silently.
    rows = spark.read.format(source.format).options(**options).schema(schema).load(paths)
    return OpenedSource(rows, found if len(found) > 1 else {})


def _partition_columns(spark: SparkSession, df: DataFrame) -> set[str]:
    """Return the columns of a loaded source that its folder names give (store=007)."""
    plan: Any = df._jdf.queryExecution().analyzed()
    gateway = spark.sparkContext._gateway
    if not is_instance_of(gateway, plan, _RELATION_PLAN) or not is_instance_of(gateway, plan.relation(), _FILES):
        return set()
    return set(StructType.fromJson(json.loads(plan.relation().partitionSchema().json())).names)


def _reader_options(source: SourceSettings) -> dict[str, Any]:
    given = {"multiLine" if name.lower() == "multiline" else name: value for name, value in source.options.items()}
    defaults = dict(_DEFAULT_OPTIONS.get(source.format.lower(), {}))
    if source.format.lower() == "json" and source.names_encoding:
        defaults["lineSep"] = "\n"  # Spark detects line ends in UTF-8 alone
    return {**defaults, **given}


def _is_never_empty(source: SourceSettings, df: DataFrame) -> bool:
    """Whether every valid file of the format has bytes, because it has a footer or a header."""
    has_header = str(_reader_options(source).get("header")).lower() == "true"
    return source.format.lower() in ("parquet", "orc") or (
        source.format.lower() == "csv" and has_header and bool(df.columns)
    )


def _refuse_files_of_zero_bytes(spark: SparkSession, df: DataFrame, key: str, excluded: Sequence[str]) -> None:
    """Raise BadFile for a file of zero bytes: its export failed, and Spark would skip it silently."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    for name in set(df.inputFiles()) - set(excluded):
        path = hadoop_path(spark, name)
        if path.getFileSystem(conf).getFileStatus(path).getLen() == 0:
            raise BadFile(
                f"{key}.path: {name} has zero bytes, so its export failed. Write it again or take it out "
                "of the folder, then run the command again.",
                name,
            )
