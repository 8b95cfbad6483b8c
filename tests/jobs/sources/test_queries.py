"""Named sources: orders and order lines, arrays, catalog tables, and one clear message for each mistake."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.settings import Config
from jobs.inputs.reader import Inputs, read_inputs
from jobs.inputs.row_accounting import RowAccount
from jobs.spark.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = date(2026, 3, 31)
ITEMS = {"query": "SELECT sku AS item_id, name AS title FROM products"}
ORDERS = """
SELECT o.order_id, customer_id AS user_id, ordered_at AS purchased_at, sku AS item_id, quantity
FROM orders o JOIN lines l ON l.order_id = o.order_id
WHERE o.status = 'paid'  -- don't count carts
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "orders.csv").write_text(
        "order_id,customer_id,ordered_at,status\no1,u1,2026-03-01,paid\no2,u2,2026-03-02,paid\no3,u2,2026-03-03,cart\n"
    )
    (tmp_path / "lines.csv").write_text("order_id;sku;quantity\no1;i1;1\no1;i2;3\no2;i1;2\no3;i2;1\no9;i2;1\n")
    (tmp_path / "products.csv").write_text("sku,name\ni1,Tea\ni2,Cup\n")
    return tmp_path


def config_of(shop: Path, purchases: object, **sources: Any) -> Config:
    named = {
        "orders": {"path": str(shop / "orders.csv"), "format": "csv"},
        "lines": {"path": str(shop / "lines.csv"), "format": "csv", "options": {"sep": ";"}},
        "products": {"path": str(shop / "products.csv"), "format": "csv"},
    }
    inputs = {"purchases": purchases, "items": ITEMS}
    return Config.model_validate(
        {"store": "s", "timezone": "Europe/London", "inputs": inputs, "sources": named | sources}
    )


def read(spark: SparkSession, shop: Path, purchases: object, **sources: Any) -> Inputs:
    return read_inputs(spark, config_of(shop, purchases, **sources), DAY, str(shop / "work"))


