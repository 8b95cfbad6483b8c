"""Opting out fails closed: a list of opt-outs that cannot be right ends the night."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from jobs.commands.identify import identify
from jobs.config.privacy import privacy_key
from jobs.config.settings import Config, PrivacySettings
from jobs.inputs.optouts import other_spellings
from jobs.inputs.reader import read_inputs
from jobs.inputs.row_accounting import RowAccount
from jobs.spark.errors import InputError
from jobs.spark.privacy_key import keyed_hash
from jobs.tasks.versions import _at_own_versions, _of_optouts
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
        ("user_id,since\n1039,2026-01-01\n,2026-01-02\n", "1 of 2 rows of .* have no user_id"),
        ("user_id\n1039\n2,or 3\n", r"rows of .* cannot be read \(1\)"),
        ("user_id\n1039\nU2.0\n\uff35\uff12\n", r"2 of 3 customers .* ids in purchases \(1\) differ"),
    ],
)
def test_a_list_that_cannot_be_right_ends_the_night(
    spark: SparkSession, tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)inputs\.optouts.*({reason})"):
        read(spark, tmp_path, TABLES, optouts=csv_list(tmp_path, text))


def test_another_spelling_ends_a_night_of_pseudonyms_too(spark: SparkSession, tmp_path: Path) -> None:
    config = config_of(tmp_path, TABLES, optouts=csv_list(tmp_path, "user_id\nu2\n01039\n"))
    config = config.model_copy(update={"privacy": PrivacySettings(pseudonyms=True)})
    with pytest.raises(InputError, match=r"1 of 2 customers .* ids in purchases \(1\) differ"):
        read_inputs(spark, config, RUN_DATE, str(tmp_path / "work"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("101", "00101"),  # a spreadsheet dropped the zeros
        ("00101", "101"),
        ("101.0", "101"),
        ("101", "101.0"),
        ("1,039", "1039"),
        ("1.2E+5", "120000"),
        ("\uff11\uff10\uff11", "101"),
        ("101", "\uff11\uff10\uff11"),
        ("ab-1", "AB-1"),
        ("AB-1", "ab-1"),
        ("'101", "101"),
        ('"AB 1"', "AB 1"),
    ],
)
def test_programs_write_one_id_in_several_ways(written: str, meant: str) -> None:
    assert meant in other_spellings(written)
    assert written not in other_spellings(written)


def test_other_ids_are_no_spelling_of_an_id() -> None:
    assert not {"102", "1010", "1101", "-101", ""} & other_spellings("101")
    assert not {"AB-10", "AB1", "B-1", "1"} & other_spellings("AB-1")


def test_a_byte_order_mark_and_quotes_are_no_part_of_an_id(spark: SparkSession, tmp_path: Path) -> None:
    tables = TABLES | {"purchases": [*TABLES["purchases"], {"user_id": "u3"}]}
    found = read(spark, tmp_path, tables, optouts=csv_list(tmp_path, '\ufeffuser_id\r\n"1039"\r\n" u2 "\r\n'))
    assert found.accounts["purchases"] == RowAccount(3, used=1, opted_out=2)


def test_customers_who_opted_out_since_the_date_are_left_out(spark: SparkSession, tmp_path: Path) -> None:
    """A path with the date and a source of the query alone are read as of the newest date."""
    for day, user in ((RUN_DATE, "1039"), (RUN_DATE + timedelta(days=1), "u2")):
        (tmp_path / f"optouts-{day}.csv").write_text(f"user_id\n{user}\n", encoding="utf-8")
    place = {"path": str(tmp_path / "optouts-{run_date}.csv"), "format": "csv"}
    for optouts, sources in ((place, {}), ({"query": "SELECT user_id FROM gone"}, {"gone": place})):
        config = config_of(tmp_path, TABLES, optouts=optouts).model_dump() | {"sources": sources}
        newest, work = RUN_DATE + timedelta(days=1), str(tmp_path / "work")
        found = read_inputs(spark, Config.model_validate(config), RUN_DATE, work, optouts_as_of=newest)
        assert [row["user_id"] for row in found.used["purchases"].collect()] == ["1039"]


def test_repeating_a_date_with_its_own_versions_reads_the_opt_outs_of_today() -> None:
    inputs: dict[str, Any] = {name: {"path": name} for name in ("purchases", "items")}
    lakes = {name: {"path": name} for name in ("gone", "other")}
    raw: dict[str, Any] = {"store": "s", "timezone": "UTC", "inputs": inputs, "sources": lakes}
    inputs["optouts"] = {"query": "SELECT user_id FROM gone"}
    config = Config.model_validate(raw)
    assert list(_of_optouts(config, "sources")) == ["gone"]
    published = {f"sources.{name}.version": "3" for name in lakes}
    own = _at_own_versions("sources", config.sources, published, _of_optouts(config, "sources"))
    assert {name: source.version for name, source in own.items()} == {"gone": None, "other": 3}
    config = Config.model_validate(raw | {"inputs": inputs | {"optouts": {"path": "o"}}})
    published = {f"inputs.{name}.version": "3" for name in inputs}
    own = _at_own_versions("inputs", config.inputs, published, _of_optouts(config, "inputs"))
    assert {name: source.version for name, source in own.items()} == {"purchases": 3, "items": 3, "optouts": None}


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
