"""Maps the columns of a source to those of the contract, still with the source's own values.

For engineers who map a shop's files: every mistake in a mapping is an InputError that names the key and the remedy.
`jobs/sources/sources.py` opens the source, and `jobs/inputs/validation.py` checks the values.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType, NullType

import schemas
from jobs.config.input_settings import TITLE, InputSettings
from jobs.inputs.validation import MARKS
from jobs.sources import schema_drift
from jobs.sources.expressions import column_or_sql, find_column, refuse_unsafe_sql
from jobs.sources.file_source import OpenedSource, reader_options
from jobs.sources.malformed_rows import MALFORMED, is_malformed
from jobs.sources.source_errors import columns_of, translating_errors
from jobs.sources.sources import SOURCE_FILE, source_file_column
from jobs.spark.errors import InputError


def input_columns(table: str, with_title: bool = False) -> tuple[schemas.Column, ...]:
    """Return the contract's columns; `with_title` adds the title from which purchases derive the items."""
    columns = schemas.contract(table).columns
    return (*columns, schemas.Column(TITLE, "string", nullable=True)) if with_title else columns


def further_columns(rows: DataFrame, table: str) -> list[str]:
    """Return the names of the mapped columns that the contract does not name but keeps, in the source's order."""
    contract = schemas.contract(table)
    known = (*contract.column_names, SOURCE_FILE, MALFORMED)
    return [] if contract.further_columns == "none" else [name for name in rows.columns if name not in known]


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
            for name in schemas.contract(table).required:
                if name not in existing:
                    raise _missing_column(table, of_file, frame, name)
    columns = tuple(_read_without_mapping(opened.rows, table)) if source.columns is None else ()
    missing = schema_drift.columns_missing_from_some(opened.file_schemas, columns)
    return [f"inputs.{table}: {path} has no column {name}, which other files have" for name, path in missing.items()]


def warn_of_empty_columns(table: str, source: InputSettings, rows: DataFrame) -> list[str]:
    """Return a warning per column of mapped JSON rows that one file never fills though others do: a renamed key."""
    if source.format.lower() != "json" or not 1 < len(rows.inputFiles()) <= schema_drift.MAX_FILES:
        return []
    columns = [name for name in rows.columns if name not in (SOURCE_FILE, MALFORMED)]
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        empty = schema_drift.columns_without_values(rows, SOURCE_FILE, columns)
    return [
        f"inputs.{table}: {path} has no {name} in any of its {count:,} rows, which other files have"
        for name, (path, count) in empty.items()
    ]


def map_columns(df: DataFrame, table: str, source: InputSettings, with_title: bool = False) -> DataFrame:
    """Select one column per contract column, still in the source's types, the further columns, and SOURCE_FILE.

    Rows of text files also have MALFORMED. A column that the source does not give is null. Raises InputError if a
    needed column is missing, Spark does not understand an expression, or a further column cannot be kept.
    """
    selected: dict[str, Column] = {}
    for column in input_columns(table, with_title):
        expression = (source.columns or {}).get(column.name)
        if expression is None and source.columns is None and find_column(df, column.name) is not None:
            expression = column.name
        if expression is None:
            if column.name in schemas.contract(table).required:
                raise _missing_column(table, source, df, column.name)
            selected[column.name] = F.lit(None).cast("string").alias(column.name)
            continue
        key = f"inputs.{table}.columns.{column.name}"
        with translating_errors(table, source, key, df):
            refuse_unsafe_sql(df, expression, key)
            selected[column.name] = column_or_sql(df, expression).alias(column.name)
    for name, expression in _further_expressions(df, table, source).items():
        key = f"inputs.{table}.columns.{name}"
        with translating_errors(table, source, key, df):
            refuse_unsafe_sql(df, expression, key)
            selected[name] = _kept_column(df, expression, key).alias(name)
    about = [source_file_column(df, source).alias(SOURCE_FILE)]
    if MALFORMED in df.columns:
        about.append(is_malformed(df, source.format, reader_options(source)).alias(MALFORMED))
    try:
        return df.select(*selected.values(), *about)
    except PySparkException:
        for name, value in selected.items():  # find the column that fails
            with translating_errors(table, source, f"inputs.{table}.columns.{name}", df):
                df.select(value, *about)
        raise


def _read_without_mapping(df: DataFrame, table: str) -> Sequence[str]:
    contract = schemas.contract(table)
    return df.columns if contract.further_columns == "all" else contract.column_names


def _further_expressions(df: DataFrame, table: str, source: InputSettings) -> dict[str, str]:
    """Return name and expression of each further column: those of the mapping, or without one all that are kept."""
    contract = schemas.contract(table)
    if contract.further_columns == "none" or (contract.further_columns == "mapped" and source.columns is None):
        return {}
    given = {name: name for name in df.columns if name != MALFORMED} if source.columns is None else source.columns
    names = [name.lower() for name in given]
    for name in given:
        reason = "Regulars uses it itself" if name.startswith("__") or name.lower() in MARKS else ""
        if reason := reason or ("two columns have it" if names.count(name.lower()) > 1 else ""):
            raise InputError(
                f"inputs.{table}: a column cannot be called {name}, because {reason}. Name the columns to keep, each "
                f"under its own name, in inputs.{table}.columns, then run the command again."
            )
    return {name: text for name, text in given.items() if name.lower() not in contract.column_names}


def _kept_column(df: DataFrame, expression: str, key: str) -> Column:
    """Return a further column in its own type; one without any value is text. Raises InputError for a map."""
    value = column_or_sql(df, expression)
    (field,) = df.select(value).schema.fields
    if isinstance(field.dataType, MapType):
        raise InputError(
            f"{key} is a map, which cannot be compared. Write to_json({expression}), then run the command again."
        )
    return value.cast("string") if isinstance(field.dataType, NullType) else value


def _missing_column(table: str, source: InputSettings, df: DataFrame, name: str) -> InputError:
    return InputError(
        f"inputs.{table}: {source.place} has no column {name}, which {table} needs. {columns_of(df, source)} Map it:"
        f" inputs.{table}.columns.{name}: <column or SQL expression>, then run the command again."
    )
