"""The control group is stable, has the configured size, and gets no published lists."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest
from pyspark.sql import functions as F

from jobs.config.settings import LoyaltySettings
from jobs.tables.groups import CONTROL, TREATED, count_group_changes, group_of, published_lists
from tests.rows import frame

STARTS_ON = date(2026, 3, 1)


def settings(share: float = 0.2, key: str = "regulars") -> LoyaltySettings:
    return LoyaltySettings(control_share=share, key=key, starts_on=STARTS_ON)


def groups(spark, ids: list[str], chosen: LoyaltySettings, partitions: int = 2) -> dict[str, str]:
    rows = spark.createDataFrame([(i,) for i in ids], "user_id string").repartition(partitions)
    grouped = rows.withColumn("group", group_of(F.col("user_id"), chosen))
    return {row.user_id: row.group for row in grouped.collect()}


def test_groups_are_those_of_sha_256_computed_by_hand(spark):
    # What this test pins must never change: customers would switch groups in every shop.
    ids = ["ann", "bob", "17850", "王芳", "", "a" * 300]

    def by_hand(user_id: str) -> str:
        digest = hashlib.sha256(f"regulars\x1f{user_id}".encode()).hexdigest()
        return CONTROL if int(digest[:13], 16) / 16**13 < 0.5 else TREATED

    wanted = {user_id: by_hand(user_id) for user_id in ids}
    assert set(wanted.values()) == {CONTROL, TREATED}
    assert groups(spark, ids, settings(0.5), 1) == groups(spark, ids, settings(0.5), 5) == wanted


def test_the_share_is_as_configured_and_a_larger_one_keeps_who_was_in(spark):
    ids = [f"customer-{number}" for number in range(20_000)]
    small = {i for i, g in groups(spark, ids, settings(0.1)).items() if g == CONTROL}
    large = {i for i, g in groups(spark, ids, settings(0.3)).items() if g == CONTROL}
    assert small < large
    assert (len(small) / 20_000, len(large) / 20_000) == (pytest.approx(0.1, abs=0.01), pytest.approx(0.3, abs=0.015))
    assert CONTROL not in groups(spark, ids[:1000], LoyaltySettings()).values()
    other = {i for i, g in groups(spark, ids, settings(0.1, "another")).items() if g == CONTROL}
    assert len(small & other) / len(small) == pytest.approx(0.1, abs=0.04), "another key draws independently"


def test_lists_of_the_control_group_are_withheld_from_the_start_on(spark):
    ids = [f"u{number}" for number in range(40)]
    lists = frame(spark, "recommendations", [{"user_id": i, "rank": rank} for i in ids for rank in (1, 2)])
    treated = {i for i, g in groups(spark, ids, settings()).items() if g == TREATED}
    shown = published_lists(lists, settings(), STARTS_ON)
    assert {row.user_id for row in shown.collect()} == treated
    assert shown.count() == 2 * len(treated) < 80
    assert published_lists(lists, settings(), date(2026, 2, 28)).count() == 80
    assert published_lists(lists, LoyaltySettings(), STARTS_ON).count() == 80


def test_customers_whom_a_changed_configuration_would_move_are_counted(spark):
    ids = [f"u{number}" for number in range(200)]
    rows = frame(spark, "loyalty", [{"user_id": i, "group": g} for i, g in groups(spark, ids, settings()).items()])
    assert count_group_changes(rows, settings()) == 0
    moved = count_group_changes(rows, settings(0.2, "another"))
    assert 30 < moved < 100
    assert count_group_changes(rows, settings(0.5)) > 0


def test_a_control_group_needs_its_start():
    with pytest.raises(ValueError, match="starts_on"):
        LoyaltySettings(control_share=0.1)
