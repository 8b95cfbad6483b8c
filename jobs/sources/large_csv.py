"""Lets several tasks read one large CSV file, where no field of it holds a line break.

CSV allows line breaks inside quotes, so Spark reads a file in one task unless it knows that there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.sources.malformed_rows import Quoting
from jobs.spark import files

#: Bytes from which a file is looked at. A smaller one takes a task some seconds.
_LARGE = 64_000_000
#: Endings of compressed files, which no two tasks can share.
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".snappy", ".deflate", ".xz")


def can_be_split(
    spark: SparkSession,
    uris: Sequence[str],
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    lines: Callable[[], DataFrame],
) -> bool:
    """Return whether each line of these CSV files is a row, and one of the files is large.

    `given` are the source's own options: with its own `multiLine`, encoding or comments the file is read as they say.
    `options` are the CSV reader's. `lines` gives the files as rows of text; it is called only if a file is large.
    """
    own = {name.lower() for name in given} & {"multiline", "encoding", "charset", "comment", "linesep", "mode"}
    quoting = Quoting.of("csv", options)
    plain = [uri for uri in uris if not uri.lower().endswith(_COMPRESSED)]
    if own or quoting is None or max(files.each(lambda uri: _size(spark, uri), plain), default=0) < _LARGE:
        return False
    # Spark skips a line of blanks if each line is a row, and takes it for a malformed row otherwise.
    is_blank = (F.trim("value") == "") & (F.length("value") > 0)
    return lines().where((quoting.quotes_in(F.col("value")) % 2 == 1) | is_blank).isEmpty()


def _size(spark: SparkSession, uri: str) -> int:
    """Return the bytes of the file of an encoded URI, as Spark lists files."""
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
    return int(path.getFileSystem(spark._jsc.hadoopConfiguration()).getFileStatus(path).getLen())
