"""Opens the configured sources as DataFrames with the contract's columns and the source's own values.

For engineers who map a shop's files: every mistake in a path, a file or a mapping is an InputError that names the
key and the remedy. `jobs/inputs/validation.py` checks the values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

import schemas
from jobs.config.input_settings import TITLE, InputSettings
from jobs.inputs import schema_drift
from jobs.inputs.expressions import column_or_sql, find_column, refuse_unsafe_sql
from jobs.inputs.source_errors import describe_columns, translating_errors
from jobs.spark.errors import BadFile, InputError

#: Name of the column with the path of the file that a row came from.
SOURCE_FILE = "__source_file"

#: Reader options unless `options` says otherwise. CSV follows RFC 4180: doubled quotes, line breaks inside quotes; its
#: header names decide, not positions. JSON numbers keep their text, so one odd value does not change a column's type.
_DEFAULT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"header": True, "multiLine": True, "escape": '"', "enforceSchema": False},
    "json": {"primitivesAsString": True},
}
_RELATION_PLAN = "org.apache.spark.sql.execution.datasources.LogicalRelation"
_FILES = "org.apache.spark.sql.execution.datasources.HadoopFsRelation"


def input_columns(table: str, with_title: bool = False) -> tuple[schemas.Column, ...]:
    """Return the contract's columns; `with_title` adds the title from which purchases derive the items."""
    columns = schemas.contract(table).columns
    return (*columns, schemas.Column(TITLE, "string", nullable=True)) if with_title else columns


@dataclass(frozen=True)
class OpenedSource:
    """An opened source: its rows, and its distinct file schemas, each under one file that has it."""

    rows: DataFrame
    file_schemas: Mapping[str, StructType]


def open_source(
    spark: SparkSession, table: str, source: InputSettings, excluded_files: Sequence[str] = ()
) -> OpenedSource:
    """Open the source without `excluded_files` (URIs) and keep the rows of `where`.

    Raises InputError if the source is missing or has no file, BadFile if a file has zero bytes or is unreadable.
    """
    with translating_errors(table, source, f"inputs.{table}.path"):
        rows, file_schemas = _load(spark, source)
        if _is_never_empty(source, rows):
            _refuse_files_of_zero_bytes(spark, rows, table, excluded_files)
    if excluded_files:
        file = rows.metadataColumn("_metadata").getField("file_path")
        rows = rows.where(~file.isin([str(_hadoop_path(spark, name).toString()) for name in excluded_files]))
    if source.where is not None:
        with translating_errors(table, source, f"inputs.{table}.where", rows):
            refuse_unsafe_sql(rows, source.where, f"inputs.{table}.where")
            rows = rows.where(F.expr(source.where))
    return OpenedSource(rows, file_schemas)


def _load(spark: SparkSession, source: InputSettings) -> tuple[DataFrame, dict[str, StructType]]:
    """Load the source; Parquet gives the columns of all its files and, if they differ, the distinct schemas."""
    options = {**_reader_options(source), **({"ignoreCorruptFiles": True} if source.max_bad_files else {})}
    df = spark.read.format(source.format).options(**options).load(source.paths)
    paths = df.inputFiles() if source.format.lower() == "parquet" else []
    found = schema_drift.distinct_schemas(spark, paths) if 1 < len(paths) <= schema_drift.MAX_FILES else {}
    partitions = _partition_columns(spark, df)
    if len(found) < 2 and not source.max_bad_files and not partitions:
        return df, {}
    # Folder names are text: as a number store=007 would lose its zeros.
    schema = StructType([StructField(f.name, StringType()) if f.name in partitions else f for f in df.schema.fields])
    if len(found) > 1:
        schema = schema_drift.merge_schemas([*found.values(), schema])  # only the last has the partition columns
    # Corrupt files are skipped for the schema alone: the scan must never lose their rows silently.
    rows = spark.read.format(source.format).options(**_reader_options(source)).schema(schema).load(source.paths)
    return rows, found if len(found) > 1 else {}


def _partition_columns(spark: SparkSession, df: DataFrame) -> set[str]:
    """Return the columns of a loaded source that its folder names give (store=007)."""
    plan: Any = df._jdf.queryExecution().analyzed()
    gateway = spark.sparkContext._gateway
    if not is_instance_of(gateway, plan, _RELATION_PLAN) or not is_instance_of(gateway, plan.relation(), _FILES):
        return set()
    return set(StructType.fromJson(json.loads(plan.relation().partitionSchema().json())).names)


def _reader_options(source: InputSettings) -> dict[str, Any]:
    defaults = dict(_DEFAULT_OPTIONS.get(source.format.lower(), {}))
    if source.format.lower() == "json" and source.names_encoding:
        defaults["lineSep"] = "\n"  # Spark detects line ends in UTF-8 alone
    return {**defaults, **source.options}


