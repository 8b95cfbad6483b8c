"""Progress of long commands: one live line on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from jobs.spark.log_console import tell

#: Seconds between two plain lines where the console is no terminal (a scheduler's log).
_LINE_EVERY = 15.0
#: Seconds between two lines that are kept for other processes.
_KEEP_EVERY = 5.0
#: A stage that usually takes fewer seconds shows no estimate.
_LEAST_ESTIMATE = 5.0


def warn(console: Console, message: str) -> None:
    """Print a warning; the command goes on."""
    tell(console, f"[bold]Warning:[/bold] {escape(message)}", "warning", "warning")


def duration(seconds: float) -> str:
    """Return seconds as text for people, such as 1 h 05 min."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 90:
        return f"{sign}{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{sign}{minutes} min" if minutes < 90 else f"{sign}{minutes // 60} h {minutes % 60:02d} min"


def expected_end(seconds_left: float) -> str:
    """Return the local time in so many seconds, such as 11:40; with its date where that is not today's."""
    now = datetime.now()
    end = now + timedelta(seconds=seconds_left)
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"


def dates_done(number: int, total: int, begun: float) -> str:
    """Say how many dates are done and when all will be, if each takes as long as those since `begun` (monotonic)."""
    line = f"{number} of {total} dates"
    if number < total:
        line += f", ends about {expected_end((time.monotonic() - begun) / number * (total - number))}"
    return line


@dataclass(frozen=True)
class UsualSeconds:
    """The seconds that an earlier night took, by stage."""

    run_date: date
    seconds: Mapping[str, float]


class Stages:
    """The stages of one run: shows the present one and measures its seconds.

    `keep` gets the present line: at the start of each stage and every few seconds while requests are scored. With
    `usual` a stage says how long it will probably take.
    """

    def __init__(
        self, console: Console, keep: Callable[[str], None] | None = None, usual: UsualSeconds | None = None
    ) -> None:
        self.console = console
        self.usual = usual
        self.seconds: dict[str, float] = {}
        self._keep = keep or (lambda line: None)
        self._kept_at = float("-inf")
        self._name = ""

    @contextmanager
    def stage(self, name: str, *, like: str = "", is_part: bool = False, model: str = "") -> Iterator[None]:
        """Measure one stage, also where it fails. Seconds of stages with the same name add up.

        `like` is the stage of a night that does the same, by default the one of this name; `is_part` says that this
        stage does a part of it, so it tells the seconds of all and no estimate. `model` names the model's seconds in
        the stage: they do not count, because the number of requests differs from night to night and their progress is
        shown.
        """
        started, clock = time.monotonic(), time.strftime("%H:%M:%S")
        about, night = self._estimate(like or name, model, is_part=is_part)
        shown = f"{name}, {about} {night}" if about else name
        tell(self.console, f"[dim]{clock}[/dim] {shown} …", "stage", stage=name)
        self._name = name
        self._keep_line(f"{name}, {about} from {clock} {night}" if about else name, at_once=True)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @contextmanager
    def counter(self, unit: str) -> Iterator[RequestCounter]:
        """Show the number of scored requests, their rate and the expected end while the block runs."""
        with ProgressBars(self.console) as bars:
            yield RequestCounter(bars, unit, lambda line: self._keep_line(f"{self._name}: {line}"))

    def _estimate(self, like: str, model: str, *, is_part: bool) -> tuple[str, str]:
        """How long the stage `like` of the earlier night took without its model, and which night; else empty texts."""
        if self.usual is None:
            return "", ""
        of_model = self.usual.seconds.get(model, 0.0)
        seconds = self.usual.seconds.get(like, 0.0) - of_model
        if seconds < _LEAST_ESTIMATE:
            return "", ""
        night = f"in the night of {self.usual.run_date}"
        if is_part:
            return f"all {like} took {duration(seconds)}", night
        return f"about {duration(seconds)}" + (" without the model" if of_model else ""), f"as {night}"

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
        #: The first scored requests and when they were seen: loading the model is no part of the speed.
        self._first: tuple[float, int] | None = None

    def update(self, done: int, total: int) -> None:
        """Show `done` of `total` requests. The expected end assumes the speed since the first scored requests."""
        now, is_last = time.monotonic(), done == total
        line = f"{done:,} of {total:,} {self._unit}"
        if done and self._first is None:
            self._first = now, done
        since, before = (self._started, 0) if is_last or self._first is None else self._first
        if done > before:
            speed = (done - before) / max(now - since, 1e-3)
            line += f", {speed:,.1f} a second"
            if not is_last:
                line += f", ends about {datetime.now() + timedelta(seconds=(total - done) / speed):%H:%M:%S}"
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
            TextColumn("{task.fields[time_left]}"),
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
        """Show that `done` of `total` is reached, with `detail` and the expected end, `time_left`.

        A log skips the line if the last one is less than 15 seconds old, unless `is_last`.
        """
        if name not in self._bars:
            self._bars[name] = self._display.add_task(name, total=total, detail=detail, time_left=time_left)
        self._lines[name] = detail
        self._display.update(self._bars[name], completed=done, total=total, detail=detail, time_left=time_left)
        now = time.monotonic()
        if self._console.is_terminal or (now - self._printed_at < _LINE_EVERY and not is_last):
            return
        self._printed_at = now
        line = f"  {name}: {detail}" + (f", {time_left}" if time_left else "")
        tell(self._console, line, "progress", clock=True, work=name, done=done, total=total)
