"""The command that goes on from the state of the dates."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from jobs.commands.status import next_commands
from jobs.store.dates import DateState, State

DAY = date(2026, 3, 1)


def states(text: str) -> list[DateState]:
    names: dict[str, State] = {"p": "published", "f": "failed", "m": "missing", "s": "stale"}
    return [DateState(DAY + timedelta(days=number), names[one]) for number, one in enumerate(text)]


@pytest.mark.parametrize(
    ("found", "has_models", "commands"),
    [
        ("pps", True, []),
        ("pps", False, []),
        ("pf", True, ["nightly --config 'a b.yaml' --run-date 2026-03-02"]),
        ("fpf", True, ["backfill --config 'a b.yaml' --from 2026-03-01 --to 2026-03-03 --reprocess failed"]),
        ("pm", True, ["nightly --config 'a b.yaml' --run-date 2026-03-02"]),
        (
            "pmfm",
            False,
            [
                "train --config 'a b.yaml' --as-of 2026-03-02",
                "nightly --config 'a b.yaml' --run-date 2026-03-03",
                "backfill --config 'a b.yaml' --from 2026-03-02 --to 2026-03-04 --reprocess missing",
            ],
        ),
    ],
)
def test_failed_and_missing_dates_have_their_command_and_a_missing_model_its_training(found, has_models, commands):
    assert next_commands(states(found), "--config 'a b.yaml'", has_models=has_models) == [
        f"regulars {one}" for one in commands
    ]
