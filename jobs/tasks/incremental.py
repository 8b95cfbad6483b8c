"""Nights by change: whether the state of the date before can be used, and the state that a night leaves.

In doubt a night starts from nothing and says why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.config.run_date import has_run_date
from jobs.inputs import known_rows
from jobs.inputs.known_rows import KnownInputs, TableNotes
from jobs.inputs.reader import Inputs
from jobs.inputs.row_accounting import end_of_date
from jobs.scoring.models import Model
from jobs.spark import files
from jobs.spark.log_console import tell
from jobs.spark.privacy_key import keyed_hash
from jobs.store import state
from jobs.store.dates import published_runs
from jobs.store.state import StateRecord
from jobs.store.store import Store, published_dates
from jobs.tables import groups
from jobs.tables.earlier import Earlier
from jobs.tables.list_rules import NightRules
from jobs.tables.runs import Night, packages
from jobs.tasks import recommend
from jobs.tasks.task import Task
from jobs.tasks.versions import settings_version, task_versions

#: Functions of Spark SQL that give another result on another day, or each time.
_VARYING = re.compile(
    r"(?i)\b(current_\w+|now|curdate|localtimestamp|unix_timestamp|rand|randn|random|uuid|shuffle|uniform|randstr"
    r"|monotonically_increasing_id|input_file_\w+|spark_partition_id)\b"
)


@dataclass(frozen=True)
class Basis:
    """What a night starts from: the record of the date before, or None and the reason."""

    record: StateRecord | None
    reason: str = ""
    #: Whether the night keeps its rows for the next one.
    keeps_rows: bool = True

    def known(self, store: Store, config: Config, work: str) -> KnownInputs | None:
        """What the record says of the inputs; None without a record."""
        record = self.record
        if record is None:
            return None
        return KnownInputs(
            folders=[store.segment(name) for name in record.segments],
            notes={table: TableNotes.of(raw) for table, raw in record.inputs.items()},
            end=end_of_date(record.day, config.timezone),
            work=work,
            changed=record.changed,
        )

    def earlier(self, store: Store, segment: str, inputs: Inputs) -> Earlier | None:
        """What the tables need of the record, with the customers that `inputs` found; None without a record."""
        record = self.record
        if record is None:
            return None
        return Earlier(
            day=record.day,
            folders=[store.segment(name) for name in record.segments],
            tonight=segment,
            changed=inputs.changed,
            opted_out=inputs.opted_out_since,
            waves=record.waves,
            named=record.changed,
        )


def find_basis(
    spark: SparkSession,
    store: Store,
    config: Config,
    run_date: date,
    versions: Mapping[str, str],
    *,
    from_scratch: bool = False,
) -> Basis:
    """Say from what the night of `run_date` starts. `versions` are the result of `versions_of`."""
    if not config.incremental.enabled:
        return Basis(None, keeps_rows=False)
    if (reason := _unsupported(config, run_date)) is not None:
        return Basis(None, reason, keeps_rows=False)
    if from_scratch:
        return Basis(None, "--from-scratch was given")
    dates = [day for day in published_dates(spark, store, "runs") if day < run_date]
    if not dates:
        return Basis(None, "no earlier date is published")
    if later := [day for day in published_dates(spark, store, "runs") if day >= run_date]:
        return Basis(None, f"{later[-1]} is published already")
    record = state.read_record(spark, store.state(dates[-1]))
    if record is None:
        return Basis(None, f"{dates[-1]}, the date before, has no state")
    reason = _why_not(spark, store, config, record, versions)
    return Basis(record) if reason is None else Basis(None, reason)


def versions_of(config: Config, found: list[tuple[Task, Model]], key: bytes) -> dict[str, str]:
    """Everything besides the inputs that decides the rows of a night; `key` is that of keyed hashes."""
    versions = packages() | {"settings": settings_version(config), "key": keyed_hash(key, "state")}
    for task, model in found:
        versions |= task_versions(task, model)
    return versions


def record_of(
    spark: SparkSession, night: Night, basis: Basis, inputs: Inputs, versions: Mapping[str, str]
) -> StateRecord:
    """Return the record of a night that is about to be published."""
    store, before = night.store, basis.record
    named = Counter(night.named) + Counter({table: notes.changed for table, notes in inputs.noted.items()})
    return StateRecord(
        run_id=night.run_id,
        run_date=night.run_date.isoformat(),
        versions=versions,
        segments=[*(before.segments if before else ()), night.run_id],
        waves=files.listdir(spark, store.ledger(recommend.NAME)),
        history=state.published_before(spark, store, "sentiments", night.run_date),
        inputs={table: notes.to_json() for table, notes in inputs.noted.items()},
        changed=dict(named + Counter(before.changed if before else {})),
    )


def forget_old_states(spark: SparkSession, store: Store, run_date: date, keep: int) -> None:
    """Delete the states of all dates but `run_date` and others, the newest, `keep` in all; also unnamed segments."""
    others = [day for day in state.published_states(spark, store) if day != run_date or not keep]
    for day in others[: len(others) - max(0, keep - 1)] if len(others) >= keep else ():
        files.delete(spark, store.state(day))
    state.delete_unused_segments(spark, store)


def _unsupported(config: Config, run_date: date) -> str | None:
    """Why nights of this configuration always start from nothing."""
    if "purchases" not in config.inputs or "items" not in config.inputs or config.inputs["purchases"].maps_title:
        return "the catalogue comes from purchases"
    if NightRules.of(config, run_date).rules or config.rules:
        return "rules are configured"
    if config.privacy.name_columns:
        return "privacy.name_columns is configured"
    if groups.withholds(config.loyalty, run_date):
        return "the lists of a control group are withheld"
    for table in known_rows.TABLES:
        source = config.inputs.get(table)
        if source is None:
            continue
        if source.kind != "path":
            return f"inputs.{table} does not name files"
        if any(map(has_run_date, [*source.paths, source.where or ""])):
            return f"inputs.{table} names {{run_date}}"
        if any(map(_VARYING.search, [source.where or "", *(source.columns or {}).values()])):
            return f"inputs.{table} calls a function whose result changes, such as current_date"
    return None


def _why_not(
    spark: SparkSession, store: Store, config: Config, record: StateRecord, versions: Mapping[str, str]
) -> str | None:
    """Why the record of the date before cannot be used; None if it can."""
    day = record.day
    run = published_runs(spark, store, [day]).get(day)
    if run is None or run.run_id != record.run_id:
        return f"{day} was published without its state"
    other = sorted(name for name in {*versions, *record.versions} if versions.get(name) != record.versions.get(name))
    if other:
        return f"{day} was run with another version of {', '.join(other)}"
    if len(record.segments) >= config.incremental.full_every:
        return f"{len(record.segments)} dates went by (incremental.full_every)"
    if state.published_before(spark, store, "sentiments", day) != record.history:
        return f"a date before {day} was published again"
    tables = ("prompts", "recommendations")
    if not all(files.exists(spark, store.date_folder(table, day)) for table in tables):
        return f"{day} has no prompts or lists any more"
    if not all(files.exists(spark, store.segment(name)) for name in record.segments):
        return f"the state of {day} is not complete"
    return None


def tell_basis(console: Console, basis: Basis) -> None:
    """Print from what the night starts, where nights by change are on."""
    if basis.record is not None:
        tell(console, f"Only what changed since {basis.record.day} is computed.", "basis")
    elif basis.reason:
        tell(console, f"This night starts from nothing: {basis.reason}.", "basis")


def without_record(basis: Basis, reason: str) -> Basis:
    """The basis of the same night, which starts from nothing after all."""
    return replace(basis, record=None, reason=reason)
