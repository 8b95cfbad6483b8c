"""Collects the facts of a night: from the store for a published date, from the run itself for one that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from pyspark.sql import SparkSession

import schemas
from jobs.config.config import Config
from jobs.report import looks
from jobs.report.facts import (
    CategoryLabels,
    Day,
    InputAge,
    InputRows,
    ListChanges,
    NightFacts,
    Opinions,
    RejectedRows,
    Replay,
    TaskWork,
)
from jobs.report.history import DAYS, PublishedDate, cost_of, input_ages, read_date, strip
from jobs.spark import files
from jobs.store.attempts import read_attempts
from jobs.store.dates import days_between
from jobs.store.store import Store, published_dates
from jobs.tasks.all_tasks import TASKS
from schemas import runs

#: Rows of the page's tables; the number left out is told.
_CATEGORIES = 12
#: Facts that only the running night knows. A report that is written again takes them from `run.json`.
ONLY_THE_NIGHT_KNOWS = ("deadline", "deadline_margin_seconds", "notes", "experiment")


class Collector:
    """Collects facts of one date of one store."""

    def __init__(self, spark: SparkSession, config: Config, config_file: str, run_date: date) -> None:
        self.spark, self.config, self.config_file, self.run_date = spark, config, config_file, run_date
        self.store = Store(config.store)
        self.days = days_between(run_date - timedelta(days=DAYS - 1), run_date)
        found = ((day, read_date(spark, self.store, day)) for day in self.days)
        self.published = {day: one for day, one in found if one is not None}

    def of_published(self, seen: Mapping[str, Any] | None = None) -> NightFacts:
        """Return the facts of the published date; `seen` holds what only the night knows, and complaints."""
        seen = dict(seen or {})
        own = self.published[self.run_date]
        run, is_carried = own.run, own.run["status"] == runs.AT_DEADLINE
        complaints = seen.pop("complaints", [])
        return NightFacts(
            outcome="carried" if is_carried else "published",
            run_id=run["run_id"],
            started_at=run["started_at"],
            finished_at=run["finished_at"],
            reason=_why_carried(run["rows"]) if is_carried else "",
            command=self._command("backfill", f"--from {self.run_date} --to {self.run_date} --reprocess stale")
            if is_carried
            else self._command("status"),
            changes=self._changes(),
            opinions=_opinions(own, complaints),
            replays=self._replays(),
            versions=run["versions"],
            **self._of_counts(run["rows"], run["seconds"], own.wall_seconds),
            **self._of_history(own.slices("input_age_hours")),
            **seen,
        )

    def of_failed(
        self,
        outcome: str,
        run_id: str,
        started_at: datetime,
        reason: str,
        exit_code: int,
        *,
        rows: Mapping[str, int],
        seconds: Mapping[str, float],
        versions: Mapping[str, str],
        ages: Mapping[str, tuple[float, int]],
        seen: Mapping[str, Any] | None = None,
    ) -> NightFacts:
        """Return the facts of a run that did not publish."""
        ended_at = datetime.now(UTC)
        facts = {key: value for key, value in (seen or {}).items() if key in ONLY_THE_NIGHT_KNOWS}
        return NightFacts.model_validate(
            {
                "outcome": outcome,
                "run_id": run_id,
                "started_at": started_at,
                "finished_at": ended_at,
                "reason": reason,
                "exit_code": exit_code,
                "command": self._command("nightly", f"--run-date {self.run_date}"),
                "versions": dict(versions),
                **self._of_counts(rows, seconds, (ended_at - started_at).total_seconds()),
                **self._of_history(dict(ages)),
                **facts,
            }
        )

    def with_new_history(self, facts: NightFacts) -> NightFacts:
        """Return the facts of a failed run with today's strip of dates."""
        ages = {age.table: (age.hours, age.rows) for age in facts.input_ages}
        return facts.model_copy(update=self._of_history(ages))

    def _of_counts(self, rows: Mapping[str, int], seconds: Mapping[str, float], wall_seconds: float) -> dict[str, Any]:
        price = self.config.report.price_per_hour
        return {
            "seconds": dict(seconds),
            "inputs": _input_rows(rows),
            "rejected": _rejected(rows),
            "tasks": _task_work(rows, seconds),
            "cost": cost_of(wall_seconds, price),
            "currency": self.config.report.currency,
        }

    def _of_history(self, ages: dict[str, tuple[float, int]]) -> dict[str, Any]:
        attempts = read_attempts(self.spark, self.store)
        before = [one for day, one in sorted(self.published.items()) if day < self.run_date]
        dates = published_dates(self.spark, self.store, "runs")
        own = self.published.get(self.run_date)
        first = min([*dates, *attempts, self.run_date])
        days: list[Day] = strip(self.days, self.published, attempts, self.config.report.price_per_hour, first)
        found: list[InputAge] = input_ages(ages, before)
        return {
            "run_date": self.run_date,
            "store": PurePosixPath(self.store.root).name,
            "newest_published": max((day for day in dates if day <= self.run_date), default=None),
            "days": days,
            "input_ages": found,
            "rows": {} if own is None else {name: n for name, (_, n) in own.slices("rows").items()},
        }

    def _changes(self) -> ListChanges | None:
        """Compare the date's lists with the earlier ones; None for a night without lists."""
        store, day = self.store, self.run_date
        if not files.exists(self.spark, store.date_folder("recommendations", day)):
            return None
        customers, rows, shares = looks.list_shares(self.spark, store, day)
        entered, left, examples = looks.list_changes(self.spark, store, day, self.config.report.examples)
        earlier = [one for one in published_dates(self.spark, store, "recommendations") if one < day]
        return ListChanges(
            customers=customers,
            rows=rows,
            **{kind: shares.get(kind, 0.0) for kind in ("changed", "unchanged", "first")},
            since=max(earlier, default=None),
            entered=entered,
            left=left,
            examples=examples,
        )

    def _replays(self) -> list[Replay]:
        """Judge the newest lists with a full window of published dates after them, and the date's own lists."""
        days, k = self.config.report.replay_days, self.config.recommend.k
        newest = max(published_dates(self.spark, self.store, "purchases_used"), default=self.run_date)
        with_lists = published_dates(self.spark, self.store, "recommendations")
        candidates = sorted((day for day in with_lists if day <= self.run_date), reverse=True)
        judged = [day for day in candidates if day + timedelta(days=days) <= newest][:1]
        found = (looks.replay(self.spark, self.store, day, days, k) for day in judged)
        return [one for one in found if one is not None]

    def _command(self, command: str, options: str = "") -> str:
        return f"regulars {command} {self.config.options(self.config_file)} {options}".rstrip()


