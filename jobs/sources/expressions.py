"""Evaluates the SQL expressions of the configuration over a source, and refuses those that call Java or programs."""

from __future__ import annotations

from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark import SparkContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.spark.errors import InputError

#: Spark's classes that run code which is not SQL, and what to say of each.
_REFUSED_NODES = {
    "CallMethodViaReflection": "reflect, java_method and try_reflect call Java",
    "ScriptTransformation": "TRANSFORM ... USING runs a program",
}
#: Spark's nodes that change the number of rows.
_ROWS_CHANGED = {
    "Generate": "explode and its kin make several rows of one",
    "Aggregate": "an aggregate makes one row of many",
}
_SUBQUERY = "org.apache.spark.sql.catalyst.expressions.SubqueryExpression"
_PLAN = "org.apache.spark.sql.catalyst.plans.QueryPlan"


def column_or_sql(df: DataFrame, text: str) -> Column:
    """Return the column of `df` called `text`, whatever characters it has (reviews.text in a CSV header), else the SQL.

    The SQL is not analysed yet: `refuse_unsafe_sql` does that.
    """
    name = find_column(df, text.strip())
    return F.expr(text) if name is None else column_named(name)


def column_named(name: str) -> Column:
    """Return the column called exactly `name`, whatever characters the name has."""
    return F.col("`" + name.replace("`", "``") + "`")


def find_column(df: DataFrame, name: str) -> str | None:
    """Return the column of `df` with this name, exactly or without regard to case; None if there is none."""
    if name in df.columns:
        return name
    return next((column for column in df.columns if column.lower() == name.lower()), None)


def refuse_unsafe_sql(df: DataFrame, text: str, key: str) -> None:
    """Raise InputError naming `key` if the expression `text` over `df` would call Java or run a program.

    Spark analyses the expression, so quoted names, comments and subqueries hide nothing. Nothing is executed. Spark's
    own errors about the expression pass through.
    """
    if find_column(df, text.strip()) is not None:
        return
    source: Any = df._jdf.queryExecution().analyzed()
    plan: Any = df.select(F.expr(text))._jdf.queryExecution().analyzed()
    _refuse_unsafe_nodes([plan], key)  # of the whole plan: windows and generators become nodes of their own
    while not plan.fastEquals(source):
        reason = _ROWS_CHANGED.get(str(plan.getClass().getSimpleName()))
        if reason is not None:
            raise InputError(
                f"{key}: {reason}, and a column has one value a row. Write inputs.<table>.query instead, then run the "
                "command again."
            )
        (plan,) = _items(plan.children())


def refuse_unsafe_query(rows: DataFrame, key: str) -> None:
    """Raise InputError naming `key` if the rows of a query would call Java or run a program. Nothing is executed."""
    _refuse_unsafe_nodes([rows._jdf.queryExecution().analyzed()], key)


def _refuse_unsafe_nodes(nodes: list[Any], key: str) -> None:
    gateway = SparkContext.getOrCreate()._gateway
    while nodes:
        node = nodes.pop()
        reason = _REFUSED_NODES.get(str(node.getClass().getSimpleName()))
        if reason is not None:
            raise InputError(
                f"{key}: {reason}, which an expression must not do. Compute the value outside Regulars, then run the "
                "command again."
            )
        nodes += _items(node.children())
        if is_instance_of(gateway, node, _SUBQUERY):
            nodes.append(node.plan())
        elif is_instance_of(gateway, node, _PLAN):
            nodes += _items(node.expressions())


def _items(sequence: Any) -> list[Any]:
    """Copy a Scala sequence into a list."""
    return [sequence.apply(number) for number in range(sequence.size())]
