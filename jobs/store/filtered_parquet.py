"""Takes rows out of a Parquet file by values of its columns; all other rows keep their order and values.

`regulars rollback` leaves out customers who opted out, `regulars erase` customers who are to be forgotten. Both work on
single files and need no Spark job; a file of a Hadoop file system is copied to this machine first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.spark import files

#: Values by the name of a string column: a row goes where one of its columns has one of the values. Columns that a file
#: lacks do not count.
Unwanted = Mapping[str, pa.Array]


def count_rows(spark: SparkSession, path: str, unwanted: Unwanted) -> int:
    """Return the number of unwanted rows of a file."""
    return sum(pc.sum(mask).as_py() or 0 for _, mask in unwanted_rows(spark, path, unwanted))


def unwanted_rows(
    spark: SparkSession, path: str, unwanted: Unwanted, also: tuple[str, ...] = ()
) -> Iterator[tuple[pa.Table, pa.ChunkedArray]]:
    """Yield the columns of `unwanted` and `also` of each row group, and whether each row is unwanted.

    Yields nothing for a file without any column of `unwanted`.
    """
    with files.local_copy(spark, path) as here, pq.ParquetFile(here) as source:
        names = [name for name in source.schema_arrow.names if len(unwanted.get(name, ()))]
        read = [*names, *(name for name in also if name in source.schema_arrow.names and name not in names)]
        for group in range(source.num_row_groups if names else 0):
            rows = source.read_row_group(group, columns=read)
            yield rows, _mask(rows, names, unwanted)


def write_without(spark: SparkSession, path: str, target: str, unwanted: Unwanted) -> int:
    """Write the other rows of a file to the new file `target`; return the number of rows that were left out.

    Row groups, schema and metadata are those of the file.
    """
    dropped = 0
    with files.local_copy(spark, path) as here, tempfile.TemporaryDirectory(prefix="regulars-") as folder:
        written = Path(folder) / "part.parquet"
        with (
            pq.ParquetFile(here) as source,
            pq.ParquetWriter(written, source.schema_arrow, compression="zstd", store_decimal_as_integer=True) as writer,
        ):
            names = [name for name in source.schema_arrow.names if len(unwanted.get(name, ()))]
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                kept = rows.filter(pc.invert(_mask(rows, names, unwanted))) if names else rows
                dropped += len(rows) - len(kept)
                if len(kept):
                    writer.write_table(kept, row_group_size=len(kept))
        files.copy_there(spark, written, target)
    return dropped


def _mask(rows: pa.Table, names: list[str], unwanted: Unwanted) -> pa.ChunkedArray:
    masks = [pc.is_in(rows[name].cast(pa.string()), value_set=unwanted[name]) for name in names]
    first, *others = masks
    for mask in others:
        first = pc.or_(first, mask)
    return first
