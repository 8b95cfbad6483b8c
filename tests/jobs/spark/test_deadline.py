"""The deadline is the next time that the shop's clock shows it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.spark.deadline import Deadline, next_deadline
from jobs.spark.errors import UsageError


@pytest.mark.parametrize(
    ("text", "now", "at"),
    [
        ("05:30", "2026-03-02T02:00", "2026-03-02T05:30"),
        ("5:30", "2026-03-02T05:30", "2026-03-03T05:30"),
        ("05:30", "2026-03-02T22:00", "2026-03-03T05:30"),
        ("05:30", "2026-07-02T02:00", "2026-07-02T04:30"),  # summer time
        ("05:30", "2026-03-28T22:00", "2026-03-29T04:30"),  # the clock went forward in between
        ("01:30", "2026-03-28T22:00", "2026-03-29T01:30"),  # a time that the clock skips
        ("00:00", "2026-03-02T23:59", "2026-03-03T00:00"),
    ],
)
def test_the_next_time_by_the_shops_clock(text: str, now: str, at: str) -> None:
    found = next_deadline(text, "Europe/London", datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found.at == datetime.fromisoformat(at).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "5", "25:00", "05:60", "0530", "05:30 pm", "-1:00"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"--deadline is .*HH:MM"):
        next_deadline(text, "Europe/London", datetime(2026, 3, 2, tzinfo=UTC))


def test_seconds_left_run_out() -> None:
    assert Deadline(datetime(2020, 1, 1, tzinfo=UTC), "").seconds_left() < 0
    assert Deadline(datetime(2120, 1, 1, tzinfo=UTC), "").seconds_left() > 1e9
