"""Finds columns that some files of a source have and others lack, for example after a renamed export column.

Spark takes the columns of a Parquet folder from one of its files. It fills the columns that other files lack with
nulls and says nothing. A renamed column would then quarantine the rows of a whole week, or lose their ratings. This
module therefore reads the footers of all files; the mapping is checked against every schema among them. JSON files
have no footer: a file is reported if all its rows lack a value that the rows of other files have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    MapType,
    NullType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from jobs.sources.expressions import column_named
from jobs.spark.errors import InputError

#: Reading more footers than this takes minutes; then Spark's own schema is used.
MAX_FILES = 5_000
_THREADS = 8
#: A file is reported if a random sample of rows would lack the value less often than this.
_MAX_PROBABILITY = 1e-6
_WIDER_TYPES = {("int", "bigint"), ("int", "double"), ("float", "double"), ("smallint", "int"), ("tinyint", "int")}


def distinct_schemas(spark: SparkSession, paths: Sequence[str]) -> dict[str, StructType]:
    """Return the distinct schemas among Parquet files, each under the first file (by name) that has it.

    A column of a file that has no values and no type (pandas writes it so) is of NullType. Unreadable files are
    skipped: the scan reports them.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda path: _footer_schema(spark, path), sorted(paths)))
    firsts: dict[str, tuple[str, Any]] = {}
    for path, message in zip(sorted(paths), found, strict=True):
        if message is not None:
            firsts.setdefault(str(message.toString()), (path, message))
    converter = _converter(spark)
    schemas: dict[str, StructType] = {}
    for path, message in firsts.values():
        schema = StructType.fromJson(json.loads(converter.convert(message).json()))
        untyped = {str(field.getName()) for field in message.getFields() if _is_untyped(field)}
        schema = StructType([StructField(f.name, NullType()) if f.name in untyped else f for f in schema.fields])
        if schema not in schemas.values():
            schemas[path] = schema
    return schemas


def refuse_unknown_types(spark: SparkSession, paths: Sequence[str], key: str) -> None:
    """Raise InputError for the first column of a Parquet file (URI) whose type Spark does not have, naming both."""
    converter = _converter(spark)
    jvm: Any = spark._jvm
    for path in sorted(paths):
        message = _footer_schema(spark, path)
        for field in () if message is None else message.getFields():
            alone = jvm.java.util.ArrayList()
            alone.add(field)
            try:
                converter.convert(jvm.org.apache.parquet.schema.MessageType("alone", alone))
            except AnalysisException as error:
                kind = dict(error.getMessageParameters() or {}).get("parquetType", "unknown")
                raise InputError(
                    f"{key}.path: the column {field.getName()} of {path} has the type {kind}, which Spark does not "
                    'read. Write times in microseconds (pandas: to_parquet(..., coerce_timestamps="us")), then run '
                    "the command again."
                ) from None


def merge_schemas(schemas: Sequence[StructType]) -> StructType:
    """Merge the columns of all schemas: names ignore case, the first spelling stays, numbers take the wider type.

    Of two incompatible types the first stays: the scan names the file if the column is read at all.
    """
    fields: dict[str, StructField] = {}
    for schema in schemas:
        for field in schema.fields:
            known = fields.get(field.name.lower())
            data_type = field.dataType if known is None else _common_type(known.dataType, field.dataType)
            name = field.name if known is None else known.name
            fields[field.name.lower()] = StructField(name, data_type, nullable=True)
    return StructType(list(fields.values()))


def columns_missing_from_some(schemas: Mapping[str, StructType], columns: Sequence[str]) -> dict[str, str]:
    """Map each of `columns` that some files have and others lack to the first file that lacks it."""
    missing: dict[str, str] = {}
    for column in columns:
        has = {path: column.lower() in {name.lower() for name in schema.names} for path, schema in schemas.items()}
        if any(has.values()) and not all(has.values()):
            missing[column] = next(path for path, is_there in has.items() if not is_there)
    return missing


