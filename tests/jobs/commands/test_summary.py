"""The commands at the end of a night can be copied: they name the program as the shell finds it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from jobs.commands.summary import program, repeat_warnings


@pytest.mark.parametrize(
    ("started", "on_path", "named"),
    [
        ("pytest", None, "regulars"),
        ("bin/regulars", None, "bin/regulars"),
        ("{here}/bin/regulars", None, "bin/regulars"),
        ("{here}/bin/regulars", "{here}/bin/regulars", "regulars"),
        ("/opt/the shop/regulars", None, "'/opt/the shop/regulars'"),
    ],
)
def test_the_program_is_named_as_the_shell_finds_it(
    started: str, on_path: str | None, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [started.format(here=tmp_path)])
    found = on_path and on_path.format(here=tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert program() == named


@pytest.mark.parametrize(("count", "rest"), [(0, None), (5, None), (7, "2 further warnings")])
def test_warnings_about_the_inputs_stand_at_the_end_too(count: int, rest: str | None) -> None:
    log = io.StringIO()
    repeat_warnings([f"inputs.a and inputs.b miss each other ({n})" for n in range(count)], Console(file=log))
    assert log.getvalue().count("miss each other") == min(count, 5)
    assert ("further" in log.getvalue()) == (rest is not None)
    assert rest is None or rest in log.getvalue()
