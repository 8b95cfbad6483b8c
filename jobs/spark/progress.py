"""How a long command shows where it is: one live line on a terminal, plain lines every so often elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds between two plain lines where there is no terminal to redraw (a scheduler's log).
_LINE_EVERY = 15.0


def warn(console: Console, message: str) -> None:
    """What the operator should know though the command goes on."""
    console.print(f"[bold]Warning:[/bold] {escape(message)}", highlight=False)


class Stages:
    """The stages of one run: announces each, times it, and shows progress within it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; its seconds are kept even where it fails."""
        started = time.monotonic()
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {name} …", highlight=False)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @contextmanager
    def counter(self, unit: str) -> Iterator[Counter]:
        """Show `done of total unit` with an estimate of the end while the block runs."""
        with Counter(self.console, unit) as counter:
            yield counter


class Counter:
    """A progress line counted in `unit`; on a terminal it redraws, in a log it prints every few seconds."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console, self._unit = console, unit
        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("scoring", total=None)
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Counter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Tell how far the work is; the estimate assumes that the rest goes as the work so far."""
        self._bar.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._printed >= _LINE_EVERY or done == total):
            left = (now - self._started) / max(done, 1) * (total - done)
            self._console.print(
                f"  {done:,} of {total:,} {self._unit}, about {left / 60:.1f} minutes left", highlight=False
            )
            self._printed = now
