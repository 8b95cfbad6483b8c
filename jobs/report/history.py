"""Reads what the published dates say of themselves: their rows in `runs` and `metrics`.

Both tables have a few rows a date. They are read without a Spark job, so a night that was interrupted has a report too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

from pyspark.sql import SparkSession

from jobs.report.facts import Day, InputAge
from jobs.spark import files, parquet
from jobs.store.attempts import Attempt
from jobs.store.store import Store
from schemas import runs

#: Number of dates in the strip.
DAYS = 35


@dataclass(frozen=True)
class PublishedDate:
    """The rows of `runs` and `metrics` of one date. `metrics` maps (metric, slice) to (value, n)."""

    run: dict[str, Any]
    metrics: dict[tuple[str, str], tuple[float, int]]

    @property
    def wall_seconds(self) -> float:
        """Seconds from the start of the run to its row in `runs`."""
        return float((self.run["finished_at"] - self.run["started_at"]).total_seconds())

    def slices(self, metric: str) -> dict[str, tuple[float, int]]:
        """Return value and n of one metric by slice, in the order of the slices."""
        return {name: found for (this, name), found in sorted(self.metrics.items()) if this == metric}

    def shares(self, metric: str) -> dict[str, float]:
        """Return the values of one metric by slice."""
        return {name: value for name, (value, _) in self.slices(metric).items()}


def read_date(spark: SparkSession, store: Store, day: date) -> PublishedDate | None:
    """Return what a published date says of itself; None for a date without data."""
    if not files.exists(spark, store.date_folder("runs", day)):
        return None
    (run,) = parquet.small_rows(spark, store.date_folder("runs", day))
    metrics = parquet.small_rows(spark, store.date_folder("metrics", day))
    for name in ("rows", "seconds", "versions"):
        run[name] = dict(run[name])
    return PublishedDate(run, {(row["metric"], row["slice"]): (row["value"], row["n"]) for row in metrics})


def strip(
    days: Sequence[date],
    published: dict[date, PublishedDate],
    attempts: dict[date, Attempt],
    price: float | None,
    first_night: date,
) -> list[Day]:
    """Return one `Day` for each of `days`. `price` is the price of one hour of the machine.

    No night was missed before `first_night`, the first date that was ever published or tried.
    """
    return [
        Day(run_date=day, state="before")
        if day < first_night
        else _day(day, published.get(day), attempts.get(day), price)
        for day in days
    ]


def cost_of(seconds: float, price: float | None) -> float | None:
    """Return the cost of a run; None without a price."""
    return None if price is None else seconds / 3600 * price


def input_ages(now: dict[str, tuple[float, int]], before: Sequence[PublishedDate]) -> list[InputAge]:
    """Return the age of each input (hours, rows), beside its median over the dates `before`."""
    found = []
    for table, (hours, rows) in sorted(now.items()):
        usual = [values[table][0] for one in before if table in (values := one.slices("input_age_hours"))]
        found.append(InputAge(table=table, hours=hours, rows=rows, usual_hours=median(usual) if usual else None))
    return found


def _day(day: date, published: PublishedDate | None, attempt: Attempt | None, price: float | None) -> Day:
    if attempt is not None and (published is None or attempt.run_id != published.run["run_id"]):
        return Day(run_date=day, state="failed")
    if published is None:
        return Day(run_date=day, state="missing")
    return Day(
        run_date=day,
        state="carried" if published.run["status"] == runs.AT_DEADLINE else "published",
        seconds=published.wall_seconds,
        tokens=published.run["tokens"],
        cost=cost_of(published.wall_seconds, price),
        labels=published.shares("label_share"),
        segments=published.shares("segment_share"),
    )
