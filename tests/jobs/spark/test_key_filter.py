"""The filter of keys loses no key and lets few others through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from jobs.spark.key_filter import might_be_in, rows_with

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def keys(spark: SparkSession, first: int, last: int) -> DataFrame:
    return spark.range(first, last).select(F.sha2(F.col("id").cast("string"), 256).alias("key"))


def test_a_filter_passes_all_its_keys_and_few_others(spark: SparkSession) -> None:
    wanted = keys(spark, 0, 1000)
    passed = keys(spark, 0, 21_000).where(might_be_in(wanted, 1000, F.col("key")))
    assert passed.join(wanted, on="key", how="left_semi").count() == 1000
    assert passed.count() < 1000 + 20_000 * 0.03


def test_no_key_passes_nothing(spark: SparkSession) -> None:
    assert keys(spark, 0, 10).where(might_be_in(keys(spark, 0, 0), 0, F.col("key"))).count() == 0


def test_rows_of_a_few_ids_are_kept_and_no_plan_has_an_id(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, "anna"), (2, "bert"), (3, "anna"), (4, None)], "number int, user_id string")
    kept = rows_with(rows, "user_id", ["anna", "nobody", "anna"])
    assert kept.columns == rows.columns
    assert sorted(row["number"] for row in kept.collect()) == [1, 3]
    plan = str(kept._jdf.queryExecution().toString())
    assert "Join" in plan
    assert "anna" not in plan
    assert rows_with(rows, "user_id", []).collect() == []
