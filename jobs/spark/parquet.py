"""Parquet folders without Spark's random names, and the footers of what was written, reopened.

Everything is read and checked through Parquet's own Java reader, so that any file system works.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.spark import files


class UnreadableParquet(Exception):
    """A file that was just written cannot be read back, or holds other columns or rows than were written."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself."""

    path: str
    rows: int
    schema: StructType


def one_sorted_partition(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """Bring all rows into one sorted partition, so that what is written does not depend on how they were spread.

    One task sorts, spilling to disk: slower than many, but cut points of several would depend on sampled row order.
    """
    return frame.repartition(1).sortWithinPartitions(*(f"`{name}`" for name in by))


def write(spark: SparkSession, frame: DataFrame, folder: str) -> list[Footer]:
    """Write partitions in order as `folder`/part-00000.parquet, part-00001...; return the reopened footers.

    At least one file is written, so that an empty frame keeps its schema.
    """
    scratch = f"{folder}.writing"
    files.delete(spark, scratch)
    _all_optional(frame).write.option("compression", "zstd").parquet(files.uri(scratch))
    parts = [name for name in files.listdir(spark, scratch) if name.endswith(".parquet")]
    files.mkdirs(spark, folder)
    for number, name in enumerate(parts):
        files.rename(spark, f"{scratch}/{name}", f"{folder}/part-{number:05d}.parquet")
    files.delete(spark, scratch)
    return footers(spark, folder)


def _all_optional(frame: DataFrame) -> DataFrame:
    """Make every column OPTIONAL in the file, which otherwise depends on what the optimizer knows of its nulls.

    The condition is always true, but only at run time, so nothing can fold it away.
    """
    always = F.spark_partition_id() >= 0
    return frame.select(*(F.when(always, F.col(f"`{name}`")).alias(name) for name in frame.columns))


def footers(spark: SparkSession, folder: str) -> list[Footer]:
    """Reopen every Parquet file of a folder; UnreadableParquet for one that is truncated or not Parquet."""
    names = [name for name in files.listdir(spark, folder) if name.endswith(".parquet")]
    return [_footer(spark, f"{folder}/{name}") for name in names]


def check_footers(found: Sequence[Footer], schema: StructType, rows: int, what: str) -> None:
    """UnreadableParquet unless the files have these columns in this order, these types and this many rows in all."""
    wanted = [(field.name, field.dataType.simpleString()) for field in schema]
    if not found:
        raise UnreadableParquet(f"{what}: no Parquet file was written")
    for footer in found:
        there = [(field.name, field.dataType.simpleString()) for field in footer.schema]
        if there != wanted:
            differing = [f"{a} instead of {b}" for a, b in zip(there, wanted, strict=False) if a != b]
            raise UnreadableParquet(
                f"{what}: {footer.path} holds {len(there)} columns, {len(wanted)} were to be written; "
                f"differing: {', '.join(differing) or 'their number'}"
            )
    total = sum(footer.rows for footer in found)
    if total != rows:
        raise UnreadableParquet(f"{what}: {rows:,} rows were to be written, the files hold {total:,}")


def _footer(spark: SparkSession, path: str) -> Footer:
    jvm: Any = spark._jvm
    configuration = spark._jsc.hadoopConfiguration()
    parquet = jvm.org.apache.parquet.hadoop
    try:
        source = parquet.util.HadoopInputFile.fromPath(jvm.org.apache.hadoop.fs.Path(files.uri(path)), configuration)
        reader = parquet.ParquetFileReader.open(source)
    except Py4JJavaError as error:
        raise UnreadableParquet(str(files.os_error(error, path))) from error
    try:
        metadata = reader.getFooter().getFileMetaData()
        converter = jvm.org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter(
            spark._jsparkSession.sessionState().conf()
        )
        schema = StructType.fromJson(json.loads(converter.convert(metadata.getSchema()).json()))
        return Footer(path, int(reader.getRecordCount()), schema)
    finally:
        reader.close()
