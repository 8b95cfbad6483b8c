"""The commands at the end of a night can be copied: they name the program as the shell finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.commands.summary import program


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
