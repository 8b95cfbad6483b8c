"""Writes the report of a night: `run.json`, `index.html` and one line, all from the same facts.

`regulars report --run-date D` writes it again. An error in a report is a note: it never fails a night.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.evaluation import loyalty_uplift
from jobs.report import lineage, looks
from jobs.report.collect import ONLY_THE_NIGHT_KNOWS, Collector
from jobs.report.facts import Experiment, NightFacts, Outcomes
from jobs.report.page import HEADLINES, render, summary
from jobs.report.prometheus import write_metrics
from jobs.spark import files
from jobs.spark.errors import DeltaTablesBehind, StoreBusy, UsageError, UserError
from jobs.spark.progress import duration, warn
from jobs.store.attempts import Attempt, read_attempts
from jobs.store.store import Store
from jobs.tables.runs import Night, counts

#: The exit code of a night that was refused: the old data is still right.
_REFUSED = 4
_INTERRUPTED, _DEFECT = 130, 1


@dataclass
class NightReport:
    """Collects what is gone once the night has ended, and writes the report at its end."""

    spark: SparkSession
    config: Config
    config_file: str
    night: Night
    console: Console
    #: Facts that the tables do not tell.
    seen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Keep a warning of the night for the report."""
        self.notes.append(message)

    def look(self, used: Mapping[str, DataFrame], reviews: DataFrame | None, sentiments: DataFrame | None) -> None:
        """Look at the night's own files, which publishing deletes: complaints and the experiment so far."""
        with _never_failing(self.console, "the night's own files"):
            most = self.config.report.examples
            if reviews is not None and sentiments is not None and most:
                self.seen["complaints"] = looks.complaints(reviews, sentiments, used.get("items"), most)
        with _never_failing(self.console, "the experiment"):
            self.seen["experiment"] = _experiment(self.spark, self.config, used, self.night.run_date)

    def begin(self) -> None:
        """Send the event of the night's begin, if a client is configured."""
        if self.config.report.openlineage:
            with _never_failing(self.console, "the night's begin"):
                lineage.send_start(self.config, self.config.report.openlineage, self.night)

    def write(self, error: BaseException | None) -> None:
        """Write the report of the night, which ended with `error` or was published.

        A night that lost the store's lock writes none: the report is now that of the run that took it.
        """
        settings = self.config.report
        if settings.openlineage:
            with _never_failing(self.console, "the night's end"):
                reason = None if error is None or isinstance(error, DeltaTablesBehind) else describe(error)[0]
                lineage.send_end(self.config, settings.openlineage, self.night, reason)
        if isinstance(error, StoreBusy) or not (settings.write or settings.prometheus):
            return
        with _never_failing(self.console, "the report"):
            facts = self._facts(error)
            if settings.prometheus:
                with _never_failing(self.console, "the file for Prometheus"):
                    write_metrics(facts, Path(settings.prometheus))
            if settings.write:
                self.console.print(save(self.spark, self.config, facts), highlight=False, markup=False)

    def _facts(self, error: BaseException | None) -> NightFacts:
        night = self.night
        seen = self.seen | {"notes": self.notes}
        if night.deadline is not None:
            seen |= {"deadline": night.deadline.text, "deadline_margin_seconds": night.deadline.seconds_left()}
        collector = Collector(self.spark, self.config, self.config_file, night.run_date)
        if error is None or isinstance(error, DeltaTablesBehind):
            facts = collector.of_published(seen)
            if error is not None:
                facts = facts.model_copy(update={"reason": str(error), "exit_code": DeltaTablesBehind.exit_code})
        else:
            reason, code = describe(error)
            facts = collector.of_failed(
                "kept" if code == _REFUSED and collector.published else "failed",
                night.run_id,
                night.started_at,
                reason,
                code,
                rows=counts(night),
                seconds=night.seconds,
                versions=night.versions,
                ages=night.input_ages,
                seen=seen,
            )
        return facts


@contextmanager
def reported(
    spark: SparkSession, config: Config, config_file: str, night: Night, console: Console
) -> Iterator[NightReport]:
    """Write the report of the block, a night, whether it publishes or raises."""
    report = NightReport(spark, config, config_file, night, console)
    report.begin()
    try:
        yield report
    except BaseException as error:
        report.write(error)
        raise
    report.write(None)


