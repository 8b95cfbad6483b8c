"""The layout of a store. Readers list only `tables/`, so unfinished files never lie below it.

<store>/tables/<table>/run_date=YYYY-MM-DD/part-00000.parquet    published tables: one file per date, or
        tables/<table>/run_date=.../part-00000-<run_id>.parquet  several files of a date with many rows
        ledger/<task>/wave=<number>-<run_id>/part-00000.parquet  the model's answers so far; compaction's waves have
                                        part-00000-of-00016.parquet and so on, by ranges of the key
        staging/<run_id>/  work/<run_id>/                        temporary folders of a run, deleted once it published
        trash/<run_id>/                                          the folders that the run replaced, for rollback
        state/dates/run_date=YYYY-MM-DD/state.json               what the night of the next date needs to know of a date
        state/segments/<run_id>/                                 the rows that a run read and keeps; they never change
        intents/<run_id>.json                                    a publish that has begun and is not closed yet
        attempts/YYYY-MM-DD.json                                 a date's run that has not published yet, or failed
        settings/<version>.json                                  the settings that a date was published with
        reports/run_date=YYYY-MM-DD/index.html, run.json         the report of a date's last night
        scratch/<name>/                                          temporary folders of commands without the lock
        scratch/<name>.live                                      locked while the owner of that folder runs
        receipts/<run_id>.json                                   what `regulars erase` took out and what remains
        key                                                      the key of keyed hashes, unless `privacy` names one
        format.json                                              the version of this layout
        lock                                                     the lock of the writing command
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError

#: The folders of a store, and those whose entries are folders that commands rename or list.
_ROOMS = (
    "tables",
    "ledger",
    "staging",
    "work",
    "trash",
    "state",
    "intents",
    "attempts",
    "settings",
    "receipts",
    "reports",
    "scratch",
)
_ROOMS_OF_FOLDERS = ("tables", "ledger", "staging", "trash")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


@dataclass(frozen=True)
class Store:
    """The paths of one store; `root` is an absolute local path or a URI. Creates and opens no files."""

    root: str

    def __post_init__(self) -> None:
        here = files.local(self.root)
        object.__setattr__(self, "root", str(here) if here else self.root.rstrip("/"))

    @property
    def tables(self) -> str:
        """The folder of all published tables."""
        return f"{self.root}/tables"

    @property
    def intents(self) -> str:
        """The folder of intent records."""
        return f"{self.root}/intents"

    @property
    def lock_file(self) -> str:
        """The lock file."""
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
        """The folder for the tables that a run is going to publish."""
        return f"{self.root}/staging/{_checked(run_id)}"

    def work(self, run_id: str) -> str:
        """The folder for a run's intermediate results."""
        return f"{self.root}/work/{_checked(run_id)}"

    def progress(self, run_id: str) -> str:
        """The file with the present line of a running night, for `regulars status`."""
        return f"{self.work(run_id)}/progress.txt"

    @property
    def states(self) -> str:
        """The folder of the states of all dates."""
        return f"{self.root}/state/dates"

    def state(self, run_date: date) -> str:
        """The folder of one date's state."""
        return f"{self.states}/run_date={run_date.isoformat()}"

    @property
    def segments(self) -> str:
        """The folder of the segments of all states."""
        return f"{self.root}/state/segments"

    def segment(self, run_id: str) -> str:
        """The folder of the rows that one run keeps."""
        return f"{self.segments}/{_checked(run_id)}"

    def trash(self, run_id: str) -> str:
        """The folder for what a run replaced, kept for `publish.keep_publishes` publishes."""
        return f"{self.root}/trash/{_checked(run_id)}"

    def replaced(self, run_id: str) -> str:
        """The closed intent record of a run, stored with the folders that it replaced."""
        return f"{self.trash(run_id)}/publish.json"

    def intent(self, run_id: str) -> str:
        """The open intent record of a run."""
        return f"{self.intents}/{_checked(run_id)}.json"

    @property
    def attempts(self) -> str:
        """The folder of attempt records."""
        return f"{self.root}/attempts"

    def attempt(self, run_date: date) -> str:
        """The attempt record of one date."""
        return f"{self.attempts}/{run_date.isoformat()}.json"

    def report(self, run_date: date) -> str:
        """The folder of one date's report."""
        return f"{self.root}/reports/run_date={run_date.isoformat()}"

    def settings(self, version: str) -> str:
        """The file of one version of the settings."""
        return f"{self.root}/settings/{_checked(version)}.json"

    def receipt(self, run_id: str) -> str:
        """The receipt of an erasure."""
        return f"{self.root}/receipts/{_checked(run_id)}.json"

    def scratch(self, name: str) -> str:
        """The folder for intermediate results of a command without the lock."""
        return f"{self.root}/scratch/{_checked(name)}"


def published_dates(spark: SparkSession, store: Store, table: str) -> list[date]:
    """Return the published dates of a table, oldest first."""
    if not is_name(table):
        return []
    days = [date_of(name) for name in files.listdir(spark, store.table(table))]
    return [day for day in days if day]


def is_name(name: str) -> bool:
    """Return whether Regulars could have given this name; False for foreign files, such as `.DS_Store`."""
    return _NAME.fullmatch(name) is not None


def date_of(folder: str) -> date | None:
    """Return the date of a date folder; None for other names, such as `run_date=2026-03-01.bak`."""
    try:
        day = date.fromisoformat(folder.removeprefix("run_date="))
    except ValueError:
        return None
    return day if folder == f"run_date={day}" else None


def _checked(name: str) -> str:
    """Return the name; ValueError where it could leave its folder. All names are ours, so that is a defect."""
    if not is_name(name):
        raise ValueError(f"{name!r} cannot name a folder of the store: letters, digits, '.', '_' and '-' only")
    return name


def refuse_links(store: Store) -> None:
    """Raise ConfigurationError where a folder of a local store is a link to a place outside the store.

    Commands delete and rename below these folders, so a planted link would reach foreign files.
    """
    here = files.local(store.root)
    if here is None or not here.is_dir():
        return
    rooms = [here / room for room in _ROOMS]
    below = [entry for room in rooms if room.is_dir() for entry in room.iterdir() if room.name in _ROOMS_OF_FOLDERS]
    for folder in [*rooms, *below]:
        if folder.is_symlink() and not folder.resolve().is_relative_to(here.resolve()):
            raise ConfigurationError(
                f"store: {folder} is a symbolic link to {folder.resolve()}, outside the store. Regulars deletes and "
                "renames files there, so it stops. Delete the link, then run the same command again."
            )
