"""Opens the configured sources as DataFrames of contract columns, values untouched.

For whoever maps a shop's files: each mistake in a path, a file or a mapping is an InputError that names the key and
the mend. What the values are worth is decided in `jobs/validation.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.java_gateway import JavaObject, is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

import schemas
from jobs import drift
from jobs.errors import BadFile, InputError
from jobs.input_settings import TITLE, Input

#: Name of the column with the path of the file that a row came from.
SOURCE_FILE = "__source_file"

#: What readers do unless `options` says otherwise. CSV as RFC 4180 has it (quotes doubled, line breaks inside quotes;
#: header names, not positions, decide); JSON numbers keep their text, so that one odd value does not retype a column.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"header": True, "multiLine": True, "escape": '"', "enforceSchema": False},
    "json": {"primitivesAsString": True},
}
_LISTED_COLUMNS = 30
_SQLSTATE = re.compile(r"\s*SQLSTATE: \w+.*")


def input_columns(table: str, with_title: bool = False) -> tuple[schemas.Column, ...]:
    """The contract's columns; `with_title` adds the one from which purchases derive items."""
    columns = schemas.contract(table).columns
    return (*columns, schemas.Column(TITLE, "string", nullable=True)) if with_title else columns


@dataclass(frozen=True)
class Opened:
    """A source as opened: its rows, and the schemas among its files, each by one file that has it."""

    df: DataFrame
    forms: Mapping[str, StructType]


def open_source(spark: SparkSession, table: str, source: Input, left_out: Sequence[str] = ()) -> Opened:
    """Open the source without the files `left_out` and keep the rows of `where`.

    InputError where it is missing or empty of files, BadFile where one of them is of zero bytes or unreadable.
    """
    with explained(table, source, f"inputs.{table}.path"):
        df, forms = _loaded(spark, source)
        if _fills_every_file(source, df):
            _refuse_files_of_zero_bytes(spark, df, table, left_out)
    if left_out:
        file = df.metadataColumn("_metadata").getField("file_path")
        df = df.where(~file.isin([str(_path_of(spark, name).toString()) for name in left_out]))
    if source.where is not None:
        with explained(table, source, f"inputs.{table}.where", df):
            df = df.where(F.expr(source.where))
    return Opened(df, forms)


def _loaded(spark: SparkSession, source: Input) -> tuple[DataFrame, dict[str, StructType]]:
    """The source with all columns that any of its files has, where the files tell (Parquet)."""
    options = {**_options(source), **({"ignoreCorruptFiles": True} if source.max_bad_files else {})}
    df = spark.read.format(source.format).options(**options).load(source.paths)
    paths = df.inputFiles() if source.format.lower() == "parquet" else []
    forms = drift.forms(spark, paths) if 1 < len(paths) <= drift.MOST_FILES else {}
    if len(forms) < 2 and not source.max_bad_files:
        return df, {}
    schema = df.schema
    if len(forms) > 1:
        schema = drift.united([*forms.values(), schema])  # the partition columns are in the last alone
    # Corrupt files are passed over for the schema alone: rows must never be lost in silence.
    read = spark.read.format(source.format).options(**_options(source)).schema(schema).load(source.paths)
    return read, forms if len(forms) > 1 else {}


def _options(source: Input) -> dict[str, Any]:
    return {**_OPTIONS.get(source.format.lower(), {}), **source.options}


def refuse_drift(spark: SparkSession, table: str, source: Input, opened: Opened) -> list[str]:
    """Hold the mapping against each schema among the files; InputError naming key and file where one lacks a column.

    An expression may name columns that some files lack, as `coalesce(new_name, old_name)` does, but not only such.
    Of a column that neither the mapping names nor the contract needs, one line says which file lacks it.
    """
    if not opened.forms:
        return []
    mapping = {f"inputs.{table}.columns.{name}": text for name, text in (source.columns or {}).items()}
    if source.where is not None:
        mapping[f"inputs.{table}.where"] = source.where
    names: dict[str, set[str]] = {}
    for key, text in mapping.items():
        with explained(table, source, key, opened.df):
            names[key] = drift.names_in(opened.df.select(_value(opened.df, text)))
    for path, frame in drift.frames(spark, opened.df, opened.forms).items():
        there = {name.lower() for name in frame.columns}
        one = source.model_copy(update={"path": path})
        for key, text in mapping.items():
            if not (names[key] & there and names[key] - there):
                with explained(table, one, key, frame):
                    frame.select(_value(frame, text))
        if source.columns is None:
            for column in schemas.contract(table).columns:
                if _is_needed(column) and column.name not in there:
                    raise _no_column(table, one, frame, column.name)
    lacking = drift.lacking(opened.forms, schemas.contract(table).column_names if source.columns is None else ())
    return [f"inputs.{table}: {path} has no column {name}, which other files have" for name, path in lacking.items()]