def error_of(spark: SparkSession, shop: Path, query: str, **sources: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(spark, shop, {"query": query}, **sources)
    assert not (shop / "work").exists(), "nothing is read before the message"
    return str(caught.value)


def purchases_of(inputs: Inputs) -> list[tuple[str, str, str, int]]:
    rows = inputs.used["purchases"].select("order_id", "user_id", "item_id", "quantity").collect()
    return sorted(tuple(row) for row in rows)


PAID = [("o1", "u1", "i1", 1), ("o1", "u1", "i2", 3), ("o2", "u2", "i1", 2)]


def test_orders_and_lines(spark: SparkSession, shop: Path) -> None:
    found = read(spark, shop, {"query": ORDERS})
    assert purchases_of(found) == PAID
    assert found.accounts["purchases"] == RowAccount(3, used=3)
    assert {row.item_id: row.title for row in found.used["items"].collect()} == {"i1": "Tea", "i2": "Cup"}
    assert not [view for view in spark.catalog.listTables() if view.isTemporary], "the views are gone"


def test_mapping_condition_and_date_over_a_query(spark: SparkSession, shop: Path) -> None:
    """The window of {run_date} is the night's own, so a backfilled date reads its own rows."""
    columns = {"user_id": "customer_id", "item_id": "sku", "purchased_at": "ordered_at", "quantity": "`quantity` + 1"}
    query = "SELECT * FROM orders JOIN lines USING (order_id) WHERE ordered_at < '{run_date-29d}';"
    found = read(spark, shop, {"query": query, "columns": columns, "where": "status <> 'cart'"})
    assert [quantity for *_, quantity in purchases_of(found)] == [2, 4]


def test_line_items_in_an_array(spark: SparkSession, shop: Path) -> None:
    """Shopify's order JSON: one object an order, its lines in an array, its customer in a struct."""
    lines = [{"sku": "i1", "quantity": 1}, {"sku": "i2", "quantity": 3}]
    orders = [
        {"id": "o1", "created_at": "2026-03-01", "customer": {"id": "u1"}, "line_items": lines},
        {"id": "o2", "created_at": "2026-03-02", "customer": {"id": "u2"}, "line_items": [lines[0] | {"quantity": 2}]},
        {"id": "o3", "created_at": "2026-03-02", "customer": {"id": "u2"}, "line_items": []},
    ]
    (shop / "orders.json").write_text("\n".join(map(json.dumps, orders)))
    query = """
        SELECT id AS order_id, customer.id AS user_id, created_at AS purchased_at, line.sku AS item_id, line.quantity
        FROM exported LATERAL VIEW explode(line_items) AS line
    """
    exported = {"path": str(shop / "orders.json"), "format": "json"}
    assert purchases_of(read(spark, shop, {"query": query}, exported=exported)) == PAID
    (shop / "whole.json").write_text(json.dumps({"orders": orders}, indent=1))
    nested = query.replace("exported", "(SELECT inline(orders) FROM exported)")
    exported = {"path": str(shop / "whole.json"), "format": "json", "options": {"multiLine": True}}
    assert purchases_of(read(spark, shop, {"query": nested}, exported=exported)) == PAID


def test_tables_of_the_catalog(spark: SparkSession, shop: Path) -> None:
    pq.write_table(pa.table({"order_id": ["o1"], "sku": ["i1"]}), shop / "lines.parquet")
    spark.sql("CREATE DATABASE IF NOT EXISTS sales")
    spark.read.parquet(str(shop / "lines.parquet")).write.saveAsTable("sales.order_lines")
    try:
        columns = {"user_id": "'u1'", "item_id": "sku", "purchased_at": "'2026-03-01'", "order_id": "order_id"}
        expected = [("o1", "u1", "i1", 1)]
        assert purchases_of(read(spark, shop, {"table": "sales.order_lines", "columns": columns})) == expected
        direct = {"query": "SELECT * FROM sales.order_lines", "columns": columns}
        assert purchases_of(read(spark, shop, direct)) == expected
        named = {"query": "SELECT * FROM bought", "columns": columns}
        assert purchases_of(read(spark, shop, named, bought={"table": "sales.order_lines"})) == expected
    finally:
        spark.sql("DROP DATABASE sales CASCADE")
    with pytest.raises(
        InputError, match=r"inputs\.purchases\.table: the catalog has no table sales\.order_lines\. Corr"
    ):
        read(spark, shop, {"table": "sales.order_lines"})


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "SELECT * FROM order",
            "inputs.purchases.query: order is neither a source nor a table of the catalog; did you me",
        ),
        ("SELECT * FROM order JOIN lines", "did you mean orders? Correct the query"),
        (
            "SELECT o.customer FROM orders o",
            "there is no column `o`.`customer`. The source orders: It has order_id, customer_id, ",
        ),
        (
            "SELECT o.customer FROM orders o JOIN lines l",
            "The source lines: It has order_id, sku, quantity. Correct the",
        ),
        ("SELECT 行 FROM orders", "inputs.purchases.query: SQL needs backquotes around the name 行: `行`. Correct"),
        ("SELECT * FORM orders", "inputs.purchases.query: Syntax error"),
        ("DROP TABLE orders", "inputs.purchases.query: Syntax error"),
        ("SELECT 1) AS a; DROP VIEW orders; SELECT * FROM (SELECT 1", "inputs.purchases.query: Syntax error"),
        (
            "SELECT reflect('java.lang.System', 'exit', 3) FROM orders",
            "try_reflect call Java, which an expression must",
        ),
        ("FROM orders SELECT TRANSFORM (order_id) USING 'cat' AS (a)", "TRANSFORM ... USING runs a program"),
    ],
)
def test_queries_that_cannot_be_read(spark: SparkSession, shop: Path, query: str, says: str) -> None:
    assert says in error_of(spark, shop, query)


def test_sources_that_cannot_be_read(spark: SparkSession, shop: Path) -> None:
    missing = {"path": str(shop / "nowhere"), "format": "csv"}
    assert "sources.orders.path: there is no file:" in error_of(spark, shop, ORDERS, orders=missing)
    message = error_of(spark, shop, ORDERS, orders={"table": "sales.orders"})
    assert message.startswith("sources.orders.table: the catalog has no table sales.orders. Correct the name, or conf")


def test_columns_of_a_query(spark: SparkSession, shop: Path) -> None:
    """The mapping over a query names its own key, as over a file."""
    columns = {"user_id": "customer_id", "item_id": "sku", "purchased_at": "ordered_at", "order_id": "order_id"}
    query = "SELECT * FROM orders o JOIN lines l ON o.order_id = l.order_id"
    with pytest.raises(
        InputError, match=r"columns\.order_id: the query has two columns `order_id`\. Name the columns of"
    ):
        read(spark, shop, {"query": query, "columns": columns})
    columns |= {"order_id": "status", "quantity": "pieces"}
    with pytest.raises(
        InputError, match=r"columns\.quantity: the query has no column `pieces`\. It has order_id, customer"
    ):
        read(spark, shop, {"query": query, "columns": columns})
