"""A customer is looked for in the sources before all inputs are read; in doubt they may be there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.config.privacy import privacy_key
from jobs.config.settings import Config, PrivacySettings
from jobs.inputs.customer_lookup import might_be_customer
from jobs.spark.privacy_key import keyed_hash
from tests.jobs.inputs.test_reader import ITEMS, RUN_DATE, config_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLES = {
    "purchases": [{"user_id": "u1", "purchased_at": "soon"}, {"user_id": " u2 "}],
    "searches": [{"user_id": "u3", "query": " "}],
    "items": ITEMS,
}
_OF_CUSTOMERS = ("purchases", "searches", "reviews")


def find(spark: SparkSession, config: Config, *ids: str) -> bool:
    return might_be_customer(spark, config, RUN_DATE, _OF_CUSTOMERS, ids)


def test_an_id_is_found_as_a_night_reads_it_whatever_else_is_wrong_with_its_row(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = config_of(tmp_path, TABLES)
    found = {one: find(spark, config, one) for one in ("u1", "u2", "u3", "U1")}
    assert found == {"u1": True, "u2": True, "u3": True, "U1": False}


def test_a_pseudonym_and_the_id_behind_it_are_found(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, TABLES)
    config = config.model_copy(update={"privacy": PrivacySettings(pseudonyms=True)})
    monkeypatch.setenv(config.privacy.key_env, "k" * 32)
    pseudonym = keyed_hash(privacy_key(spark, config), "u3")
    assert find(spark, config, pseudonym)
    assert not find(spark, config, "u3")  # the caller gives both


def test_in_a_source_that_cannot_be_read_anybody_may_be(spark: SparkSession, tmp_path: Path) -> None:
    unreadable = {"columns": {"user_id": "array(user_id)", "query": "query", "searched_at": "searched_at"}}
    assert find(spark, config_of(tmp_path, TABLES, purchases={"path": str(tmp_path / "nothing")}), "u9")
    assert find(spark, config_of(tmp_path, TABLES, searches=unreadable), "u9")
