"""Progress tells the stage, how far it is, how fast and when it ends."""

from __future__ import annotations

import io
import re
from datetime import date
from types import SimpleNamespace

import pytest
from rich.console import Console

from jobs.spark import progress
from jobs.spark.progress import ProgressBars, Stages, UsualSeconds, dates_done, expected_end

USUAL = UsualSeconds(
    date(2026, 3, 1),
    {"inputs": 13.4, "prompts": 4.9, "recommendations": 400.0, "recommend.model": 270.0, "loyalty": 3600.0},
)


def run(console: Console, kept: list[str]) -> Stages:
    stages = Stages(console, keep=kept.append)
    with stages.stage("inputs"):
        pass
    with stages.stage("recommendations"), stages.counter("customers") as counter:
        for done in (0, 500, 1500, 2000):
            counter.update(done, 2000)
    return stages


def test_what_is_kept_names_stage_requests_rate_and_end(monkeypatch):
    kept: list[str] = []
    monkeypatch.setattr(progress, "_KEEP_EVERY", 0.0)
    stages = run(Console(file=io.StringIO()), kept)
    assert kept[:3] == ["inputs", "recommendations", "recommendations: 0 of 2,000 customers"]
    assert kept[3] == "recommendations: 500 of 2,000 customers"  # the model was loaded before them: no speed is known
    assert re.fullmatch(
        r"recommendations: 1,500 of 2,000 customers, [\d,.]+ a second, ends about \d\d:\d\d:\d\d", kept[4]
    )
    assert re.fullmatch(r"recommendations: 2,000 of 2,000 customers, [\d,.]+ a second", kept[5])
    assert list(stages.seconds) == ["inputs", "recommendations"]


def test_loading_the_model_is_no_part_of_the_speed_until_the_end(monkeypatch):
    kept: list[str] = []
    clock = iter([0.0, 60.0, 70.0, 80.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    bars = SimpleNamespace(update=lambda *args, **kwargs: None)
    counter = progress.RequestCounter(bars, "customers", kept.append)
    for done in (100, 300, 500):
        counter.update(done, 500)
    assert kept[0] == "100 of 500 customers"
    assert kept[1].startswith("300 of 500 customers, 20.0 a second, ends about ")
    assert kept[2] == "500 of 500 customers, 6.2 a second"


def test_few_lines_are_kept_between_stages():
    kept: list[str] = []
    run(Console(file=io.StringIO()), kept)
    assert kept == ["inputs", "recommendations"]


def test_a_terminals_live_line_closes_and_its_last_state_stays():
    log = io.StringIO()
    run(Console(file=log, force_terminal=True, width=120), [])
    last = log.getvalue().rpartition("\x1b")[2]
    assert "scoring: 2,000 of 2,000 customers" in last
    assert "━" not in last


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"name": "inputs"}, "inputs, about 13 s as in the night of 2026-03-01"),
        ({"name": "loyalty"}, "loyalty, about 60 min as in the night of 2026-03-01"),
        ({"name": "reading", "like": "inputs"}, "reading, about 13 s as in the night of 2026-03-01"),
        (
            {"name": "recommendations", "model": "recommend.model"},
            "recommendations, about 2 min without the model as in the night of 2026-03-01",
        ),
        ({"name": "prompts"}, "prompts"),  # less than five seconds
        ({"name": "metrics"}, "metrics"),  # never measured
    ],
)
def test_a_stage_says_how_long_it_took_in_the_newest_night(stage, said):
    log, kept = io.StringIO(), []
    with Stages(Console(file=log, width=160), keep=kept.append, usual=USUAL).stage(**stage):
        pass
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(said)} …\n", log.getvalue())
    assert re.sub(r" from \d\d:\d\d:\d\d", "", kept[0]) == said
    assert ("from" in kept[0]) == ("about" in said)  # another shell needs the time at which the stage began


def test_without_an_earlier_night_a_stage_shows_no_estimate():
    log = io.StringIO()
    with Stages(Console(file=log, width=160)).stage("inputs"):
        pass
    assert log.getvalue().endswith(" inputs …\n")


def test_a_line_of_a_log_has_its_time_and_the_expected_end():
    log = io.StringIO()
    with ProgressBars(Console(file=log, width=160)) as bars:
        bars.update("recommend finetune", 1, 9, "epoch 1", "at most until 11:40")
    assert re.fullmatch(r"\d\d:\d\d:\d\d   recommend finetune: epoch 1, at most until 11:40\n", log.getvalue())


def test_a_terminal_shows_the_expected_end_and_no_other_estimate():
    log = io.StringIO()
    with ProgressBars(Console(file=log, force_terminal=True, width=160)) as bars:
        bars.update("recommend finetune", 1, 9, "epoch 1", "at most until 11:40")
    assert "at most until 11:40" in log.getvalue()
    assert "-:--:--" not in log.getvalue()


def test_dates_that_are_done_tell_the_end_of_all(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 1000.0)
    seconds = (1000.0 - 910.0) / 3 * 9
    assert dates_done(3, 12, 910.0) in {  # the minute may end between the two
        f"3 of 12 dates, ends about {expected_end(seconds + late)}" for late in (0, -1)
    }
    assert dates_done(12, 12, 910.0) == "12 of 12 dates"


def test_an_end_on_another_day_has_its_date():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", expected_end(48 * 3600))
