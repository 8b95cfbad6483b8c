"""Everything that a console prints in JSON is one object a line, with level, event and figures."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from rich.table import Table

from jobs import cli
from jobs.commands import options
from jobs.spark.log_console import LogConsole, tell
from jobs.spark.progress import Stages, warn


def console() -> tuple[LogConsole, io.StringIO]:
    """A console that writes JSON, and what it wrote."""
    file = io.StringIO()
    found = LogConsole(file=file, force_terminal=True)
    found.as_json = True
    return found, file


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_stages_progress_warnings_and_figures_are_events() -> None:
    log, file = console()
    stages = Stages(log)
    with stages.stage("recommendations"), stages.counter("customers") as counter:
        counter.update(2000, 2000)
    warn(log, "no [searches] table")
    tell(log, "[bold]published[/bold]", "night", run_date=date(2026, 3, 1), rows={"runs": 1})
    stage, progress, warning, night = objects(file.getvalue())
    assert (stage["event"], stage["stage"], stage["level"]) == ("stage", "recommendations", "info")
    assert (progress["event"], progress["done"], progress["total"]) == ("progress", 2000, 2000)
    assert progress["message"].startswith("scoring: 2,000 of 2,000 customers")  # `at` has the time
    assert (warning["level"], warning["message"]) == ("warning", "Warning: no [searches] table")
    assert (night["message"], night["run_date"], night["rows"]) == ("published", "2026-03-01", {"runs": 1})
    assert abs((datetime.fromisoformat(night["at"]) - datetime.now(UTC)).total_seconds()) < 60


def test_other_output_is_a_message_of_one_line_without_colours() -> None:
    log, file = console()
    table = Table("stage", title="Night")
    table.add_row("inputs")
    log.print(table)
    log.print("[bold]a line\nand a second[/bold]")
    found = objects(file.getvalue())
    assert [one["event"] for one in found] == ["message", "message"]
    assert "inputs" in found[0]["message"]
    assert found[1]["message"] == "a line\nand a second"


def test_the_console_prints_text_unless_json_is_asked_for() -> None:
    file = io.StringIO()
    tell(LogConsole(file=file), "[bold]published[/bold]", "night", rows={})
    assert file.getvalue() == "published\n"


@pytest.mark.parametrize("command", [["nightly", "--run-date", "2026-03-01"], ["backfill", "--from", "a", "--to", "b"]])
def test_an_error_is_an_object_with_its_exit_code(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for one in (options.console, options.errors):
        monkeypatch.setattr(one, "as_json", False)
    monkeypatch.setattr("sys.argv", ["regulars", *command, "--log-format", "json", "--config", "missing.yaml"])
    with pytest.raises(SystemExit):
        cli.main()
    (said,) = objects(capfd.readouterr().err)
    assert (said["event"], said["level"], said["exit_code"]) == ("error", "error", 2)
    assert said["message"].startswith("Error: there is no configuration file missing.yaml")
