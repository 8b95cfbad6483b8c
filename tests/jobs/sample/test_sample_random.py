"""The sample shop's clock and random numbers."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.sample.customers import in_opening_hours
from jobs.sample.events import Period
from jobs.sample.random import keys, uniform


def test_days_begin_and_end_in_the_shops_zone() -> None:
    period = Period(date(2026, 3, 27), 5, "Europe/London")  # the clocks go forward on 29 March
    zone = ZoneInfo("Europe/London")
    for day, expected in ((0.0, "2026-03-27 00:00:00"), (2.5, "2026-03-29 12:30:00"), (4.0, "2026-03-31 00:00:00")):
        moment = datetime.fromtimestamp(int(period.seconds(np.array([day]))[0]), zone)
        assert str(moment.replace(tzinfo=None)) == expected
    assert period.last_day == date(2026, 3, 31)


@given(st.lists(st.floats(0, 129.999), min_size=2, max_size=30))
def test_clock_and_opening_hours_keep_the_order(days: list[float]) -> None:
    moments = np.sort(np.array(days))
    opened = in_opening_hours(moments)
    assert (np.diff(opened) >= 0).all()
    assert (np.floor(opened) == np.floor(moments)).all()
    period = Period(date(2026, 1, 1), 130, "Europe/London")
    seconds = period.seconds(opened)
    assert (np.diff(seconds) >= 0).all()
    assert seconds[-1] < period.midnights[-1]


def test_draws_are_uniform_and_independent() -> None:
    key = keys(0, "customer", np.arange(50_000))
    one, two, other = uniform(key, "a"), uniform(key, "a", 1), uniform(key, "b")
    for draw in (one, two, other):
        assert draw.min() >= 0
        assert draw.max() < 1
        assert abs(draw.mean() - 0.5) < 0.006
        assert np.abs(np.histogram(draw, 20, (0, 1))[0] - 2500).max() < 250
    assert np.abs(np.corrcoef([one, two, other]) - np.eye(3)).max() < 0.02
    assert (uniform(key, "a", np.full(50_000, 1)) == two).all()
    assert not (uniform(keys(1, "customer", np.arange(50_000)), "a") == one).any()
