"""Contracts on DataFrames: the exact columns and types before a write, and the row rules after it.

`enforce` costs nothing (it is a projection); `check_rows` reads the written rows once.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from jobs.spark.errors import GateRefused
from schemas import Contract

#: Casts that lose nothing, besides the identity.
_WIDENINGS = {("int", "bigint"), ("float", "double"), ("int", "double")}


class ContractError(GateRefused):
    """A table of ours breaks its contract: a fault of the program, so nothing of it may be published."""


def struct_type(contract: Contract) -> StructType:
    """The contract's columns as Spark types, not nullable ones marked so."""
    parsed = StructType.fromDDL(
        ", ".join(f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in contract.columns)
    )
    assert isinstance(parsed, StructType), "a list of columns is a struct"
    return parsed


def enforce(df: DataFrame, contract: Contract) -> DataFrame:
    """Select the contract's columns in its order, widening int to bigint and the like.

    Raises ContractError naming table and column where one is missing or of another type. Rows are not looked at:
    `check_rows` does that.
    """
    types = {field.name: field.dataType for field in df.schema.fields}
    selected: list[Column] = []
    for field in struct_type(contract).fields:
        if field.name not in types:
            raise ContractError(_refusal(contract, [f"column {field.name} is missing, there are {', '.join(types)}"]))
        found, wanted = _name(types[field.name]), _name(field.dataType)
        if found == wanted:
            selected.append(F.col(f"`{field.name}`"))
        elif (found, wanted) in _WIDENINGS:
            selected.append(F.col(f"`{field.name}`").cast(field.dataType).alias(field.name))
        else:
            raise ContractError(_refusal(contract, [f"column {field.name} is {found}, it must be {wanted}"]))
    return df.select(*selected)


def check_rows(df: DataFrame, contract: Contract) -> int:
    """Count the rows; ContractError with counts where nulls, broken row rules or repeated keys are among them.

    Two passes over written rows (the second over the key columns alone), so call it on files, not on a plan that
    runs a model.
    """
    required = [column.name for column in contract.columns if not column.nullable]
    counts = df.agg(
        F.count(F.lit(1)).alias("rows"),
        *(F.count_if(F.col(f"`{name}`").isNull()).alias(f"null {name}") for name in required),
        *(F.count_if(~is_true(rule.expression)).alias(f"rule {rule.name}") for rule in contract.rules),
    ).head()
    assert counts is not None, "an aggregate without groups has one row"
    broken = [f"{counts[f'null {name}']} rows have no {name}" for name in required if counts[f"null {name}"]]
    for rule in contract.rules:
        if counts[f"rule {rule.name}"]:
            broken.append(f"in {counts[f'rule {rule.name}']} rows {rule.message} ({rule.name})")
    repeated = _repeated_keys(df, contract)
    if repeated:
        broken.append(f"{repeated} keys ({', '.join(contract.key)}) are there more than once")
    if broken:
        raise ContractError(_refusal(contract, broken))
    return int(counts["rows"])


def is_true(expression: str) -> Column:
    """Evaluate a rule: null counts as violated."""
    return F.coalesce(F.expr(expression), F.lit(False))


def _repeated_keys(df: DataFrame, contract: Contract) -> int:
    if not contract.key:
        return 0
    keys = df.groupBy(*(f"`{name}`" for name in contract.key)).agg(F.count(F.lit(1)).alias("rows_of_key"))
    return keys.where("rows_of_key > 1").count()


def _name(type_: DataType) -> str:
    """The type without nullability, in which files and contracts need not agree."""
    return type_.simpleString()


def _refusal(contract: Contract, reasons: Iterable[str]) -> str:
    return (
        f"table {contract.table} breaks its contract: {'; '.join(reasons)}. Nothing was published; "
        "the tables of earlier nights stay. This is a fault of Regulars, please report it with this message."
    )
