"""Typed wrappers of pandas and Arrow UDFs: pyspark's own type stubs do not cover the style with type hints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from pyspark.sql import Column
from pyspark.sql.pandas import functions


class ColumnFunction(Protocol):
    """A function from columns to a column."""

    def __call__(self, *columns: Column | str) -> Column:
        """Return the result column."""


def pandas_udf(returns: str) -> Callable[[Callable[..., Any]], ColumnFunction]:
    """Decorate a function with pandas type hints as a pandas UDF; `returns` is the SQL type of its result."""
    return cast("Any", functions.pandas_udf)(returns)


def arrow_udf(returns: str) -> Callable[[Callable[..., Any]], ColumnFunction]:
    """Decorate a function of Arrow arrays as an Arrow UDF; `returns` is the SQL type of its result."""
    return cast("Any", functions).arrow_udf(returns)
