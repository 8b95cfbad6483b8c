"""Enforces table contracts on DataFrames: columns and types before a write, row rules while the rows are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from jobs.spark.errors import GateRefused
from schemas import Contract

#: Casts that lose no information.
_WIDENINGS = {("int", "bigint"), ("float", "double"), ("int", "double")}
#: Name of the count of all rows, and of the column that marks repeated keys.
_ROWS, _REPEATED = "rows", "_is_repeated_key"


class ContractError(GateRefused):
    """An output table breaks its contract. This is a defect of Regulars, so nothing is published."""


def struct_type(contract: Contract) -> StructType:
    """Return the contract's columns as a Spark schema with the contract's nullability."""
    parsed = StructType.fromDDL(
        ", ".join(f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in contract.columns)
    )
    assert isinstance(parsed, StructType), "a list of columns is a struct"
    return parsed


def enforce(df: DataFrame, contract: Contract) -> DataFrame:
    """Select the contract's columns in its order, and cast where no information is lost (such as int to bigint).

    Further columns follow if the contract has them; else they are dropped.

    Raises ContractError with table and column where a column is missing or has another type. Reads no rows.
    """
    types = {field.name: field.dataType for field in df.schema.fields}
    selected: list[Column] = []
    for field in struct_type(contract).fields:
        if field.name not in types:
            raise _broken(contract, f"column {field.name} is missing, the columns are {', '.join(types)}")
        found, wanted = _type_name(types[field.name]), _type_name(field.dataType)
        if found == wanted:
            selected.append(F.col(f"`{field.name}`"))
        elif (found, wanted) in _WIDENINGS:
            selected.append(F.col(f"`{field.name}`").cast(field.dataType).alias(field.name))
        else:
            raise _broken(contract, f"column {field.name} is {found}, it must be {wanted}")
    further = (
        [] if contract.further_columns == "none" else [name for name in types if name not in contract.column_names]
    )
    return df.select(*selected, *(F.col(f"`{name.replace('`', '``')}`") for name in further))


def mark_repeated_keys(df: DataFrame, contract: Contract, also_by: Sequence[str] = ()) -> DataFrame:
    """Add a column that is true in every row whose key an earlier row has; `violation_counts` counts it.

    Equal keys have equal values in the columns `also_by`. This adds neither a shuffle nor a sort to rows that are in
    one partition or partitioned by `also_by`, and sorted by `also_by` and key.
    """
    if not contract.key:
        return df.withColumn(_REPEATED, F.lit(False))
    key = [F.col(f"`{name}`") for name in (*also_by, *contract.key)]
    return df.withColumn(_REPEATED, F.row_number().over(Window.partitionBy(*key).orderBy(*key)) > 1)


def drop_marks(df: DataFrame) -> DataFrame:
    """Remove the column that `mark_repeated_keys` added."""
    return df.drop(_REPEATED)


def violation_counts(contract: Contract) -> list[Column]:
    """Return aggregates over marked rows: the number of rows, and of rows that break each promise of the contract.

    The name of each count is its text in the error message.
    """
    nulls = [
        F.count_if(F.col(f"`{column.name}`").isNull()).alias(f"{column.name} is null")
        for column in contract.columns
        if not column.nullable
    ]
    rules = [F.count_if(~is_true(rule.expression)).alias(f"{rule.message} ({rule.name})") for rule in contract.rules]
    repeats = F.count_if(F.col(_REPEATED)).alias(f"key ({', '.join(contract.key)}) is repeated")
    return [F.count(F.lit(1)).alias(_ROWS), *nulls, *rules, repeats]


def refuse_violations(contract: Contract, counts: Mapping[str, int]) -> int:
    """Return the number of rows that `violation_counts` found. Raises ContractError with every broken promise."""
    broken = [f"{promise}: {rows:,} rows" for promise, rows in counts.items() if rows and promise != _ROWS]
    if broken:
        raise _broken(contract, "; ".join(broken))
    return counts[_ROWS]


def is_true(expression: str) -> Column:
    """Evaluate a row rule; null counts as violated."""
    return F.coalesce(F.expr(expression), F.lit(False))


def _type_name(type_: DataType) -> str:
    """Return the type without nullability, because files and contracts may differ in it."""
    return type_.simpleString()


def _broken(contract: Contract, reason: str) -> ContractError:
    return ContractError(
        f"table {contract.table} breaks its contract: {reason}. Nothing was published; the tables of earlier nights "
        "stay. This is a defect of Regulars: please report it with this message."
    )
