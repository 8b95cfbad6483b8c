"""Opens the configured sources as DataFrames of contract columns, values untouched.

For whoever maps a shop's files: each mistake in a path, a file or a mapping is an InputError that names the key and
the mend. What the values are worth is decided in `jobs/inputs/validation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

import schemas
from jobs.config.input_settings import TITLE, Input
from jobs.inputs import schema_drift
from jobs.inputs.source_errors import columns_of, explained
from jobs.spark.errors import BadFile, InputError

#: Name of the column with the path of the file that a row came from.
SOURCE_FILE = "__source_file"

#: What readers do unless `options` says otherwise. CSV as RFC 4180 has it (quotes doubled, line breaks inside quotes;
#: header names, not positions, decide); JSON numbers keep their text, so that one odd value does not retype a column.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"header": True, "multiLine": True, "escape": '"', "enforceSchema": False},
    "json": {"primitivesAsString": True},
}


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
    forms = schema_drift.forms(spark, paths) if 1 < len(paths) <= schema_drift.MOST_FILES else {}
    if len(forms) < 2 and not source.max_bad_files:
        return df, {}
    schema = df.schema
    if len(forms) > 1:
        schema = schema_drift.united([*forms.values(), schema])  # the partition columns are in the last alone
    # Corrupt files are passed over for the schema alone: rows must never be lost in silence.
    read = spark.read.format(source.format).options(**_options(source)).schema(schema).load(source.paths)
    return read, forms if len(forms) > 1 else {}


def _options(source: Input) -> dict[str, Any]:
    usual = dict(_OPTIONS.get(source.format.lower(), {}))
    if source.format.lower() == "json" and source.names_encoding:
        usual["lineSep"] = "\n"  # of another character set Spark does not guess it
    return {**usual, **source.options}


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
            names[key] = schema_drift.names_in(opened.df.select(_value(opened.df, text)))
    for path, frame in schema_drift.frames(spark, opened.df, opened.forms).items():
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
    lacking = schema_drift.lacking(opened.forms, schemas.contract(table).column_names if source.columns is None else ())
    return [f"inputs.{table}: {path} has no column {name}, which other files have" for name, path in lacking.items()]


def values_missing_from_files(table: str, source: Input, rows: DataFrame) -> list[str]:
    """One line for each column of `mapped` JSON rows that a file has no value of, though others do: a renamed key."""
    if source.format.lower() != "json" or not 1 < len(rows.inputFiles()) <= schema_drift.MOST_FILES:
        return []
    columns = [name for name in rows.columns if name != SOURCE_FILE]
    with explained(table, source, f"inputs.{table}", scan=True):
        empty = schema_drift.without_values(rows, SOURCE_FILE, columns)
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
        f"inputs.{table}: {source.shown} has no column {name}, which {table} needs. {columns_of(df)} Map it: "
        f"inputs.{table}.columns.{name}: <column or SQL expression>, then run the command again."
    )


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
