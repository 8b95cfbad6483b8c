"""Writes Parquet folders with fixed file names and checks the footers of written files.

Footers are read by Parquet's Java reader, which works on every file system that Hadoop knows; counts of local rows need
no JVM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.spark import files

_PART = re.compile(r"part-[0-9]{5}(-.+)?\.parquet")


class UnreadableParquet(Exception):
    """A written file cannot be read back, or its columns or row count are not those written."""


@dataclass(frozen=True)
class Footer:
    """Path, row count and schema of one Parquet file."""

    path: str
    rows: int
    schema: StructType


def one_sorted_partition(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """Sort all rows into one partition, so the written bytes do not depend on the input's partitioning.

    One task sorts and spills to disk; `key_ranges.sorted_ranges` is for frames that are too large for one task.
    """
    return frame.repartition(1).sortWithinPartitions(*(f"`{name}`" for name in by))


def write(spark: SparkSession, frame: DataFrame, folder: str, *, version: str = "", ranges: int = 0) -> list[Footer]:
    """Write each partition, in order, to `folder`/part-00000.parquet, part-00001.parquet...; return the footers.

    Several files have `version` in their names, one file has not. With `ranges`, the number of partitions, the names
    have both numbers (part-00003-of-00016.parquet) and a partition without rows has no file. An empty frame gives one
    file without rows, which keeps the schema. Raises UnreadableParquet as `footers` does.
    """
    scratch = f"{folder}.writing"
    files.delete(spark, scratch)
    _all_optional(frame).write.option("compression", "zstd").parquet(files.uri(scratch))
    parts = [name for name in files.listdir(spark, scratch) if name.endswith(".parquet")]
    files.mkdirs(spark, folder)
    for number, name in enumerate(parts):
        if ranges:
            target = part_name(int(name.split("-")[1]), f"of-{ranges:05d}")  # Spark's name has the partition's number
        else:
            target = part_name(number, version if len(parts) > 1 else "")
        files.rename(spark, f"{scratch}/{name}", f"{folder}/{target}")
    files.delete(spark, scratch)
    return footers(spark, folder)


def part_name(number: int, version: str = "") -> str:
    """Return the name of the file that holds the partition of this number."""
    return f"part-{number:05d}{version and f'-{version}'}.parquet"


def parts(spark: SparkSession, folder: str) -> list[str]:
    """Return the names of the files that `write` wrote, in order; foreign files of the folder are left out."""
    return [name for name in files.listdir(spark, folder) if _PART.fullmatch(name)]


def _all_optional(frame: DataFrame) -> DataFrame:
    """Mark every column OPTIONAL in the file; otherwise that depends on the optimizer's knowledge of nulls.

    The condition is always true. Spark evaluates it at run time, so the optimizer cannot remove it.
    """
    always = F.spark_partition_id() >= 0
    return frame.select(*(F.when(always, F.col(f"`{name}`")).alias(name) for name in frame.columns))


def footers(spark: SparkSession, folder: str) -> list[Footer]:
    """Read the footer of every Parquet file in a folder. Raises UnreadableParquet for a damaged file."""
    names = [name for name in files.listdir(spark, folder) if name.endswith(".parquet")]
    return files.each(lambda name: footer(spark, f"{folder}/{name}"), names)


def folder_schema(spark: SparkSession, folder: str) -> StructType:
    """Return the schema of the first Parquet file in a folder, without a Spark job. Raises FileNotFoundError for none.

    Spark takes all columns as nullable when it reads with a schema.
    """
    for name in files.listdir(spark, folder):
        if name.endswith(".parquet"):
            return footer(spark, f"{folder}/{name}").schema
    raise FileNotFoundError(folder)


def row_count(spark: SparkSession, folder: str) -> int:
    """Return the number of rows of all Parquet files in a folder; 0 without files. Local folders need no session.

    Raises UnreadableParquet for a damaged file.
    """
    here = files.local(folder)
    if here is None:
        return sum(footer.rows for footer in footers(spark, folder))
    names = [name for name in files.listdir(spark, folder) if name.endswith(".parquet")]
    try:
        return sum(pq.read_metadata(here / name).num_rows for name in names)
    except pa.ArrowInvalid as error:
        raise UnreadableParquet(f"{here}: {error}") from error


def small_rows(spark: SparkSession, folder: str) -> list[dict[str, Any]]:
    """Return all rows of a small folder without a Spark job. Raises OSError for a folder that is not there."""
    names = [name for name in files.listdir(spark, folder) if name.endswith(".parquet")]
    return [row for name in names for row in _read_here(spark, f"{folder}/{name}").to_pylist()]


def _read_here(spark: SparkSession, path: str) -> pa.Table:
    here = files.local(path)
    content = here.read_bytes() if here else files.first_bytes(spark, files.uri(path), files.file_size(spark, path))
    # Arrow's threads may outlive a short command, which then aborts at its end (apache/arrow issue 34314).
    with pq.ParquetFile(pa.BufferReader(content)) as source:
        return source.read(use_threads=False)


def check_footers(found: Sequence[Footer], schema: StructType, rows: int, what: str) -> None:
    """Raise UnreadableParquet unless the files have this schema, in column order, and `rows` rows in total.

    `what` names the table in the message.
    """
    wanted = [(field.name, field.dataType.simpleString()) for field in schema]
    if not found:
        raise UnreadableParquet(f"{what}: no Parquet file was written")
    for footer in found:
        there = [(field.name, field.dataType.simpleString()) for field in footer.schema]
        if there != wanted:
            differing = [f"{a} instead of {b}" for a, b in zip(there, wanted, strict=False) if a != b]
            raise UnreadableParquet(
                f"{what}: {footer.path} holds {len(there)} columns, {len(wanted)} were expected; "
                f"differing: {', '.join(differing) or 'their number'}"
            )
    total = sum(footer.rows for footer in found)
    if total != rows:
        raise UnreadableParquet(f"{what}: {rows:,} rows were expected, the files hold {total:,}")


def footer(spark: SparkSession, path: str) -> Footer:
    """Read the footer of one Parquet file. Raises UnreadableParquet for a damaged file."""
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