def values_missing_from_files(table: str, source: Input, rows: DataFrame) -> list[str]:
    """One line for each column of `mapped` JSON rows that a file has no value of, though others do: a renamed key."""
    if source.format.lower() != "json" or not 1 < len(rows.inputFiles()) <= drift.MOST_FILES:
        return []
    columns = [name for name in rows.columns if name != SOURCE_FILE]
    with explained(table, source, f"inputs.{table}", scan=True):
        empty = drift.without_values(rows, SOURCE_FILE, columns)
    return [
        f"inputs.{table}: {path} has no {name} in any of its {count:,} rows, which other files have"
        for name, (path, count) in empty.items()
    ]


def mapped(df: DataFrame, table: str, source: Input, with_title: bool = False) -> DataFrame:
    """Select one column per contract column, still in the source's types, and SOURCE_FILE.

    What the source does not give is null. Raises InputError for a column that is needed and missing, and for an
    expression that Spark does not understand.
    """
    selected: dict[str, Column] = {}
    for column in input_columns(table, with_title):
        expression = (source.columns or {}).get(column.name)
        if expression is None and source.columns is None and _find(df, column.name) is not None:
            expression = column.name
        if expression is None:
            if _is_needed(column):
                raise _no_column(table, source, df, column.name)
            selected[column.name] = F.lit(None).cast("string").alias(column.name)
            continue
        with explained(table, source, f"inputs.{table}.columns.{column.name}", df):
            selected[column.name] = _value(df, expression).alias(column.name)
    file = df.metadataColumn("_metadata").getField("file_path").alias(SOURCE_FILE)
    try:
        return df.select(*selected.values(), file)
    except PySparkException:
        for name, value in selected.items():  # which of them is it?
            with explained(table, source, f"inputs.{table}.columns.{name}", df):
                df.select(value, file)
        raise


def _is_needed(column: schemas.Column) -> bool:
    return not column.nullable and column.default is None


def _no_column(table: str, source: Input, df: DataFrame, name: str) -> InputError:
    return InputError(
        f"inputs.{table}: {_shown(source)} has no column {name}, which {table} needs. {_columns_of(df)} Map it: "
        f"inputs.{table}.columns.{name}: <column or SQL expression>, then run the command again."
    )


