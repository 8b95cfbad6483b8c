"""Backfill: the night for each date of a range, oldest first, each as of its own end.

For the data engineer after a fix or an outage: `regulars backfill --from D --to D`. What the ledger has answered is
not scored again, so a repeated backfill costs little more than reading.
"""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config import Config
from jobs.errors import UsageError
from jobs.nightly import Night, run_night


def run_backfill(
    spark: SparkSession, config: Config, first: date, last: date, console: Console, config_file: str
) -> list[Night]:
    """Run and publish every date from `first` to `last`, both included; stops at the first that fails.

    Raises UsageError for an empty range, and whatever the failing night raises; dates before it stay published.
    """
    if last < first:
        raise UsageError(f"--from {first} is after --to {last}: give the older date first")
    nights = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        console.print(f"[bold]{day}[/bold] ({number + 1} of {(last - first).days + 1})", highlight=False)
        night = run_night(spark, config, day, console, config_file)
        scored = ", ".join(f"{task} {n:,} scored" for task, n in night.scored.items())
        console.print(
            f"{day}: published {sum(night.rows.values()):,} rows, {scored}, {sum(night.seconds.values()):.0f} s",
            highlight=False,
        )
        nights.append(night)
    return nights