def refuse_schema_drift(spark: SparkSession, table: str, source: InputSettings, opened: OpenedSource) -> list[str]:
    """Check the mapping against every distinct file schema; return warnings about columns that some files lack.

    An expression may name columns that some files lack, as `coalesce(new_name, old_name)` does, if a file has at
    least one of them. A warning names a column that neither the mapping names nor the contract needs.
    Raises InputError that names the key and the file if a file lacks a column that is needed.
    """
    if not opened.file_schemas:
        return []
    mapping = {f"inputs.{table}.columns.{name}": text for name, text in (source.columns or {}).items()}
    if source.where is not None:
        mapping[f"inputs.{table}.where"] = source.where
    referenced: dict[str, set[str]] = {}
    for key, text in mapping.items():
        with translating_errors(table, source, key, opened.rows):
            referenced[key] = schema_drift.referenced_columns(opened.rows.select(column_or_sql(opened.rows, text)))
    for path, frame in schema_drift.empty_frames(spark, opened.rows, opened.file_schemas).items():
        existing = {name.lower() for name in frame.columns}
        of_file = source.model_copy(update={"path": path})
        for key, text in mapping.items():
            if not (referenced[key] & existing and referenced[key] - existing):
                with translating_errors(table, of_file, key, frame):
                    frame.select(column_or_sql(frame, text))
        if source.columns is None:
            for column in schemas.contract(table).columns:
                if _is_needed(column) and column.name not in existing:
                    raise _missing_column(table, of_file, frame, column.name)
    columns = schemas.contract(table).column_names if source.columns is None else ()
    missing = schema_drift.columns_missing_from_some(opened.file_schemas, columns)
    return [f"inputs.{table}: {path} has no column {name}, which other files have" for name, path in missing.items()]


def warn_of_empty_columns(table: str, source: InputSettings, rows: DataFrame) -> list[str]:
    """Return a warning per column of mapped JSON rows that one file never fills though others do: a renamed key."""
    if source.format.lower() != "json" or not 1 < len(rows.inputFiles()) <= schema_drift.MAX_FILES:
        return []
    columns = [name for name in rows.columns if name != SOURCE_FILE]
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        empty = schema_drift.columns_without_values(rows, SOURCE_FILE, columns)
    return [
        f"inputs.{table}: {path} has no {name} in any of its {count:,} rows, which other files have"
        for name, (path, count) in empty.items()
    ]


def map_columns(df: DataFrame, table: str, source: InputSettings, with_title: bool = False) -> DataFrame:
    """Select one column per contract column, still in the source's types, and SOURCE_FILE.

    A column that the source does not give is null. Raises InputError if a needed column is missing or Spark does not
    understand an expression.
    """
    selected: dict[str, Column] = {}
    for column in input_columns(table, with_title):
        expression = (source.columns or {}).get(column.name)
        if expression is None and source.columns is None and find_column(df, column.name) is not None:
            expression = column.name
        if expression is None:
            if _is_needed(column):
                raise _missing_column(table, source, df, column.name)
            selected[column.name] = F.lit(None).cast("string").alias(column.name)
            continue
        key = f"inputs.{table}.columns.{column.name}"
        with translating_errors(table, source, key, df):
            refuse_unsafe_sql(df, expression, key)
            selected[column.name] = column_or_sql(df, expression).alias(column.name)
    file = df.metadataColumn("_metadata").getField("file_path").alias(SOURCE_FILE)
    try:
        return df.select(*selected.values(), file)
    except PySparkException:
        for name, value in selected.items():  # find the column that fails
            with translating_errors(table, source, f"inputs.{table}.columns.{name}", df):
                df.select(value, file)
        raise


def _is_needed(column: schemas.Column) -> bool:
    return not column.nullable and column.default is None


def _missing_column(table: str, source: InputSettings, df: DataFrame, name: str) -> InputError:
    return InputError(
        f"inputs.{table}: {source.paths_text} has no column {name}, which {table} needs. {describe_columns(df)} Map it:"
        f" inputs.{table}.columns.{name}: <column or SQL expression>, then run the command again."
    )


def _is_never_empty(source: InputSettings, df: DataFrame) -> bool:
    """Whether every valid file of the format has bytes, because it has a footer or a header."""
    has_header = str(_reader_options(source).get("header")).lower() == "true"
    return source.format.lower() in ("parquet", "orc") or (
        source.format.lower() == "csv" and has_header and bool(df.columns)
    )


def _refuse_files_of_zero_bytes(spark: SparkSession, df: DataFrame, table: str, excluded_files: Sequence[str]) -> None:
    """Raise BadFile for a file of zero bytes: its export failed, and Spark would skip it silently."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    for name in set(df.inputFiles()) - set(excluded_files):
        path = _hadoop_path(spark, name)
        if path.getFileSystem(conf).getFileStatus(path).getLen() == 0:
            raise BadFile(
                f"inputs.{table}.path: {name} has zero bytes, so its export failed. Write it again or take it out "
                "of the folder, then run the command again.",
                name,
            )


def _hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Return Hadoop's path of a file's URI; its text equals the file's `_metadata.file_path`."""
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
