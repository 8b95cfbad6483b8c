"""Looks at tables of Spark's catalog for `regulars init`: their columns and sampled values."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from jobs.profiling.source_files import (
    MAX_COLUMNS,
    SAMPLE_ROWS,
    Kind,
    SourceColumn,
    SourceFile,
    quoted_name,
    sampled_column,
)
from jobs.spark.errors import InputError


def read_catalog(spark: SparkSession, names: Sequence[str]) -> list[SourceFile]:
    """Look at the first rows of each table. Raises InputError that names a table that cannot be read."""
    return [_look(spark, name) for name in names]


def _look(spark: SparkSession, name: str) -> SourceFile:
    try:
        table = spark.table(name)
        fields = dict(_columns(table.schema))
        if len(fields) > MAX_COLUMNS:
            raise InputError(f"the table {name} has {len(fields):,} columns; at most {MAX_COLUMNS:,} are looked at.")
        rows = table.selectExpr(*fields).limit(SAMPLE_ROWS).collect()
    except PySparkException as error:
        raise InputError(
            f"there is no file {name}, and no table {name} that Spark can read ({error.getCondition() or 'an error'}). "
            "Correct the name; the section spark of the configuration names catalogs."
        ) from None
    columns: list[SourceColumn] = [
        sampled_column(sql.replace("`", ""), sql, _kind(kind), [row[number] for row in rows])
        for number, (sql, kind) in enumerate(fields.items())
    ]
    return SourceFile((), "table", {}, tuple(columns), len(rows), table=name)


def _columns(schema: StructType, prefix: str = "") -> list[tuple[str, DataType]]:
    """Return the columns as SQL, those of structs by their path, and their types."""
    found: list[tuple[str, DataType]] = []
    for field in schema.fields:
        sql = prefix + quoted_name(field.name)
        found += (
            _columns(field.dataType, f"{sql}.") if isinstance(field.dataType, StructType) else [(sql, field.dataType)]
        )
    return found


def _kind(kind: DataType) -> Kind:
    if isinstance(kind, (TimestampType, TimestampNTZType, DateType)):
        return "time"
    if isinstance(kind, NumericType):
        return "number"
    if isinstance(kind, BooleanType):
        return "boolean"
    return "text" if isinstance(kind, StringType) else "nested"