@contextmanager
def explained(table: str, source: Input, key: str, df: DataFrame | None = None, scan: bool = False) -> Iterator[None]:
    """Turn what Spark says of the source into an InputError naming `key`.

    While rows are scanned (`scan`) only errors of files and expressions are the source's; others pass through.
    Messages about rows stay out (they quote values); those about files, columns and SQL text are given.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        explanation = _explanation(error, key, source, df, scan)
        if explanation is None:
            raise
        message, file = f"{key}: {explanation}, then run the command again.", _bad_file(error)
        raise (InputError(message) if file is None else BadFile(message, file)) from None


def _explanation(
    error: PySparkException | Py4JJavaError, key: str, source: Input, df: DataFrame | None, scan: bool
) -> str | None:
    condition, parameters, message = _condition(error)
    if condition == "PATH_NOT_FOUND":
        return f"there is no {parameters.get('path', _shown(source))}. Mend the path or bring the file"
    if condition == "UNABLE_TO_INFER_SCHEMA":
        return f"{_shown(source)} is an empty folder, or files of zero bytes. Mend the path or bring the data"
    if condition in ("DATA_SOURCE_NOT_FOUND", "INVALID_DATA_SOURCE"):
        return f"Spark knows no format {source.format}; use parquet, csv, json, orc"
    if condition == "FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH":
        return (
            f"column {parameters.get('column')} is {parameters.get('actualType')} in {parameters.get('path')} but "
            f"{parameters.get('expectedType')} in other files. Write all files with one type"
        )
    if condition.startswith("FAILED_READ_FILE"):
        return (
            f"{parameters.get('path')} cannot be read as {source.format}: it is truncated, damaged, gone, of another "
            "format, or (CSV) has another header than the first file. Write it again or take it out of the folder"
        )
    if condition == "PARQUET_TYPE_ILLEGAL":
        return (
            f"a column of {_shown(source)} has the type {parameters.get('parquetType')}, which Spark does not read. "
            'Write timestamps in microseconds (pandas: to_parquet(..., coerce_timestamps="us"))'
        )
    if condition.startswith("UNRESOLVED_COLUMN") and df is not None:
        return f"{_shown(source)} has no column {parameters.get('objectName')}. {_columns_of(df)} Mend {key}"
    state = error.getSqlState() if isinstance(error, PySparkException) else ""
    if (state or "").startswith(("22", "P0")):  # data exceptions, and errors that SQL raised on purpose
        return f"an expression fails on some row ({condition}): use the try_ form of that function"
    return None if scan else f"{_SQLSTATE.sub('', (message.splitlines() or [condition])[0])} Mend {key}"


def _condition(error: PySparkException | Py4JJavaError) -> tuple[str, dict[str, str], str]:
    """Name, parameters and text of the error; of a failed job those of the unreadable file beneath it."""
    if isinstance(error, PySparkException):
        text = str(error).strip().removeprefix(f"[{error.getCondition()}] ")
        return error.getCondition() or "", dict(error.getMessageParameters() or {}), text
    found: tuple[str, dict[str, str], str] = ("", {}, "")
    cause: JavaObject | None = error.java_exception
    while cause is not None:
        if _is_spark_throwable(cause) and cause.getCondition():
            condition = str(cause.getCondition())
            if not found[0] or condition.startswith("FAILED_READ_FILE"):
                found = (condition, dict(cause.getMessageParameters()), str(cause.getMessage()))
        cause = cause.getCause()
    return found


def _is_spark_throwable(exception: JavaObject) -> bool:
    context = SparkContext.getOrCreate()  # tables are read in threads of their own, which have no active session
    return bool(is_instance_of(context._gateway, exception, "org.apache.spark.SparkThrowable"))


def _bad_file(error: PySparkException | Py4JJavaError) -> str | None:
    """The URI of the file that cannot be read at all."""
    condition, parameters, _ = _condition(error)
    if condition.startswith("FAILED_READ_FILE") and not condition.endswith("COLUMN_DATA_TYPE_MISMATCH"):
        return parameters.get("path")
    return None


def _fills_every_file(source: Input, df: DataFrame) -> bool:
    """Whether a right file of the format is never of zero bytes: these have a footer or a header."""
    has_header = str(_options(source).get("header")).lower() == "true"
    return source.format.lower() in ("parquet", "orc") or (
        source.format.lower() == "csv" and has_header and bool(df.columns)
    )


def _refuse_files_of_zero_bytes(spark: SparkSession, df: DataFrame, table: str, left_out: Sequence[str]) -> None:
    """A file of zero bytes is a failed export; Spark would pass over it in silence."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    for name in set(df.inputFiles()) - set(left_out):
        path = _path_of(spark, name)
        if path.getFileSystem(conf).getFileStatus(path).getLen() == 0:
            raise BadFile(
                f"inputs.{table}.path: {name} has zero bytes, so its export failed. Write it again or take it out "
                "of the folder, then run the command again.",
                name,
            )


def _path_of(spark: SparkSession, uri: str) -> Any:
    """Hadoop's path of a file's URI; as text it is what `_metadata.file_path` says of the file."""
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))


def _value(df: DataFrame, expression: str) -> Column:
    """A name is a column, whatever characters it has (reviews.text in a CSV header); all else is SQL."""
    name = _find(df, expression.strip())
    return F.expr(expression) if name is None else F.col("`" + name.replace("`", "``") + "`")


def _find(df: DataFrame, name: str) -> str | None:
    if name in df.columns:
        return name
    return next((column for column in df.columns if column.lower() == name.lower()), None)


def _columns_of(df: DataFrame) -> str:
    names = df.columns
    if not names:
        return "It has no columns: is the file empty?"
    more = f" and {len(names) - _LISTED_COLUMNS} more" if len(names) > _LISTED_COLUMNS else ""
    return f"It has {', '.join(names[:_LISTED_COLUMNS])}{more}."


def _shown(source: Input) -> str:
    return ", ".join(source.paths)
