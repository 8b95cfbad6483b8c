"""What Spark knows of the size of a frame before it reads it."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

#: Bytes of files up to which the smaller side of a join is sent to every executor: about two million titles.
_BROADCAST_BYTES = 64_000_000


def size_of(frame: DataFrame) -> int:
    """Return the bytes that Spark expects of a frame: those of its files, before any filter. Reads no rows.

    Rows that lie in no file count as very large.
    """
    return int(str(frame._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()))


def broadcast_if_small(frame: DataFrame) -> DataFrame:
    """Ask Spark to send a frame to every executor for a join, unless its files are too large for that.

    Spark sends a larger frame too if it proves small at run time.
    """
    return F.broadcast(frame) if size_of(frame) <= _BROADCAST_BYTES else frame
