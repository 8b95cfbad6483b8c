"""Dates of the command line are the shop's, and none after today is published by a slip of the finger."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.commands import model_commands, options
from jobs.config.config import Config
from jobs.spark.errors import UsageError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}}
    return Config.model_validate({"store": str(tmp_path), "timezone": "Asia/Tokyo", "inputs": inputs})


def test_a_date_after_today_needs_the_option(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "shop_today", lambda timezone: date(2026, 3, 1))
    assert options.parsed_run_date("--run-date", "2026-03-01", config, future=False) == date(2026, 3, 1)
    with pytest.raises(UsageError, match=r"--run-date is 2062-03-01, and today is 2026-03-01 in Asia/Tokyo.*--future"):
        options.parsed_run_date("--run-date", "2062-03-01", config, future=False)
    assert options.parsed_run_date("--run-date", "2062-03-01", config, future=True) == date(2062, 3, 1)


def test_yesterday_is_the_shops(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "shop_today", lambda timezone: {"Asia/Tokyo": date(2026, 3, 1)}[timezone])
    assert options.parsed_run_date("--run-date", "yesterday", config, future=False) == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("text", "told"), [("2026-02-30", "there is no such day"), ("30.02.2026", "give a date as YYYY-MM-DD")]
)
def test_a_wrong_date_is_told_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=f"--run-date is '{text}': {told}"):
        options.parsed_date("--run-date", text)


def test_today_is_the_shops_not_the_machines() -> None:
    # These islands are 25 hours apart, so they never have the same date.
    early, late = "Pacific/Niue", "Pacific/Kiritimati"
    assert options.shop_today(early) < options.shop_today(late)
    assert model_commands._until(None, early) < model_commands._until(None, late)
    assert model_commands._until("2026-03-01", late) == date(2026, 3, 1)