def columns_without_values(rows: DataFrame, file: str, columns: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Map each of `columns` that one file never fills, though others do, to the first such file and its row count.

    `file` is the column with each row's file. The rows are scanned once. A file is reported only if chance hardly
    explains its nulls.
    """
    counts = [F.count(column_named(column)).alias(column) for column in columns]
    found = rows.groupBy(file).agg(F.count(F.lit(1)).alias("__rows"), *counts).orderBy(file).collect()
    empty: dict[str, tuple[str, int]] = {}
    for column in columns:
        with_rows, values = sum(row["__rows"] for row in found if row[column]), sum(row[column] for row in found)
        share = values / (with_rows + 1)  # plus 1: the next row may lack the value although none did so far
        for row in found:
            if not row[column] and values and (1 - share) ** row["__rows"] < _MAX_PROBABILITY:
                empty.setdefault(column, (row[file], row["__rows"]))
    return empty


def empty_frames(spark: SparkSession, df: DataFrame, schemas: Mapping[str, StructType]) -> dict[str, DataFrame]:
    """Return for each schema's file an empty frame of its columns and of the partition columns of `df`."""
    in_files = {name.lower() for schema in schemas.values() for name in schema.names}
    partitions = [field for field in df.schema.fields if field.name.lower() not in in_files]
    return {
        path: spark.createDataFrame([], StructType([*schema.fields, *partitions])) for path, schema in schemas.items()
    }


def referenced_columns(df: DataFrame) -> set[str]:
    """Return the columns, in lower case, that the expressions of a `select` refer to."""
    found: Any = df._jdf.queryExecution().analyzed().references().toSeq()
    return {str(found.apply(number).name()).lower() for number in range(found.size())}


def untyped_columns(schemas: Mapping[str, StructType], merged: StructType, key: str) -> list[str]:
    """Return the columns of `merged` that have a type in some files and, without a value, none in another.

    Spark's row reader reads such a column as nulls, its column reader never does, and neither reads it as a time or
    a structure. Raises InputError for those, naming the column, the file and the mend; `key` names the source.
    """
    found = []
    for path, schema in schemas.items():
        for name in (field.name for field in schema.fields if isinstance(field.dataType, NullType)):
            wanted = next(field.dataType for field in merged.fields if field.name.lower() == name.lower())
            if isinstance(wanted, (TimestampType, TimestampNTZType, StructType, MapType)):
                raise InputError(
                    f"{key}.path: the column {name} of {path} has no values and no type, but it is "
                    f"{wanted.simpleString()} in other files. Write the file again with the type of the others, or "
                    "take it out of the folder. Then run the command again."
                )
            if not isinstance(wanted, NullType):
                found.append(name)
    return found


def _common_type(one: DataType, other: DataType) -> DataType:
    if isinstance(one, NullType):
        return other
    if isinstance(one, StructType) and isinstance(other, StructType):
        return merge_schemas([one, other])
    return other if (one.simpleString(), other.simpleString()) in _WIDER_TYPES else one


def _is_untyped(field: Any) -> bool:
    """Whether a field of a Parquet schema (a JVM object) is annotated as a column of nulls without a type."""
    return str(field.getLogicalTypeAnnotation()) == "UNKNOWN"


def _converter(spark: SparkSession) -> Any:
    """Return Spark's converter of Parquet schemas, with the settings of the session."""
    jvm: Any = spark._jvm
    parquet = jvm.org.apache.spark.sql.execution.datasources.parquet
    return parquet.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())


def _footer_schema(spark: SparkSession, path: str) -> Any:
    """Return the Parquet schema (a JVM object) of a file, or None if it has no readable footer."""
    jvm: Any = spark._jvm
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader
    source = jvm.org.apache.parquet.hadoop.util.HadoopInputFile
    try:
        hadoop_path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(path))
        opened = reader.open(source.fromPath(hadoop_path, spark._jsc.hadoopConfiguration()))
    except Py4JJavaError:
        return None
    try:
        return opened.getFooter().getFileMetaData().getSchema()
    finally:
        opened.close()
