"""An input is stale by its own pace, or by the configured limit."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from jobs.config.settings import Config
from jobs.inputs.freshness import Freshness, freshness, refuse_stale
from jobs.spark.errors import GateRefused

RUN_DATE = date(2026, 3, 31)


def days(*ages: int) -> list[date]:
    return [RUN_DATE - timedelta(days=age) for age in ages]


def config(inputs: dict[str, Any] | None = None, **gate: Any) -> Config:
    tables = {"purchases": {"path": "p"}, "items": {"path": "i"}, "reviews": {"path": "r"}, **(inputs or {})}
    return Config.model_validate({"store": "s", "timezone": "Asia/Tokyo", "inputs": tables, "gate": gate})


def test_the_usual_gap_is_that_of_the_newest_days() -> None:
    assert freshness([]) is None
    assert freshness(days(3, 4, 5)) == Freshness(RUN_DATE - timedelta(days=3), None), "too few days to judge"
    assert freshness(days(*range(8))) == Freshness(RUN_DATE, 1)
    closed_on_sundays = [age for age in range(90) if (RUN_DATE - timedelta(days=age)).weekday() != 6]
    assert freshness(days(*closed_on_sundays)) == Freshness(RUN_DATE, 2)
    one_holiday = [age for age in range(90) if age not in range(20, 30)]
    assert freshness(days(*one_holiday)) == Freshness(RUN_DATE, 1)
    weekly_at_first = [*range(95), *range(100, 700, 7)]
    assert freshness(days(*weekly_at_first)) == Freshness(RUN_DATE, 1)


@pytest.mark.parametrize(
    ("age", "gap", "is_stale"), [(2, 1, False), (3, 1, True), (14, 7, False), (15, 7, True), (900, None, False)]
)
def test_twice_the_usual_gap_and_at_least_two_days_are_accepted(age: int, gap: int | None, is_stale: bool) -> None:
    found = {"purchases": Freshness(RUN_DATE - timedelta(days=age), gap)}
    if not is_stale:
        return refuse_stale(found, config(), RUN_DATE)
    with pytest.raises(GateRefused) as caught:
        refuse_stale(found, config(), RUN_DATE)
    assert caught.value.exit_code == 4
    says = f"{age} days before 2026-03-31, and at most {2 * (gap or 0)} are accepted (its usual gap is {gap})"
    assert says in str(caught.value)
    assert f"add --set inputs.purchases.max_stale_days={age}." in str(caught.value)
    # As of the day of its newest row the same export is fresh: a backfill of its dates is never refused.
    refuse_stale(found, config(), RUN_DATE - timedelta(days=age))
    refuse_stale(found, config({"purchases": {"path": "p", "max_stale_days": age}}), RUN_DATE)


def test_configured_limits() -> None:
    found = {"purchases": Freshness(RUN_DATE - timedelta(days=5), 1), "reviews": Freshness(RUN_DATE, None)}
    refuse_stale(found, config(max_stale_days=5), RUN_DATE)
    with pytest.raises(GateRefused, match=r"at most 4 are accepted \(gate.max_stale_days\)"):
        refuse_stale(found, config(max_stale_days=4), RUN_DATE)
    one = {"purchases": {"path": "p", "max_stale_days": 0}}
    with pytest.raises(GateRefused, match=r"at most 0 are accepted \(inputs.purchases.max_stale_days\)"):
        refuse_stale(found, config(one, max_stale_days=400), RUN_DATE)
