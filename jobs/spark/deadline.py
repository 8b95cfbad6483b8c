"""The deadline of a night: the time after which the model gets no more requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from jobs.spark.errors import UsageError, UserError


class DeadlinePassed(UserError):
    """The deadline passed before all requests were scored, and the configuration keeps the old data then."""

    exit_code = 4


@dataclass(frozen=True)
class Deadline:
    """An instant in UTC, and the same instant as text in the shop's time zone."""

    at: datetime
    text: str

    def seconds_left(self) -> float:
        """Seconds until the deadline; zero or negative once it has passed."""
        return (self.at - datetime.now(UTC)).total_seconds()


def next_deadline(text: str, timezone: str, now: datetime) -> Deadline:
    """Return the next instant after `now` at which the shop's clock shows `text` (HH:MM).

    Raises UsageError where `text` is no time of day.
    """
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if not found:
        raise UsageError(
            f"--deadline is '{text}': give a time of day in the shop's time zone as HH:MM, for example 05:30"
        )
    zone, of_day = ZoneInfo(timezone), time(int(found[1]), int(found[2]))
    today = now.astimezone(zone).date()
    at = datetime.combine(today, of_day, zone)
    if at.astimezone(UTC) <= now:
        at = datetime.combine(today + timedelta(days=1), of_day, zone)
    return Deadline(at.astimezone(UTC), f"{at:%Y-%m-%d %H:%M} {timezone}")
