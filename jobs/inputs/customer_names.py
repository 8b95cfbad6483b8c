"""Takes the names of the table `customers` out of what their customers wrote, before anything else reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.spark.errors import ConfigurationError
from jobs.spark.pandas_udfs import pandas_udf
from lm.redaction.names import without_names

CUSTOMERS = "customers"
TEXTS = {"searches": ("query",), "reviews": ("text",), "questions": ("text", "answer")}
"""The columns that customers wrote, or that staff wrote to them."""
_NAMES = "__names"


def without_customer_names(used: Mapping[str, DataFrame], name_columns: Sequence[str]) -> dict[str, DataFrame]:
    """Replace the names in `name_columns` of the table `customers` in the texts of the same customer.

    Raises ConfigurationError for a column that `customers` lacks.
    """
    tables = dict(used)
    if not name_columns or CUSTOMERS not in tables:
        return tables
    customers = tables[CUSTOMERS]
    if lacking := [column for column in name_columns if column not in customers.columns]:
        raise ConfigurationError(
            f"privacy.name_columns: customers has no column {', '.join(lacking)}; it has {', '.join(customers.columns)}"
        )
    known = F.array_compact(F.array(*(F.col(f"`{column}`").cast("string") for column in name_columns)))
    named = customers.select("user_id", known.alias(_NAMES))
    for table, columns in TEXTS.items():
        if table in tables:
            tables[table] = _without_names(tables[table], named, [c for c in columns if c in tables[table].columns])
    return tables


def _without_names(texts: DataFrame, named: DataFrame, columns: Sequence[str]) -> DataFrame:
    @pandas_udf("string")
    def cleaned(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.Series]:
        for written, names in batches:
            pairs = zip(written, names, strict=True)
            yield pd.Series(
                [one if known is None else without_names(one, list(known)) for one, known in pairs], dtype=object
            )

    joined = texts.join(named, on="user_id", how="left")
    replaced = {}
    for column in columns:
        clean = F.coalesce(cleaned(F.coalesce(column, F.lit("")), _NAMES), F.lit(""))
        # A column that is never null stays so.
        replaced[column] = F.when(F.col(column).isNotNull(), clean) if texts.schema[column].nullable else clean
    return joined.withColumns(replaced).select(*texts.columns)
