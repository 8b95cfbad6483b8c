"""Writes the last night's figures as a text file that Prometheus' node exporter reads (its textfile collector)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from jobs.report.facts import NightFacts, Outcome
from jobs.spark.errors import ConfigurationError

_SECONDS_PER_HOUR = 3600


def write_metrics(facts: NightFacts, path: Path) -> None:
    """Replace the file with the figures of one night: a reader finds the old or the new file, whole.

    The exporter runs as another user, so every user may read the file. It names no customer. Raises
    ConfigurationError where it cannot be written.
    """
    try:
        write_to_textfile(str(path), registry(facts))
        path.chmod(0o644)
    except OSError as error:
        raise ConfigurationError(
            f"report.prometheus: {path} cannot be written ({error.strerror}): create its folder, writable for this user"
        ) from error


def registry(facts: NightFacts) -> CollectorRegistry:
    """Return the figures as gauges. Times are in seconds since 1970; a date is its midnight in UTC."""
    found = CollectorRegistry()

    def gauge(name: str, meaning: str, values: Mapping[str, float], label: str) -> None:
        metric = Gauge(f"regulars_{name}", meaning, [label], registry=found)
        for key, value in values.items():
            metric.labels(key).set(value)

    def single(name: str, meaning: str, value: float) -> None:
        Gauge(f"regulars_{name}", meaning, registry=found).set(value)

    single("run_date_seconds", "The date of the last night", _midnight(facts.run_date))
    if facts.newest_published is not None:
        newest = _midnight(facts.newest_published)
        single("newest_published_date_seconds", "The newest date that readers find", newest)
    single("night_finished_seconds", "End of the last night", facts.finished_at.timestamp())
    single("night_duration_seconds", "Seconds from its start to its end", facts.wall_seconds)
    single("night_exit_code", "Exit code of the last night", facts.exit_code)
    if facts.deadline_margin_seconds is not None:
        single("night_deadline_margin_seconds", "Seconds that were left to the deadline", facts.deadline_margin_seconds)
    outcomes = {outcome: float(outcome == facts.outcome) for outcome in get_args(Outcome)}
    gauge("night_outcome", "1 for the outcome of the last night, 0 for the others", outcomes, "outcome")
    gauge("night_stage_seconds", "Seconds of each stage", facts.seconds, "stage")
    gauge("night_rows", "Rows of each table as computed", facts.rows, "table")
    gauge("night_tokens", "Tokens through each model", {one.task: one.tokens for one in facts.tasks}, "task")
    gauge("night_scored_requests", "Requests through each model", {one.task: one.scored for one in facts.tasks}, "task")
    late = {one.task: one.late for one in facts.tasks}
    gauge("night_late_requests", "Requests that the deadline left without an answer", late, "task")
    rejected: dict[str, float] = {}
    for one in facts.rejected:
        rejected[one.table] = rejected.get(one.table, 0) + one.rows
    gauge("night_quarantined_rows", "New rows of quarantine by input table", rejected, "table")
    ages = {age.table: age.hours * _SECONDS_PER_HOUR for age in facts.input_ages}
    gauge("input_age_seconds", "Seconds from an input's newest used row to the end of the date", ages, "table")
    return found


def _midnight(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()
