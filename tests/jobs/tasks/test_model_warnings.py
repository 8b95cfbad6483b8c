"""What a night says of a model before it uses it."""

from __future__ import annotations

from datetime import date

from jobs.config.settings import Config
from jobs.scoring.models import Model
from jobs.tasks.task import model_warnings

DAY = date(2026, 3, 1)


def config(*more: str) -> Config:
    inputs = {table: {"path": table} for table in ("purchases", "items", *more)}
    return Config.model_validate({"store": "s", "timezone": "UTC", "inputs": inputs})


def test_a_model_of_a_later_day_is_named() -> None:
    model = Model("folder", "m", trained_as_of=date(2026, 3, 2))
    (warning,) = model_warnings("recommend", model, config(), DAY)
    assert "trained on events up to 2026-03-02, after the run date 2026-03-01" in warning
    assert not model_warnings("recommend", Model("folder", "m", trained_as_of=DAY), config(), DAY)


def test_a_recommender_without_the_configured_events_is_named() -> None:
    model = Model("folder", "m", reads_browsing=False, trained_as_of=DAY)
    (warning,) = model_warnings("recommend", model, config("events"), DAY)
    assert "trained without inputs.events" in warning
    assert warning.endswith("regulars train --config regulars.yaml --task recommend --as-of 2026-03-01")
    assert not model_warnings("recommend", model, config(), DAY)
    assert not model_warnings("sentiment", model, config("events"), DAY)
