"""Progress of long commands: live bars on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

#: Seconds between two plain lines where the console is no terminal (a scheduler's log).
_LINE_EVERY = 15.0


def warn(console: Console, message: str) -> None:
    """Print a warning; the command goes on."""
    console.print(f"[bold]Warning:[/bold] {escape(message)}", highlight=False)


class Stages:
    """The stages of one run: prints the start of each and measures its seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage, also where it fails. Seconds of stages with the same name add up."""
        started = time.monotonic()
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {name} …", highlight=False)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @contextmanager
    def counter(self, unit: str) -> Iterator[RequestCounter]:
        """Show the number of scored requests and an estimate of the end while the block runs."""
        with ProgressBars(self.console) as bars:
            yield RequestCounter(bars, unit)


class RequestCounter:
    """Shows how many requests of one task are scored; `unit` names them in the plural."""

    def __init__(self, bars: ProgressBars, unit: str) -> None:
        self._bars, self._unit = bars, unit
        self._started = time.monotonic()

    def update(self, done: int, total: int) -> None:
        """Show `done` of `total` requests. The estimate assumes a constant speed."""
        seconds_left = (time.monotonic() - self._started) / max(done, 1) * (total - done)
        detail = f"{done:,} of {total:,} {self._unit}"
        left = f", about {seconds_left / 60:.1f} minutes left" if done else ""
        self._bars.update("scoring", done, total, detail, left, is_last=done == total)


class ProgressBars:
    """Named progress bars on a terminal; elsewhere a plain line every 15 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._printed_at = float("-inf")

    def __enter__(self) -> ProgressBars:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def update(
        self, name: str, done: float, total: float, detail: str, time_left: str = "", *, is_last: bool = False
    ) -> None:
        """Show that `done` of `total` is reached. `detail` stands beside the bar; logs add `time_left` to it.

        A log skips the line if the last one is less than 15 seconds old, unless `is_last`.
        """
        if name not in self._bars:
            self._bars[name] = self._display.add_task(name, total=total, detail=detail)
        self._display.update(self._bars[name], completed=done, total=total, detail=detail)
        now = time.monotonic()
        if self._console.is_terminal or (now - self._printed_at < _LINE_EVERY and not is_last):
            return
        self._printed_at = now
        self._console.print(f"  {name}: {detail}{time_left}", highlight=False)
