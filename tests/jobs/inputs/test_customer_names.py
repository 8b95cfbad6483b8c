"""The names of the table `customers` leave the texts of their own customers, and nobody else's."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.settings import Config
from jobs.inputs.customer_names import without_customer_names
from jobs.inputs.reader import read_inputs
from jobs.spark.errors import ConfigurationError
from tests.rows import frame


@pytest.fixture
def used(spark):
    reviews = [
        {"review_id": "r1", "user_id": "u1", "text": "Anna Müller here, the brown shoes fit"},
        {"review_id": "r2", "user_id": "u2", "text": "Anna Müller is not me"},
        {"review_id": "r3", "user_id": "u3", "text": "nobody knows me"},
    ]
    searches = [{"user_id": "u1", "query": "mug for anna müller"}]
    customers = spark.createDataFrame(
        [("u1", "Anna", "Müller", "UK"), ("u2", "Ben", None, "UK")],
        "user_id string, first string, last string, region string",
    )
    return {
        "reviews": frame(spark, "reviews", reviews),
        "searches": frame(spark, "searches", searches),
        "customers": customers,
    }


def test_names_leave_the_texts_of_their_customer(used):
    found = without_customer_names(used, ["first", "last"])
    texts = {row.review_id: row.text for row in found["reviews"].collect()}
    assert texts == {
        "r1": "[NAME] [NAME] here, the brown shoes fit",
        "r2": "Anna Müller is not me",
        "r3": "nobody knows me",
    }
    assert [row.query for row in found["searches"].collect()] == ["mug for [NAME] [NAME]"]
    assert found["reviews"].schema == used["reviews"].schema


def test_without_configured_columns_the_tables_are_the_same(used):
    assert without_customer_names(used, []) == used


def test_a_column_that_customers_lack_is_named(used):
    with pytest.raises(ConfigurationError, match=r"customers has no column nick; it has user_id, first, last, region"):
        without_customer_names(used, ["first", "nick"])


def test_a_reader_of_texts_reads_the_names_too(spark, tmp_path):
    tables = {
        "searches": {
            "user_id": ["u1", "u2"],
            "query": ["mug for anna", "anna lamp"],
            "searched_at": [dt.datetime(2026, 6, 1)] * 2,
        },
        "customers": {"user_id": ["u1", "u2"], "first.name": ["Anna", "Ben"]},
    }
    for table, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{table}.parquet")
    inputs = {table: {"path": str(tmp_path / f"{table}.parquet")} for table in (*tables, "purchases", "items")}
    content = {"store": "s", "timezone": "Europe/London", "inputs": inputs, "privacy": {"name_columns": ["first.name"]}}
    config = Config.model_validate(content)
    found = read_inputs(spark, config, dt.date(2026, 6, 30), str(tmp_path / "work"), ("searches",))
    assert {row.user_id: row.query for row in found.used["searches"].collect()} == {
        "u1": "mug for [NAME]",
        "u2": "anna lamp",
    }
