"""Progress tells the stage, how far it is, how fast and when it ends."""

from __future__ import annotations

import io
import re

from rich.console import Console

from jobs.spark import progress
from jobs.spark.progress import Stages


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
    assert re.fullmatch(
        r"recommendations: 500 of 2,000 customers, [\d,.]+ a second, ends about \d\d:\d\d:\d\d", kept[3]
    )
    assert re.fullmatch(r"recommendations: 2,000 of 2,000 customers, [\d,.]+ a second", kept[5])
    assert list(stages.seconds) == ["inputs", "recommendations"]


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
