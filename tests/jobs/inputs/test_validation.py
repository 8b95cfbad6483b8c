"""Casting to the contract's types: valid values stay exact, invalid ones break a named rule and are never quoted."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from jobs.inputs.validation import RULE, emptied, emptied_rules, rule_details, validate_rows
from jobs.spark.errors import InputError
from schemas import INPUTS, contract

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

REVIEWS = contract("reviews").columns
PURCHASES = contract("purchases").columns
RIGHT_REVIEW = ["'r'", "'u'", "'i'", "'5'", "'good'", "'2026-03-01 10:00:00'"]


def values_of(spark: SparkSession, table: str, column: str, literals: list[str]) -> list[tuple[Any, str | None]]:
    """Validate each SQL literal in one column of otherwise valid rows; return (value, first broken rule) of each.

    A row that stays without an optional value gives "without" and the rule.
    """
    right = {
        "reviews": dict(zip(contract("reviews").column_names, RIGHT_REVIEW, strict=True)),
        "purchases": {"user_id": "'u'", "item_id": "'i'", "purchased_at": "timestamp'2026-03-01 10:00:00'"},
    }[table]
    names = contract(table).column_names
    given = ", ".join(f"{right.get(name, 'null')} AS {name}" for name in names if name != column)
    rows = spark.sql(
        f"SELECT n, value AS {column}, {given} FROM (SELECT posexplode(array({', '.join(literals)})) AS (n, value))"
    )
    done = validate_rows(rows, table, contract(table).columns).orderBy("n")
    if column.endswith("_at"):  # as the shop's clock shows it: Python's own depends on the machine
        done = done.withColumn(column, done[column].cast("string"))
    return [(row[column], row[RULE] or _lost(row, table)) for row in done.collect()]


def _lost(row: Row, table: str) -> str | None:
    return next((f"without {rule}" for rule in emptied_rules(table) if row[emptied(rule)]), None)


def test_texts_as_ratings(spark: SparkSession) -> None:
    texts = [
        "'5'",
        "' 4 '",
        "'3.0'",
        "'4.5'",
        "'5 stars'",
        "'abc'",
        "''",
        "' '",
        "null",
        "'6'",
        "'1e0'",
        "'99999999999'",
    ]
    assert values_of(spark, "reviews", "rating", texts) == [
        (5, None),
        (4, None),
        (3, None),
        (None, "without rating_unparsable"),
        (None, "without rating_unparsable"),
        (None, "without rating_unparsable"),
        (None, None),
        (None, None),
        (None, None),
        (None, "without rating_in_range"),
        (1, None),
        (None, "without rating_unparsable"),
    ]


def test_numbers_as_ratings(spark: SparkSession) -> None:
    assert values_of(spark, "reviews", "rating", ["5D", "4.5D", "double('NaN')", "1e300D", "null"]) == [
        (5, None),
        (None, "without rating_unparsable"),
        (None, None),
        (None, "without rating_unparsable"),
        (None, None),
    ]
    assert values_of(spark, "reviews", "rating", ["5L", "5000000005L", "0L"]) == [
        (5, None),
        (None, "without rating_unparsable"),
        (None, "without rating_in_range"),
    ]


def test_times(spark: SparkSession) -> None:
    texts = [
        "'2026-03-01 10:00:00'",
        "'2026-03-01T10:00:00.000Z'",
        "'2026-07-01T10:00:00+02:00'",
        "'2026-03-01'",
        "'10:00'",  # Spark's own cast would make it today
        "'2026'",
        "'2026-02-30'",
        "'yesterday'",
        "''",
    ]
    assert values_of(spark, "purchases", "purchased_at", texts) == [
        ("2026-03-01 10:00:00", None),
        ("2026-03-01 10:00:00", None),
        ("2026-07-01 09:00:00", None),  # London summer time
        ("2026-03-01 00:00:00", None),
        (None, "purchased_at_unparsable"),
        (None, "purchased_at_unparsable"),
        (None, "purchased_at_unparsable"),
        (None, "purchased_at_unparsable"),
        (None, "purchased_at_not_null"),
    ]
    naive = ["timestamp_ntz'2026-07-01 10:00:00'", "CAST(NULL AS timestamp_ntz)"]
    assert values_of(spark, "purchases", "purchased_at", naive)[0] == ("2026-07-01 10:00:00", None)
    assert values_of(spark, "purchases", "purchased_at", ["date'2026-07-01'"]) == [("2026-07-01 00:00:00", None)]


def test_money_and_defaults(spark: SparkSession) -> None:
    assert values_of(spark, "purchases", "unit_price", ["'2.55'", "'£3'", "'-1'", "''", "'1e12'", "'0'"]) == [
        (Decimal("2.55"), None),
        (None, "without unit_price_unparsable"),
        (Decimal("-1.00"), "unit_price_not_negative"),
        (None, None),
        (None, "without unit_price_unparsable"),
        (Decimal("0.00"), None),
    ]
    assert values_of(spark, "purchases", "unit_price", ["2.555D", "double('NaN')", "double('Infinity')"]) == [
        (Decimal("2.56"), None),
        (None, None),
        (None, "without unit_price_unparsable"),
    ]
    assert values_of(spark, "purchases", "quantity", ["'3'", "''", "null", "'-2'", "'x'", "'0'"]) == [
        (3, None),
        (1, None),
        (1, None),
        (-2, None),
        (None, "quantity_unparsable"),
        (0, "quantity_not_zero"),
    ]


def test_ids_and_texts(spark: SparkSession) -> None:
    ids = [
        "' a b\t\r\n'",
        "'\u00a0\u3000a\ufeff'",
        "''",
        "' '",
        "concat('a', char(0), 'b')",
        "null",
    ]
    assert values_of(spark, "purchases", "user_id", ids) == [
        ("a b", None),
        ("a", None),
        (None, "user_id_not_null"),
        (None, "user_id_not_null"),
        ("ab", None),
        (None, "user_id_not_null"),
    ]
    assert values_of(spark, "purchases", "item_id", ["10002", "7"]) == [("10002", None), ("7", None)]
    doubles = ["CAST(1039.0 AS DOUBLE)", "1.2E7", "CAST('NaN' AS DOUBLE)", "101.5D", "CAST(null AS DOUBLE)"]
    assert values_of(spark, "purchases", "user_id", doubles) == [
        ("1039", None),
        ("12000000", None),
        (None, "user_id_not_null"),
        ("101.5", None),
        (None, "user_id_not_null"),
    ]
    decimals = ["CAST(17850 AS DECIMAL(10,2))", "CAST(7.5 AS DECIMAL(10,2))"]
    assert values_of(spark, "purchases", "item_id", decimals) == [("17850", None), ("7.50", None)]
    texts = ["' keeps its space '", "concat('a', char(0), 'b')", "''", "'  '", "null"]
    assert values_of(spark, "reviews", "text", texts) == [
        (" keeps its space ", None),
        ("ab", None),
        ("", None),  # stars alone
        ("  ", None),
        (None, None),
    ]
    nothing = spark.sql(
        "SELECT 'r' AS review_id, 'u' AS user_id, 'i' AS item_id, stars AS rating, ' ' AS text, '2026-03-01' AS "
        "reviewed_at FROM VALUES (null), ('many'), ('4') AS t (stars)"
    )
    rules = [row[RULE] for row in validate_rows(nothing, "reviews", REVIEWS).collect()]
    assert rules == ["stars_or_text", "stars_or_text", None]


def test_control_characters_never_reach_a_terminal(spark: SparkSession) -> None:
    osc, csi = r"\u001b]0;owned\u0007", r"\u009b31m"
    literals = f"'Tea{osc}', '{csi}Tea\\u007f', 'Tea\\r\\n\\tcup\\u2028pot', '\\u001b'"
    rows = spark.sql(
        "SELECT n, concat('i', n, char(27)) AS item_id, value AS title, value AS category, value AS brand, "
        "null AS price, null AS available "
        f"FROM (SELECT posexplode(array({literals})) AS (n, value))"
    )
    done = validate_rows(rows, "items", contract("items").columns).orderBy("n").collect()
    assert [(row.item_id, row.title, row.category, row[RULE]) for row in done] == [
        ("i0", "Tea]0;owned", "Tea]0;owned", None),
        ("i1", "31mTea", "31mTea", None),
        ("i2", "Tea   cup pot", "Tea   cup pot", None),
        ("i3", "", None, "title_not_blank"),
    ]
    texts = [f"'good{osc}\\n\\tvery good'"]
    assert values_of(spark, "reviews", "text", texts) == [("good]0;owned\n\tvery good", None)]


def test_bytes_that_are_not_utf8_become_replacement_characters(spark: SparkSession) -> None:
    rows = spark.sql("SELECT CAST(X'61FF62' AS string) AS user_id")
    done = validate_rows(rows, "optouts", contract("optouts").columns).selectExpr("hex(user_id)").collect()
    assert [tuple(row) for row in done] == [("61EFBFBD62",)]  # a, U+FFFD, b


def test_booleans(spark: SparkSession) -> None:
    literals = "'true', 'no', '1', 'maybe', ''"
    rows = spark.sql(
        "SELECT n, 'i' AS item_id, 't' AS title, '' AS category, '' AS brand, '' AS price, value AS available "
        f"FROM (SELECT posexplode(array({literals})) AS (n, value))"
    )
    done = validate_rows(rows, "items", contract("items").columns).orderBy("n").collect()
    lost = "without available_unparsable"  # such a product is known, and it is not sold
    assert [(r.available, r[RULE] or _lost(r, "items")) for r in done] == [
        (True, None), (False, None), (True, None), (False, lost), (True, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column", "literal", "says"),
    [
        (
            "purchases",
            "purchased_at",
            "1767225600L",
            "gives bigint, .* as timestamp: say what it counts: timestamp_sec",
        ),
        ("purchases", "user_id", "array('u')", r"gives array<string>, .* as string: write an expression that gives"),
        ("purchases", "quantity", "date'2026-03-01'", "gives date, which cannot be read as int"),
        ("reviews", "rating", "true", "gives boolean, which cannot be read as int"),
        ("purchases", "unit_price", "named_struct('a', 1)", "gives struct<a:int>, which cannot be read as dec"),
    ],
)
def test_types_that_cannot_be_read(spark: SparkSession, table: str, column: str, literal: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"inputs\.{table}\.columns\.{column} {says}"):
        values_of(spark, table, column, [literal])


def test_every_rule_has_a_reason_without_values() -> None:
    for table in INPUTS:
        reasons = rule_details(table)
        assert all(rule.name in reasons for rule in contract(table).rules)
        for column in contract(table).columns:
            assert column.name in reasons[f"{column.name}_unparsable"]
    # A value that the shop's expression cannot read becomes null: the reason must not say that there was none.
    assert rule_details("purchases")["purchased_at_not_null"].endswith(
        "the expression of inputs.*.columns cannot read it"
    )
    assert rule_details("purchases")["unknown_item"].startswith("item_id is not in items or an earlier snapshot")
