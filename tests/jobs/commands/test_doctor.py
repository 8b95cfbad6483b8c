"""What `regulars doctor` prints of the machine and the configuration."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from jobs.commands.doctor import check_setup


def test_brackets_in_a_path_are_printed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "regulars.yaml").write_text(
        '{store: "a [red]b", timezone: UTC, inputs: {reviews: {path: "data/[/eu]/p.parquet"}}}', encoding="utf-8"
    )
    console = Console(file=io.StringIO(), width=1000)
    check_setup(tmp_path / "regulars.yaml", [], console)
    printed = console.file.getvalue()
    assert "data/[/eu]/p.parquet" in printed
    assert "a [red]b" in printed


def test_the_verdict_comes_after_the_rows_and_counts_them(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=1000)

    def rows_are_broken() -> bool:
        console.print("rows were read")
        return False

    assert not check_setup(tmp_path / "none.yaml", [], console, rows_are_broken)
    printed = console.file.getvalue()
    assert printed.index("rows were read") < printed.index("Fix the lines marked")
