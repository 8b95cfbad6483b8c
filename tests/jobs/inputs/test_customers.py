"""The table customers keeps every column of its source, one row a customer, without those who opted out."""

from __future__ import annotations

import datetime as dt
from datetime import date
from decimal import Decimal
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

RUN_DATE = date(2026, 6, 30)
COLUMNS: dict[str, pa.Array] = {
    "user_id": pa.array([7, 8, 7, 9, None], pa.int64()),
    "Region (sales)": ["north\x1b", "south", "east", "west", "x"],
    "addr.city": pa.array(["Leeds", None, "York", "Hull", "x"]),
    "born_on": pa.array([dt.date(1990, 1, 2)] * 5),
    "spent": pa.array([Decimal("1.50")] * 5, pa.decimal128(9, 2)),
    "tags": pa.array([["b", "a"]] * 5),
    "title": pa.array(["Ms"] * 5),
    "empty": pa.nulls(5),
}


def read(spark: SparkSession, folder: Path, given: dict[str, Any], **source: Any) -> Inputs:
    (folder / "customers").mkdir()
    pq.write_table(pa.table(given), folder / "customers" / "2026-06-30.parquet")
    pq.write_table(pa.table({"id": ["9", "10"]}), folder / "optouts.parquet")
    inputs = {
        "purchases": {"path": str(folder / "unread")},
        "items": {"path": str(folder / "unread")},
        "optouts": {"path": str(folder / "optouts.parquet"), "columns": {"user_id": "id"}},
        "customers": {"path": str(folder / "customers"), **source},
    }
    config = Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": inputs})
    return read_inputs(spark, config, RUN_DATE, str(folder / "work"), ("customers", "optouts"))


def test_all_columns_pass_in_their_types(spark: SparkSession, tmp_path: Path) -> None:
    found = read(spark, tmp_path, COLUMNS, path=str(tmp_path / "customers" / "{run_date}.parquet"))
    assert found.accounts["customers"] == RowAccount(5, used=2, quarantined=1, opted_out=1, duplicates=1)
    customers = found.used["customers"]
    assert {f.name: f.dataType.simpleString() for f in customers.schema.fields} == {
        "user_id": "string", "Region (sales)": "string", "addr.city": "string", "born_on": "date",
        "spent": "decimal(9,2)", "tags": "array<string>", "title": "string", "empty": "int",
    }  # fmt: skip
    rows = sorted(map(tuple, customers.collect()))
    # Of two rows of one customer the first in the order of their values counts.
    assert rows[0][:3] == ("7", "east", "York")
    assert rows[1] == ("8", "south", None, dt.date(1990, 1, 2), Decimal("1.50"), ["b", "a"], "Ms", None)
    assert found.rejected_by_rule == {("customers", "user_id_not_null"): 1}


def test_a_mapping_names_the_columns_to_keep(spark: SparkSession, tmp_path: Path) -> None:
    columns = {"user_id": "user_id", "region": "Region (sales)", "age": "2026 - year(born_on)", "city": "`addr.city`"}
    found = read(spark, tmp_path, COLUMNS, columns=columns, where="user_id < 9")
    assert found.used["customers"].columns == ["user_id", "region", "age", "city"]
    condition = "region = 'south' AND age >= 18 AND city IS NULL"
    assert [row.user_id for row in found.used["customers"].where(condition).collect()] == ["8"]


@pytest.mark.parametrize(
    ("columns", "source", "message"),
    [
        ({"region": ["n"]}, {}, "has no column user_id, which customers needs. It has region."),
        ({"user_id": ["1"], "source_file": ["n"]}, {}, "cannot be called source_file, because Regulars uses it itself"),
        ({"user_id": ["1"], "x": ["n"]}, {"columns": {"user_id": "user_id", "X": "x", "x": "x"}}, "two columns have"),
        (
            {"user_id": ["1"], "more": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))},
            {},
            "customers.columns.more is a map, which cannot be compared. Write to_json(more)",
        ),
        ({"user_id": ["1"]}, {"columns": {"user_id": "user_id", "region": "area"}}, "has no column [`]?area"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_kept_is_refused_by_name(
    spark: SparkSession, tmp_path: Path, columns: dict[str, Any], source: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read(spark, tmp_path, columns, **source)