def describe(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an error, without texts of a defect, which may hold values of rows."""
    if isinstance(error, UserError) or hasattr(error, "exit_code"):
        return str(error), int(getattr(error, "exit_code", 2))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: the same command goes on where it stopped", _INTERRUPTED
    return f"{type(error).__name__}, a defect: see the run's log", _DEFECT


def rewrite(spark: SparkSession, config: Config, config_file: str, run_date: date) -> tuple[NightFacts, str]:
    """Write the report of a date again and return its facts and line. Raises UsageError for a date that never ran.

    What only the night knew comes from the earlier `run.json`, where that is of the same run.
    """
    store = Store(config.store)
    collector = Collector(spark, config, config_file, run_date)
    published, attempt = collector.published.get(run_date), read_attempts(spark, store).get(run_date)
    earlier = read_facts(spark, store, run_date)
    if attempt is not None and (published is None or published.run["run_id"] != attempt.run_id):
        if earlier is not None and earlier.run_id == attempt.run_id:
            facts = collector.with_new_history(earlier)
        else:
            facts = _of_attempt(collector, attempt)
    elif published is None:
        raise UsageError(f"no night of {run_date} was ever run in {store.root}: see {config.command('status')}")
    else:
        same_run = earlier if earlier is not None and earlier.run_id == published.run["run_id"] else None
        facts = collector.of_published(_seen_before(same_run))
    return facts, save(spark, config, facts)


def read_facts(spark: SparkSession, store: Store, run_date: date) -> NightFacts | None:
    """Return the facts in `run.json` of a date; None where there is none that this release can read."""
    try:
        return NightFacts.model_validate_json(files.read_text(spark, f"{store.report(run_date)}/run.json"))
    except (FileNotFoundError, ValidationError):
        return None


def save(spark: SparkSession, config: Config, facts: NightFacts) -> str:
    """Write `run.json` and `index.html`, and return the line for the terminal."""
    folder = Store(config.store).report(facts.run_date)
    files.write_text(spark, f"{folder}/run.json", facts.model_dump_json(indent=1))
    files.write_text(spark, f"{folder}/index.html", render(facts, config.timezone))
    return one_line(facts, f"{folder}/index.html")


def one_line(facts: NightFacts, page: str) -> str:
    """Return the night in one line: outcome, date, what readers find, seconds, margin, and the page."""
    parts = [f"{HEADLINES[facts.outcome]} {facts.run_date}", summary(facts).rstrip("."), duration(facts.wall_seconds)]
    if facts.deadline_margin_seconds is not None:
        parts.append(f"{duration(facts.deadline_margin_seconds)} to the deadline")
    return " | ".join([*parts, f"report: {page}"])


def _of_attempt(collector: Collector, attempt: Attempt) -> NightFacts:
    """The facts of a run that left nothing but its record, for example because it was killed."""
    started = datetime.fromisoformat(attempt.started_at).astimezone(UTC)
    reason = attempt.reason or "the run was killed, or it still runs: see " + collector.config.command("status")
    facts = collector.of_failed(
        "failed", attempt.run_id, started, reason, _DEFECT, rows={}, seconds={}, versions={}, ages={}
    )
    ended = datetime.fromisoformat(attempt.ended_at).astimezone(UTC) if attempt.ended_at else started
    return facts.model_copy(update={"finished_at": ended})


def _seen_before(facts: NightFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    seen: dict[str, Any] = {name: getattr(facts, name) for name in ONLY_THE_NIGHT_KNOWS}
    if facts.opinions is not None:
        seen["complaints"] = facts.opinions.complaints
    return seen


def _experiment(
    spark: SparkSession, config: Config, used: Mapping[str, DataFrame], run_date: date
) -> Experiment | None:
    """Compare treated and control customers so far; None without a control group or before its first day has passed."""
    settings = config.loyalty
    has_begun = settings.control_share and settings.starts_on is not None and run_date > settings.starts_on
    if not has_begun or "purchases" not in used:
        return None
    found = loyalty_uplift.compare_as_of(spark, config, used, run_date)
    return Experiment(
        starts_on=found.starts_on,
        days_seen=found.days_seen,
        horizon_days=found.horizon_days,
        treated=found.treated,
        control=found.control,
        verdict=f"Winner: {found.verdict.winner}: {found.verdict.reason}.",
        outcomes=[
            Outcomes(
                name=name,
                treated=one.treated,
                control=one.control,
                relative=one.adjusted.relative,
                low=one.adjusted.relative_low,
                high=one.adjusted.relative_high,
            )
            for name, one in found.outcomes.items()
            # Without a mean of the control group there is no relative effect.
            if all(map(math.isfinite, (one.adjusted.relative, one.adjusted.relative_low, one.adjusted.relative_high)))
        ],
    )


@contextmanager
def _never_failing(console: Console, what: str) -> Iterator[None]:
    """Turn an error into a warning. The night is more important than its report, so any error counts."""
    try:
        yield
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else type(error).__name__
        warn(console, f"{what} could not be reported ({said}); the night itself is not affected")
