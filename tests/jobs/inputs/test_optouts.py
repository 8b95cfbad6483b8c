"""Opting out fails closed: a list of opt-outs that cannot be right ends the night."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from jobs.commands.identify import identify
from jobs.config.privacy import privacy_key
from jobs.config.settings import Config, PrivacySettings
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import RowAccount
from jobs.spark.errors import InputError
from jobs.spark.privacy_key import keyed_hash
from tests.jobs.inputs.test_reader import ITEMS, RUN_DATE, config_of, read

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLES = {"purchases": [{"user_id": "1039"}, {"user_id": "u2"}], "items": ITEMS}


def csv_list(folder: Path, text: str, **settings: Any) -> dict[str, Any]:
    (folder / "optouts.csv").write_text(text, encoding="utf-8")
    return {"path": str(folder / "optouts.csv"), "format": "csv"} | settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user_id\n", "has no rows"),
        ("user_id,since\n,2026-01-01\n , \n", "has no customer in its rows"),
        ("", "is the file empty"),
        ("user_id\nC1039\nC2\n", "none of the 2 customers .* is in purchases"),
    ],
)
def test_a_list_that_cannot_be_right_ends_the_night(
    spark: SparkSession, tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)inputs\.optouts.*({reason})"):
        read(spark, tmp_path, TABLES, optouts=csv_list(tmp_path, text))


def test_allow_empty_reads_a_list_without_customers(spark: SparkSession, tmp_path: Path) -> None:
    found = read(spark, tmp_path, TABLES, optouts=csv_list(tmp_path, "user_id\n", allow_empty=True))
    assert found.accounts["optouts"] == RowAccount(0, used=0)
    assert found.accounts["purchases"] == RowAccount(2, used=2)


def test_ids_are_compared_after_the_same_normalisation_and_unmatched_ones_are_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    purchases = [*TABLES["purchases"], {"user_id": "u3"}]
    tables = TABLES | {"purchases": purchases, "searches": [{"user_id": " u2\u200b"}, {"user_id": "u3"}]}
    optouts = csv_list(tmp_path, "user_id\n\u00a01039 \nu2\nu2\nnobody\n")
    found = read(spark, tmp_path, tables, optouts=optouts)
    assert found.accounts["purchases"] == RowAccount(2, used=0, opted_out=2) or found.used
    assert found.accounts["purchases"] == RowAccount(3, used=1, opted_out=2)
    assert found.accounts["searches"] == RowAccount(2, used=1, opted_out=1)
    assert found.notes == ["inputs.optouts: 1 of 3 customers are in no other input table"]


def test_a_command_that_reads_few_tables_compares_nothing(spark: SparkSession, tmp_path: Path) -> None:
    tables = TABLES | {"searches": [{"user_id": "u3"}], "optouts": [{"user_id": "u3"}]}
    found = read_inputs(
        spark, config_of(tmp_path, tables), RUN_DATE, str(tmp_path / "work"), ("purchases", "items", "optouts")
    )
    assert found.opted_out is not None
    assert [row["user_id"] for row in found.opted_out.collect()] == ["u3"]


@pytest.mark.parametrize(("table", "key"), [("optouts", {"max_bad_files": 1}), ("items", {"allow_empty": True})])
def test_keys_that_would_void_opt_outs_are_refused(table: str, key: dict[str, Any]) -> None:
    inputs: dict[str, Any] = {name: {"path": name} for name in ("purchases", "items", "optouts")}
    inputs[table] |= key
    with pytest.raises(ValidationError, match=rf"{table}\.{next(iter(key))}: .*remove"):
        Config.model_validate({"store": "s", "timezone": "UTC", "inputs": inputs})


def test_pseudonyms_replace_ids_in_every_table_after_opting_out(spark: SparkSession, tmp_path: Path) -> None:
    tables = TABLES | {"searches": [{"user_id": "u2"}, {"user_id": " u3 "}], "optouts": [{"user_id": "1039"}]}
    config = config_of(tmp_path, tables).model_copy(update={"privacy": PrivacySettings(pseudonyms=True)})
    found = read_inputs(spark, config, RUN_DATE, str(tmp_path / "work"))
    ids = {row["user_id"] for table in ("purchases", "searches") for row in found.used[table].collect()}
    assert ids == {keyed_hash(privacy_key(spark, config), user) for user in ("u2", "u3")}
    assert found.accounts["purchases"] == RowAccount(2, used=1, opted_out=1)
    written = [path.read_bytes() for path in (tmp_path / "work").rglob("*.parquet") if "optouts" not in str(path)]
    assert written
    assert not any(b"u2" in content or b"u3" in content for content in written)
    # The holder of the key finds the customer.
    whole = config.model_copy(update={"store": str(tmp_path / "store")})
    assert identify(spark, whole, [*ids, "0" * 32]) == {
        keyed_hash(privacy_key(spark, config), u): u for u in ("u2", "u3")
    }
