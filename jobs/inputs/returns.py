"""Nets returns and cancellations against the purchases that they return.

A return is a row of `purchases` with a negative quantity. It is matched with earlier purchases of the same product by
the same customer: first those of its own order, then the newest ones. Matched pieces no longer count as bought. A
return that the earlier purchases do not cover in full goes to `quarantine` and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.inputs.validation import RETURN_UNMATCHED, RULE
from jobs.spark import files

#: Marks the rows of a customer's product that has a return.
HAS_RETURN = "__has_return"
#: Marks rows that no longer count: matched returns, and purchases that were returned in full.
RETURNED = "__returned"


class Movement(NamedTuple):
    """One purchase (`quantity` > 0) or return (`quantity` < 0) of one product by one customer."""

    at: int
    quantity: int
    order_id: str | None


def is_return() -> Column:
    """Whether a valid row of `purchases` is a return."""
    return F.col(RULE).isNull() & (F.col("quantity") < 0)


def mark_returned_products(rows: DataFrame) -> DataFrame:
    """Add HAS_RETURN to rows that `number_copies` distributed; its order of the rows serves this window, too."""
    product = Window.partitionBy("__bucket", "user_id", "item_id")
    return rows.withColumn(HAS_RETURN, F.max(is_return()).over(product))


def net_returns(spark: SparkSession, rows: DataFrame, path: str) -> tuple[DataFrame, int]:
    """Net the returns among the written `rows`, which have HAS_RETURN, and write the affected products to `path`.

    Returns the remaining rows and the number of rows that no longer count. Rows of other products are not touched.
    """
    rest, affected = rows.where(~F.col(HAS_RETURN)), rows.where(HAS_RETURN)
    # Python sees times as microseconds and prices as text: pandas cannot hold every timestamp.
    plain = affected.withColumns(
        {"purchased_at": F.unix_micros("purchased_at"), "unit_price": F.col("unit_price").cast("string")}
    )
    schema = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in plain.schema.fields)
    netted = plain.groupBy("user_id", "item_id").applyInPandas(_net_product, f"{schema}, `{RETURNED}` boolean")
    netted = netted.withColumns(
        {
            "purchased_at": F.timestamp_micros("purchased_at"),
            "unit_price": F.col("unit_price").cast(rows.schema["unit_price"].dataType),
        }
    )
    netted.write.mode("overwrite").parquet(files.uri(path))
    written = spark.read.schema(netted.schema).parquet(files.for_reading(path))
    returned = written.where(RETURNED).count()
    return rest.unionByName(written.where(~F.col(RETURNED)).drop(RETURNED)).drop(HAS_RETURN), returned


def _net_product(rows: pd.DataFrame) -> pd.DataFrame:
    """Net all movements of one product by one customer; runs in a Python worker."""
    movements = [Movement(*row) for row in rows[["purchased_at", "quantity", "order_id"]].itertuples(index=False)]
    left, unmatched = net_movements(movements)
    rows[RETURNED] = [n == 0 for n in left]
    rows["quantity"] = [m.quantity if n == 0 else n for m, n in zip(movements, left, strict=True)]
    rows[RULE] = [RETURN_UNMATCHED if n in unmatched else None for n in range(len(rows))]
    for name in ("key_hash", "source_file"):
        rows[name] = [value if n in unmatched else None for n, value in enumerate(rows[name])]
    return rows


def net_movements(movements: Sequence[Movement]) -> tuple[list[int], set[int]]:
    """Match returns with earlier purchases, in linear time after sorting.

    Returns per movement the quantity that remains (0: it no longer counts), and the numbers of the unmatched returns,
    whose quantity stays. A purchase at the same time as a return counts as earlier.
    """
    left = [movement.quantity for movement in movements]
    unmatched: set[int] = set()
    bought: list[int] = []
    by_order: defaultdict[str | None, list[int]] = defaultdict(list)
    total = 0
    for number in sorted(range(len(movements)), key=lambda n: _time_order(movements[n])):
        movement = movements[number]
        if movement.quantity > 0:
            bought.append(number)
            by_order[movement.order_id].append(number)
            total += movement.quantity
            continue
        needed = -movement.quantity
        if needed > total:
            unmatched.add(number)
            continue
        total -= needed
        left[number] = 0
        own_order = [] if movement.order_id is None else by_order[movement.order_id]
        for newest_last in (own_order, bought):
            while needed and newest_last:
                taken = min(needed, left[newest_last[-1]])
                left[newest_last[-1]] -= taken
                needed -= taken
                if not left[newest_last[-1]]:
                    newest_last.pop()
    return left, unmatched


def _time_order(movement: Movement) -> tuple[int, bool, str, int]:
    """Order movements by time, purchases first; the rest makes the order total."""
    return movement.at, movement.quantity < 0, movement.order_id or "", movement.quantity
