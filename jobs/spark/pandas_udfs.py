"""pandas UDFs by type hints, as pyspark asks for them, and Arrow UDFs; its own stubs know only the style before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from pyspark.sql import Column
from pyspark.sql.pandas import functions


class Columns(Protocol):
    """A function over columns."""

    def __call__(self, *columns: Column | str) -> Column:
        """The result's column."""


def pandas_udf(returns: str) -> Callable[[Callable[..., Any]], Columns]:
    """Make a pandas UDF of a function; `returns` is the SQL type of its result, its type hints say the rest."""
    return cast("Any", functions.pandas_udf)(returns)


def arrow_udf(returns: str) -> Callable[[Callable[..., Any]], Columns]:
    """Make an Arrow UDF of a function from Arrow arrays to one; `returns` is the SQL type of its result."""
    return cast("Any", functions).arrow_udf(returns)
