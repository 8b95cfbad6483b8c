"""Takes rows out of a Parquet file by the values of one column; all other rows keep their order and values.

`regulars rollback` leaves out customers who opted out, `regulars erase` customers who are to be forgotten. Both work on
single files and need no Spark job; a file of a Hadoop file system is copied to this machine first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.spark import files


def count_rows(spark: SparkSession, path: str, column: str, values: pa.Array) -> int:
    """Return how many rows of a file have one of `values` (strings) in `column`; 0 without such a column."""
    with files.local_copy(spark, path) as here, pq.ParquetFile(here) as source:
        if not len(values) or column not in source.schema_arrow.names:
            return 0
        groups = range(source.num_row_groups)
        columns = (source.read_row_group(group, columns=[column])[column] for group in groups)
        return sum(pc.sum(pc.is_in(one, value_set=values)).as_py() or 0 for one in columns)


def write_without(spark: SparkSession, path: str, target: str, column: str, values: pa.Array) -> int:
    """Write the other rows of a file to the new file `target`; return the number of rows that were left out.

    `column` holds strings. Row groups, schema and metadata are those of the file.
    """
    dropped = 0
    with files.local_copy(spark, path) as here, tempfile.TemporaryDirectory(prefix="regulars-") as folder:
        written = Path(folder) / "part.parquet"
        with (
            pq.ParquetFile(here) as source,
            pq.ParquetWriter(written, source.schema_arrow, compression="zstd", store_decimal_as_integer=True) as writer,
        ):
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                kept = rows.filter(pc.invert(pc.is_in(rows[column], value_set=values)))
                dropped += len(rows) - len(kept)
                if len(kept):
                    writer.write_table(kept, row_group_size=len(kept))
        files.copy_there(spark, written, target)
    return dropped
