"""Rows of the contracts' tables for tests: a test states only the columns it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jobs.spark.contracts import mark_repeated_keys, refuse_violations, violation_counts
from schemas import Contract, contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: What stands in a column that the test says nothing about, by its type; nullable columns are null.
_FILL: dict[str, Any] = {
    "string": "x",
    "int": 1,
    "bigint": 1,
    "double": 0.0,
    "boolean": True,
    "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "date": date(2026, 3, 1),
    "decimal(12,2)": Decimal("1.00"),
    "array<string>": [],
    "map<string,bigint>": {},
    "map<string,double>": {},
    "map<string,string>": {},
}
#: Columns whose values are bound by a rule of their contract, and nullable ones that most tests need.
_FIT: dict[str, dict[str, Any]] = {
    "recommendations": {"score": -1.0},
    "reviews": {"text": "x"},
    "sentiments": {"label": "neutral", "p_neutral": 1.0, "disagrees": False, "shortened": False},
    "answers": {"refused": True, "refused_because": "no_words"},
    "loyalty": {"group": "control", "segment": "hibernating"},
    "events": {"kind": "view"},
}


def row(table: str, /, **values: Any) -> dict[str, Any]:
    """One right row of `table`, with `values` in place of the fill; KeyError for a column it does not have."""
    c = contract(table)
    for name in values:
        c.column(name)
    fill = {column.name: None if column.nullable else _FILL[column.type] for column in c.columns}
    return fill | _FIT.get(table, {}) | values


def frame(spark: SparkSession, table: str, rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """A DataFrame of `table` in its contract's types; `frame(spark, "items", [])` is empty but typed."""
    from jobs.spark.contracts import struct_type

    names = contract(table).column_names
    full = [row(table, **values) for values in rows]
    return spark.createDataFrame([tuple(r[name] for name in names) for r in full], struct_type(contract(table)))


def filled(df: DataFrame, table: str) -> DataFrame:
    """`df` with null in each nullable column of `table` that it lacks: a stub answers with what its test is about."""
    from pyspark.sql import functions as F

    from jobs.spark.contracts import struct_type

    rest = {f.name: F.lit(None).cast(f.dataType) for f in struct_type(contract(table)) if f.name not in df.columns}
    return df.withColumns({name: null for name, null in rest.items() if contract(table).column(name).nullable})


def check_rows(df: DataFrame, agreed: Contract) -> int:
    """Return the number of rows; ContractError where they break the contract, as in publishing."""
    counts = mark_repeated_keys(df, agreed).agg(*violation_counts(agreed)).head()
    assert counts is not None
    return refuse_violations(agreed, counts.asDict())
