"""The time of day at which a night stops asking the model and publishes what it has, or nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from jobs.spark.errors import UsageError, UserError


class DeadlinePassed(UserError):
    """The deadline came before all requests were scored and the configuration says to keep the old data."""

    exit_code = 4


@dataclass(frozen=True)
class Deadline:
    """An instant, and how the operator wrote it."""

    at: datetime
    text: str

    def seconds_left(self) -> float:
        """Seconds until it passes; not above 0 once it has."""
        return (self.at - datetime.now(UTC)).total_seconds()


def next_deadline(text: str, timezone: str, now: datetime) -> Deadline:
    """The next time that the shop's clock shows `text` (HH:MM) after `now`; UsageError for anything else."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if not found:
        raise UsageError(f"--deadline is '{text}': give the shop's time of day as HH:MM, for example 05:30")
    zone, of_day = ZoneInfo(timezone), time(int(found[1]), int(found[2]))
    today = now.astimezone(zone).date()
    at = datetime.combine(today, of_day, zone)
    if at.astimezone(UTC) <= now:
        at = datetime.combine(today + timedelta(days=1), of_day, zone)
    return Deadline(at.astimezone(UTC), f"{at:%Y-%m-%d %H:%M} {timezone}")
