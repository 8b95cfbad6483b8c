"""What a night keeps for the night of the next date: a record of each date, and the segments that it names.

The record is published, rolled back and retired with the tables of its date. A segment holds the rows of one run and
never changes; it goes when no record names it, neither a published one nor one in the trash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.store.date_swap import FolderSwap, prepare_swap
from jobs.store.store import Store, is_name, published_dates

#: Raise it with each change of what a segment holds or how it is read.
FORMAT = 4
_RECORD = "state.json"


@dataclass(frozen=True)
class StateRecord:
    """The state of one date."""

    run_id: str
    run_date: str
    #: Everything besides the inputs that decides rows: packages, settings, models.
    versions: Mapping[str, str]
    #: Run ids of the segments, oldest first.
    segments: Sequence[str]
    #: Waves of the recommender's ledger that the run knew.
    waves: Sequence[str]
    #: Time of change of each earlier published date that the state depends on.
    history: Mapping[str, float]
    #: Notes of each input table.
    inputs: Mapping[str, Any]
    #: Customers named by the later segments, by part.
    changed: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def day(self) -> date:
        """The date."""
        return date.fromisoformat(self.run_date)


def prepare_state(spark: SparkSession, store: Store, record: StateRecord) -> FolderSwap:
    """Write the record to the staging folder of its run, and return the swap that publishes it."""
    folder = f"{store.staging(record.run_id)}/state/run_date={record.run_date}"
    files.write_text(spark, f"{folder}/{_RECORD}", json.dumps(asdict(record)))
    return prepare_swap(spark, store, folder, store.state(record.day))


def read_record(spark: SparkSession, folder: str) -> StateRecord | None:
    """Return the record in a folder; None where there is none, or one of another release."""
    try:
        raw = json.loads(files.read_text(spark, f"{folder}/{_RECORD}"))
        return StateRecord(**raw) if raw["format"] == FORMAT else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def published_states(spark: SparkSession, store: Store) -> list[date]:
    """Return the dates that have a state, oldest first."""
    prefix = "run_date="
    names = [name for name in files.listdir(spark, store.states) if name.startswith(prefix)]
    return [date.fromisoformat(name.removeprefix(prefix)) for name in names]


def published_before(spark: SparkSession, store: Store, table: str, run_date: date) -> dict[str, float]:
    """Return the time of change of each published date of a table before `run_date`."""
    days = [day for day in published_dates(spark, store, table) if day < run_date]
    return {f"{table}/{day}": _changed_at(spark, store.date_folder(table, day)) for day in days}


def _changed_at(spark: SparkSession, folder: str) -> float:
    names = files.listdir(spark, folder)
    return max((files.modified_at(spark, f"{folder}/{name}") for name in names), default=0.0)


@contextmanager
def new_segment(spark: SparkSession, store: Store, run_id: str) -> Iterator[str]:
    """Return the folder for the rows that a run keeps; delete it at the end if nothing published names it."""
    try:
        yield store.segment(run_id)
    finally:
        with suppress(OSError, Py4JError):  # the next night deletes what is left
            if not files.exists(spark, store.intent(run_id)):
                delete_unused_segments(spark, store)


def delete_unused_segments(spark: SparkSession, store: Store) -> None:
    """Delete the segments that no record names. Call this under the lock, after `recover`."""
    for folder in unused_segments(spark, store):
        files.delete(spark, folder)


def unused_segments(spark: SparkSession, store: Store, without: Sequence[str] = ()) -> list[str]:
    """List the folders of segments that no record names; records in the folders `without` do not count."""
    names = files.listdir(spark, store.segments)
    if not names:
        return []
    trash = f"{store.root}/trash"
    states = [store.states, *(f"{trash}/{one}/state/dates" for one in files.listdir(spark, trash) if is_name(one))]
    folders = [f"{room}/{day}" for room in states for day in files.listdir(spark, room)]
    records = [read_record(spark, folder) for folder in folders if folder not in without]
    named = {segment for record in records if record is not None for segment in record.segments}
    return [f"{store.segments}/{name}" for name in names if name not in named]


def forget_states(spark: SparkSession, store: Store) -> None:
    """Delete all states and segments: the next night starts from nothing."""
    files.delete(spark, f"{store.root}/state")