def _why_carried(rows: Mapping[str, int]) -> str:
    late = {name.removesuffix(".late"): n for name, n in rows.items() if name.endswith(".late") and n}
    parts = [f"{n:,} {task} requests" for task, n in sorted(late.items())]
    return f"The deadline left {' and '.join(parts)}. Customers without a new list keep their earlier one."


def _opinions(own: PublishedDate, complaints: Sequence[Any]) -> Opinions | None:
    labels = own.slices("label_share")
    if not labels:
        return None
    by_size = sorted(own.slices("negative_share").items(), key=lambda one: (-one[1][1], one[0]))
    categories = [CategoryLabels(category=name, reviews=n, negative=value) for name, (value, n) in by_size]
    return Opinions(
        reviews=max(n for _, n in labels.values()),
        labels={name: value for name, (value, _) in labels.items()},
        disagreements=own.shares("disagreements").get("all"),
        categories=categories[:_CATEGORIES],
        categories_left_out=max(0, len(categories) - _CATEGORIES),
        complaints=list(complaints),
    )


def _input_rows(rows: Mapping[str, int]) -> list[InputRows]:
    found: dict[str, dict[str, int]] = {}
    for name, n in rows.items():
        table, _, outcome = name.partition(".")
        if outcome and table in schemas.INPUTS:  # `customers` alone counts prompts
            found.setdefault(table, {})[outcome] = n
    return [InputRows(table=table, read=of.pop("read", 0), outcomes=of) for table, of in found.items()]


def _rejected(rows: Mapping[str, int]) -> list[RejectedRows]:
    """The rules that rejected new rows, the most frequent first."""
    found = []
    for name, n in rows.items():
        if name.startswith("quarantine."):
            _, table, rule = name.split(".", 2)
            found.append(RejectedRows(table=table, rule=rule, rows=n))
    return sorted(found, key=lambda one: (-one.rows, one.table, one.rule))


def _task_work(rows: Mapping[str, int], seconds: Mapping[str, float]) -> list[TaskWork]:
    return [
        TaskWork(
            task=task.NAME,
            **{kind: rows.get(f"{task.NAME}.{kind}", 0) for kind in ("reused", "scored", "late", "tokens")},
            model_seconds=seconds.get(f"{task.NAME}.model", 0.0),
        )
        for task in TASKS
        if f"{task.NAME}.scored" in rows
    ]
