"""A console that writes text for people or, on request, one JSON object a line for log collectors."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

Level = Literal["info", "warning", "error"]


class LogConsole(Console):
    """A rich console; while `as_json` is set, everything that it prints is one JSON object a line.

    Each object has `at` (UTC), `level`, `event` and `message`; an event adds figures of its own.
    """

    as_json = False

    @property
    def is_terminal(self) -> bool:
        """Whether live lines can be shown; JSON has none."""
        return not self.as_json and super().is_terminal

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, or write the plain text as an object with the event `message`."""
        if not self.as_json:
            super().print(*objects, **options)
            return
        text = io.StringIO()
        Console(file=text, width=160, soft_wrap=True, color_system=None).print(*objects, **options)
        self.write_event("message", text.getvalue().strip())

    def write_event(self, event: str, message: str, level: Level = "info", **figures: Any) -> None:
        """Write one object. Values that JSON does not know, such as dates, become texts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"at": now, "level": level, "event": event, "message": message, **figures}
        self.file.write(json.dumps(content, ensure_ascii=False, default=str) + "\n")
        self.file.flush()


def tell(
    console: Console, markup: str, event: str, level: Level = "info", *, clock: bool = False, **figures: Any
) -> None:
    """Print a line with rich's markup; a console that writes JSON names the event and its figures instead.

    With `clock` the line starts with the local time; JSON has `at`.
    """
    if isinstance(console, LogConsole) and console.as_json:
        console.write_event(event, Text.from_markup(markup).plain.strip(), level, **figures)
    else:
        time = f"[dim]{datetime.now():%H:%M:%S}[/dim] " if clock else ""
        console.print(time + markup, highlight=False)
