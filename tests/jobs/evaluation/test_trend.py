"""The change along a line, by figures that a reader can check."""

from __future__ import annotations

from datetime import date

import pytest

from jobs.evaluation.trend import Estimate, change

DAYS = [date(2026, 3, 1), date(2026, 3, 8), date(2026, 3, 15)]


def figure(value: float, error: float = 0.01) -> Estimate:
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)


def test_two_dates_differ_by_their_difference():
    found = change(DAYS[:2], [figure(0.10, 0.03), figure(0.15, 0.04)], [1000, 1000])
    assert found.value == pytest.approx(0.05)
    assert found.high - found.value == pytest.approx(1.96 * 0.05)  # the root of .03² + .04²
    assert found.value - found.low == pytest.approx(1.96 * 0.05)


def test_three_dates_on_a_line_are_surer_than_two():
    found = change(DAYS, [figure(0.10), figure(0.15), figure(0.20)], [1000] * 3)
    assert found.value == pytest.approx(0.10)
    # Equal errors: the slope's variance is .01² / (7² + 7²), over 14 days.
    assert found.high - found.value == pytest.approx(1.96 * 0.01 * 14 / 98**0.5)


def test_dates_that_scatter_more_than_their_intervals_widen_the_interval():
    straight = change(DAYS, [figure(0.10), figure(0.15), figure(0.20)], [1000] * 3)
    crooked = change(DAYS, [figure(0.10), figure(0.45), figure(0.20)], [1000] * 3)
    assert crooked.value == pytest.approx(0.10)
    assert crooked.high - crooked.low > 10 * (straight.high - straight.low)


def test_an_uncertain_date_weighs_little():
    found = change(DAYS, [figure(0.10), figure(0.15), figure(0.90, 10)], [1000] * 3)
    assert found.value == pytest.approx(0.10, abs=0.001)


def test_figures_without_any_error():
    found = change(DAYS, [figure(0, 0)] * 3, [20, 20, 20])
    assert (found.value, found.low < 0 < found.high) == (0, True)
    with pytest.raises(ValueError, match="two days"):
        change(DAYS[:1], [figure(0.1)], [20])
