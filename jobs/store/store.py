"""Where everything of a store lies. Readers glob only `tables/`, so nothing unfinished is ever below it.

<store>/tables/<table>/run_date=YYYY-MM-DD/part-00000.parquet    what analysts read: one file a date
        ledger/<task>/wave=<number>-<run_id>/part-00000.parquet  what the model has answered so far
        staging/<run_id>/  work/<run_id>/                        a run's own; gone when it is published
        trash/<run_id>/                                          what it replaced, kept for rollback
        intents/<run_id>.json                                    a publish that was begun and not yet closed
        attempts/YYYY-MM-DD.json                                 a date's run that has not published yet, or failed
        settings/<version>.json                                  the settings that a date was published with
        scratch/<name>/                                          of commands that hold no lock, such as plan
        format.json                                              the form of all this
        lock                                                     who writes now
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from pyspark.sql import SparkSession

from jobs.spark import files

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


@dataclass(frozen=True)
class Store:
    """The paths of one store; `root` is an absolute local path or a URI. Makes nothing and opens nothing."""

    root: str

    def __post_init__(self) -> None:
        here = files.local(self.root)
        object.__setattr__(self, "root", str(here) if here else self.root.rstrip("/"))

    @property
    def tables(self) -> str:
        """The folder that analysts read."""
        return f"{self.root}/tables"

    @property
    def intents(self) -> str:
        """The folder of intent records."""
        return f"{self.root}/intents"

    @property
    def lock_file(self) -> str:
        """The file that a writing command holds."""
        return f"{self.root}/lock"

    def table(self, table: str) -> str:
        """The folder of one published table."""
        return f"{self.tables}/{_checked(table)}"

    def date_folder(self, table: str, run_date: date) -> str:
        """The folder of one date of a published table."""
        return f"{self.table(table)}/run_date={run_date.isoformat()}"

    def ledger(self, task: str) -> str:
        """The folder of one task's ledger."""
        return f"{self.root}/ledger/{_checked(task)}"

    def staging(self, run_id: str) -> str:
        """Where a run puts what it is about to publish."""
        return f"{self.root}/staging/{_checked(run_id)}"

    def work(self, run_id: str) -> str:
        """Where a run keeps what it needs only for itself."""
        return f"{self.root}/work/{_checked(run_id)}"

    def trash(self, run_id: str) -> str:
        """Where a run moves what it replaces, kept for `publish.keep_publishes` publishes."""
        return f"{self.root}/trash/{_checked(run_id)}"

    def replaced(self, run_id: str) -> str:
        """The closed intent of a run, beside what it replaced."""
        return f"{self.trash(run_id)}/publish.json"

    def intent(self, run_id: str) -> str:
        """A run's intent record."""
        return f"{self.intents}/{_checked(run_id)}.json"

    @property
    def attempts(self) -> str:
        """The folder of dates whose run has not published."""
        return f"{self.root}/attempts"

    def attempt(self, run_date: date) -> str:
        """The record of a date's run that has not published."""
        return f"{self.attempts}/{run_date.isoformat()}.json"

    def settings(self, version: str) -> str:
        """The settings of one version."""
        return f"{self.root}/settings/{_checked(version)}.json"

    def scratch(self, name: str) -> str:
        """Where a command that holds no lock keeps what it needs for itself."""
        return f"{self.root}/scratch/{_checked(name)}"


def published_dates(spark: SparkSession, store: Store, table: str) -> list[date]:
    """Return the run dates that a table has, oldest first."""
    names = files.listdir(spark, store.table(table))
    return [date.fromisoformat(name.removeprefix("run_date=")) for name in names if name.startswith("run_date=")]


def _checked(name: str) -> str:
    """Refuse a name that could leave its folder; names of runs, tables and tasks are ours, so this is a defect."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a folder of the store: letters, digits, '.', '_' and '-' only")
    return name
