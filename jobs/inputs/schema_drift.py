"""Columns that some files of a source have and others have not: a new export with a renamed column, for one.

Spark takes a Parquet folder's columns from one of its files and fills what another lacks with nulls, in silence: the
rows of a whole week would be quarantined, or lose their ratings, and nobody would know why. So the footers of all files
are read, and the mapping is held against each form of file that is among them. JSON has no such thing: there a file
whose rows all lack what the rows of other files have is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructField, StructType

#: With more files than this a look at each footer takes minutes: Spark's own schema is taken then.
MOST_FILES = 5_000
_THREADS = 8
#: A file lacks a column's values by chance less often than this, if its rows are like those of the other files.
_CHANCE = 1e-6
_WIDER = {("int", "bigint"), ("int", "double"), ("float", "double"), ("smallint", "int"), ("tinyint", "int")}


def forms(spark: SparkSession, paths: Sequence[str]) -> dict[str, StructType]:
    """The different schemas among Parquet files, each by the first file in name order that has it.

    Files that cannot be read are left out: whoever scans them says so.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda path: _footer(spark, path), sorted(paths)))
    firsts: dict[str, tuple[str, Any]] = {}
    for path, message in zip(sorted(paths), found, strict=True):
        if message is not None:
            firsts.setdefault(str(message.toString()), (path, message))
    jvm: Any = spark._jvm
    converter = jvm.org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter(
        spark._jsparkSession.sessionState().conf()
    )
    schemas: dict[str, StructType] = {}
    for path, message in firsts.values():
        schema = StructType.fromJson(json.loads(converter.convert(message).json()))
        if schema not in schemas.values():
            schemas[path] = schema
    return schemas


def united(schemas: Sequence[StructType]) -> StructType:
    """All columns of all schemas, names without regard to case, the first spelling kept, numbers as the wider type.

    Where two types have nothing in common the first is taken: the scan names the file, if the column is read at all.
    """
    fields: dict[str, StructField] = {}
    for schema in schemas:
        for field in schema.fields:
            known = fields.get(field.name.lower())
            data_type = field.dataType if known is None else _common(known.dataType, field.dataType)
            name = field.name if known is None else known.name
            fields[field.name.lower()] = StructField(name, data_type, nullable=True)
    return StructType(list(fields.values()))


def lacking(schemas: Mapping[str, StructType], columns: Sequence[str]) -> dict[str, str]:
    """Of these columns those that some files have and others have not: column to the first file without it."""
    missing: dict[str, str] = {}
    for column in columns:
        has = {path: column.lower() in {name.lower() for name in schema.names} for path, schema in schemas.items()}
        if any(has.values()) and not all(has.values()):
            missing[column] = next(path for path, there in has.items() if not there)
    return missing


def without_values(rows: DataFrame, file: str, columns: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Of these columns those that one file has no value of, however many the others have: column to file and its rows.

    One scan; `file` is the column with each row's file. Told is the first such file in name order.
    """
    counts = [F.count(column).alias(column) for column in columns]
    found = rows.groupBy(file).agg(F.count(F.lit(1)).alias("__rows"), *counts).orderBy(file).collect()
    empty: dict[str, tuple[str, int]] = {}
    for column in columns:
        with_rows, values = sum(row["__rows"] for row in found if row[column]), sum(row[column] for row in found)
        share = values / (with_rows + 1)  # in the files that have any; plus 1, as one row without it may come yet
        for row in found:
            if not row[column] and values and (1 - share) ** row["__rows"] < _CHANCE:
                empty.setdefault(column, (row[file], row["__rows"]))
    return empty


def frames(spark: SparkSession, df: DataFrame, schemas: Mapping[str, StructType]) -> dict[str, DataFrame]:
    """Per form's file an empty frame of its columns and of the source's partition columns."""
    in_files = {name.lower() for schema in schemas.values() for name in schema.names}
    partitions = [field for field in df.schema.fields if field.name.lower() not in in_files]
    return {
        path: spark.createDataFrame([], StructType([*schema.fields, *partitions])) for path, schema in schemas.items()
    }


def names_in(df: DataFrame) -> set[str]:
    """The columns, in lower case, that the expressions of a `select` are made of."""
    found: Any = df._jdf.queryExecution().analyzed().references().toSeq()
    return {str(found.apply(number).name()).lower() for number in range(found.size())}


def _common(one: DataType, other: DataType) -> DataType:
    if isinstance(one, StructType) and isinstance(other, StructType):
        return united([one, other])
    return other if (one.simpleString(), other.simpleString()) in _WIDER else one


def _footer(spark: SparkSession, path: str) -> Any:
    """A file's own schema, or None where it has no footer."""
    jvm: Any = spark._jvm
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader
    source = jvm.org.apache.parquet.hadoop.util.HadoopInputFile
    try:
        where = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(path))
        opened = reader.open(source.fromPath(where, spark._jsc.hadoopConfiguration()))
    except Py4JJavaError:
        return None
    try:
        return opened.getFooter().getFileMetaData().getSchema()
    finally:
        opened.close()
