"""Contracts on DataFrames: what is right passes unchanged, what is wrong is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobs.spark.contracts import ContractError, enforce, struct_type
from schemas import INPUTS, OUTPUTS, contract
from tests.rows import check_rows, frame, row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SENTIMENTS = contract("sentiments")


@pytest.mark.parametrize("table", INPUTS + OUTPUTS)
def test_every_contract_holds_for_a_right_row(spark: SparkSession, table: str) -> None:
    df = frame(spark, table, [{}])
    assert enforce(df, contract(table)).schema == struct_type(contract(table))
    assert check_rows(df, contract(table)) == 1


def test_enforce_orders_and_drops_columns(spark: SparkSession) -> None:
    df = spark.sql("SELECT 3 AS extra, 2L AS n, 0.5D AS value, 'all' AS slice, 'hit@10' AS metric")
    enforced = enforce(df, contract("metrics"))
    assert enforced.columns == ["metric", "slice", "value", "n"]
    assert [tuple(r) for r in enforced.collect()] == [("hit@10", "all", 0.5, 2)]


def test_enforce_widens_but_never_narrows(spark: SparkSession) -> None:
    wide = enforce(spark.sql("SELECT 'm' AS metric, 's' AS slice, 1 AS value, 2 AS n"), contract("metrics"))
    assert [f.dataType.simpleString() for f in wide.schema.fields] == ["string", "string", "double", "bigint"]
    with pytest.raises(ContractError, match=r"table metrics .* column value is bigint, it must be double"):
        enforce(spark.sql("SELECT 'm' AS metric, 's' AS slice, 1L AS value, 2 AS n"), contract("metrics"))
    with pytest.raises(ContractError, match="column rank is bigint, it must be int"):
        enforce(
            frame(spark, "recommendations", [{}]).selectExpr("* EXCEPT (rank)", "1L AS rank"),
            contract("recommendations"),
        )


def test_enforce_names_a_missing_column(spark: SparkSession) -> None:
    with pytest.raises(ContractError, match="table metrics breaks its contract: column n is missing") as caught:
        enforce(spark.sql("SELECT 'm' AS metric, 's' AS slice, 1.0D AS value"), contract("metrics"))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"label": "good"}, r"label is none of the three \(.*\): 1 rows"),
        ({"p_neutral": 0.9}, "the probabilities do not sum to 1"),
        ({"p_neutral": float("nan")}, "the probabilities do not sum to 1"),
        ({"p_negative": -0.5, "p_positive": 0.5}, "the probabilities do not sum to 1"),
        ({"rating": 6}, "rating is not 1 to 5"),
    ],
)
def test_check_rows_counts_broken_rules(spark: SparkSession, wrong: dict[str, Any], says: str) -> None:
    df = frame(spark, "sentiments", [{"review_id": "a"}, {"review_id": "b", **wrong}, {"review_id": "c"}])
    with pytest.raises(ContractError, match=says):
        check_rows(df, SENTIMENTS)


def test_check_rows_counts_nulls_as_files_have_them(spark: SparkSession, tmp_path: Any) -> None:
    nullable = struct_type(SENTIMENTS)
    for field in nullable.fields:
        field.nullable = True
    rows = [row("sentiments", review_id="a", p_negative=None), row("sentiments", review_id="b")]
    df = spark.createDataFrame([tuple(r.values()) for r in rows], nullable)
    df.write.parquet(str(tmp_path / "t"))
    with pytest.raises(ContractError, match="p_negative is null: 1 rows"):
        check_rows(spark.read.parquet(str(tmp_path / "t")), SENTIMENTS)


def test_check_rows_finds_repeated_keys(spark: SparkSession) -> None:
    ranks = [{"rank": 1}, {"rank": 2}, {"rank": 2}]
    with pytest.raises(ContractError, match=r"key \(user_id, rank\) is repeated: 1 rows"):
        check_rows(frame(spark, "recommendations", ranks), contract("recommendations"))
    assert check_rows(frame(spark, "recommendations", ranks[:2]), contract("recommendations")) == 2


def test_rows_may_repeat_where_the_contract_has_no_key(spark: SparkSession) -> None:
    assert check_rows(frame(spark, "quarantine", [{}, {}]), contract("quarantine")) == 2


def test_an_empty_table_is_right(spark: SparkSession) -> None:
    assert check_rows(frame(spark, "loyalty", []), contract("loyalty")) == 0


def test_the_row_factory_refuses_columns_that_are_not_there() -> None:
    with pytest.raises(KeyError, match="purchases has no column price"):
        row("purchases", price=3)
