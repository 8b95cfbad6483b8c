"""Progress of long commands: one live line on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from jobs.spark.log_console import tell

#: Seconds between two plain lines where the console is no terminal (a scheduler's log).
_LINE_EVERY = 15.0
#: Seconds between two lines that are kept for other processes.
_KEEP_EVERY = 5.0


def warn(console: Console, message: str) -> None:
    """Print a warning; the command goes on."""
    tell(console, f"[bold]Warning:[/bold] {escape(message)}", "warning", "warning")


class Stages:
    """The stages of one run: shows the present one and measures its seconds.

    `keep` gets the present line: at the start of each stage and every few seconds while requests are scored.
    """

    def __init__(self, console: Console, keep: Callable[[str], None] | None = None) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._keep = keep or (lambda line: None)
        self._kept_at = float("-inf")
        self._name = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage, also where it fails. Seconds of stages with the same name add up."""
        started = time.monotonic()
        tell(self.console, f"[dim]{time.strftime('%H:%M:%S')}[/dim] {name} …", "stage", stage=name)
        self._name = name
        self._keep_line(name, at_once=True)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @contextmanager
    def counter(self, unit: str) -> Iterator[RequestCounter]:
        """Show the number of scored requests, their rate and the expected end while the block runs."""
        with ProgressBars(self.console) as bars:
            yield RequestCounter(bars, unit, lambda line: self._keep_line(f"{self._name}: {line}"))

    def _keep_line(self, line: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._kept_at >= _KEEP_EVERY:
            self._kept_at = now
            self._keep(line)


class RequestCounter:
    """Shows how many requests of one task are scored; `unit` names them in the plural."""

    def __init__(self, bars: ProgressBars, unit: str, keep: Callable[[str], None] = lambda line: None) -> None:
        self._bars, self._unit, self._keep = bars, unit, keep
        self._started = time.monotonic()

    def update(self, done: int, total: int) -> None:
        """Show `done` of `total` requests. The expected end assumes a constant speed."""
        seconds = time.monotonic() - self._started
        line = f"{done:,} of {total:,} {self._unit}"
        if done:
            line += f", {done / max(seconds, 1e-3):,.1f} a second"
        is_last = done == total
        if done and not is_last:
            end = datetime.now() + timedelta(seconds=seconds / done * (total - done))
            line += f", ends about {end:%H:%M:%S}"
        self._bars.update("scoring", done, total, line, is_last=is_last)
        self._keep(line)


class ProgressBars:
    """One live line a name on a terminal, which closes at the end; elsewhere a plain line every 15 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._lines: dict[str, str] = {}
        self._printed_at = float("-inf")

    def __enter__(self) -> ProgressBars:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the live lines; their last state stays as plain lines."""
        self._display.stop()
        if self._console.is_terminal:
            for name, line in self._lines.items():
                self._console.print(f"  {name}: {line}", highlight=False)

    def update(
        self, name: str, done: float, total: float, detail: str, time_left: str = "", *, is_last: bool = False
    ) -> None:
        """Show that `done` of `total` is reached. `detail` stands beside the bar; logs add `time_left` to it.

        A log skips the line if the last one is less than 15 seconds old, unless `is_last`.
        """
        if name not in self._bars:
            self._bars[name] = self._display.add_task(name, total=total, detail=detail)
        self._lines[name] = detail
        self._display.update(self._bars[name], completed=done, total=total, detail=detail)
        now = time.monotonic()
        if self._console.is_terminal or (now - self._printed_at < _LINE_EVERY and not is_last):
            return
        self._printed_at = now
        tell(self._console, f"  {name}: {detail}{time_left}", "progress", work=name, done=done, total=total)
