"""`regulars gc`: frees what no run, rollback or repeated date needs, and merges the ledger's waves.

For the data engineer, at times when no night runs. The sections `gc` and `publish` of the configuration say what it
keeps. `--dry-run` measures and changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from rich.console import Console
from rich.table import Table

import schemas
from jobs.commands.options import shop_today
from jobs.config.config import Config
from jobs.scoring import compaction, ledger
from jobs.spark import files
from jobs.store import state, store_format
from jobs.store.attempts import read_attempts
from jobs.store.date_swap import Intent, commit
from jobs.store.dates import published_runs
from jobs.store.delta_tables import DeltaTables, update_delta_tables, vacuum_delta_tables
from jobs.store.lock import holder, lock
from jobs.store.publish import leftover_folders, recover
from jobs.store.scratch import dead_scratch, delete_dead_scratch, reading_ledger, rewriting_ledger
from jobs.store.store import Store, date_of, is_name, published_dates
from jobs.tasks.all_tasks import task_named
from jobs.tasks.versions import settings_version

_OUTPUTS = tuple(schemas.OUTPUTS)


@dataclass(frozen=True)
class Freed:
    """One kind of thing that goes, and its bytes (None: unknown; estimated for the ledger in a dry run)."""

    what: str
    count: str
    size: int | None


def collect_garbage(spark: SparkSession, config: Config, console: Console, *, dry_run: bool) -> list[Freed]:
    """Free, or with `dry_run` only measure, and print one line for each kind.

    Raises StoreBusy while a run writes or `plan` reads the ledger; with `dry_run` while gc rewrites the ledger.
    """
    store, run_id = Store(config.store), f"gc-{uuid.uuid4().hex[:8]}"
    with ExitStack() as held:
        if dry_run:
            held.enter_context(reading_ledger(spark, store, "gc-dry-run"))
        else:
            held.enter_context(lock(spark, store, run_id))
            held.enter_context(rewriting_ledger(spark, store, "gc"))
        for line in [] if dry_run else store_format.check_format(spark, store):
            console.print(line, highlight=False, markup=False)
        freed = [_scratch(spark, store, dry_run=dry_run)]
        freed.append(_left_behind(spark, store, config, dry_run=dry_run))
        freed.append(_old_dates(spark, store, config, run_id, dry_run=dry_run))
        freed.append(_states(spark, store, config, dry_run=dry_run))
        keep_from = _keep_from(spark, store, config)
        old_attempts = _old_attempts(spark, store, keep_from)
        freed.append(_reports(spark, store, config, old_attempts, dry_run=dry_run))
        freed.append(_records(spark, store, "attempts", old_attempts, dry_run=dry_run))
        freed.append(_records(spark, store, "settings", _unused_settings(spark, store, config), dry_run=dry_run))
        for task in filter(is_name, files.listdir(spark, f"{store.root}/ledger")):
            freed.append(_ledger(spark, store, config, task, run_id, keep_from, dry_run=dry_run))
        if delta := DeltaTables.of(config.publish):
            if not dry_run:
                update_delta_tables(spark, store, delta)  # dates that retention took away
            count = vacuum_delta_tables(delta, store, dry_run=dry_run)
            freed.append(Freed("Delta files of replaced dates, a week old", f"{count:,} files", None))
    console.print(_table(freed, dry_run=dry_run))
    if keep_from is not None:
        console.print(f"Dates from {keep_from} on can be repeated without the model.", highlight=False)
    return freed


def _left_behind(spark: SparkSession, store: Store, config: Config, *, dry_run: bool) -> Freed:
    owner = holder(spark, store) if dry_run else None
    folders = [
        folder
        for folder in leftover_folders(spark, store, config.publish.keep_publishes)
        if owner is None or not folder.endswith(f"/{owner.run_id}")
    ]
    sizes = [files.disk_usage(spark, folder) for folder in folders]
    if not dry_run:
        recover(spark, store, config.publish.keep_publishes)
    return Freed(
        "staging, work and trash of ended runs", f"{sum(n for n, _ in sizes):,} files", sum(size for _, size in sizes)
    )


def _scratch(spark: SparkSession, store: Store, *, dry_run: bool) -> Freed:
    """Free what plan, train and evaluate left when they were killed."""
    dead = dead_scratch(spark, store)
    sizes = [files.disk_usage(spark, path) for path in dead]
    if not dry_run:
        delete_dead_scratch(spark, store)
    return Freed("scratch", f"{sum(n for n, _ in sizes):,} files", sum(size for _, size in sizes))


def _old_dates(spark: SparkSession, store: Store, config: Config, run_id: str, *, dry_run: bool) -> Freed:
    """Free the dates of customers' rows that are older than `retention`, and their earlier versions in the trash."""
    today, going = shop_today(config.timezone), list[str]()
    roots = [store.tables, *(f"{store.trash(name)}/tables" for name in _trash_names(spark, store))]
    for table in _OUTPUTS:
        days = config.retention.days_of(table)
        if days is None or "user_id" not in schemas.contract(table).column_names:
            continue
        folders = [f"{root}/{table}/{name}" for root in roots for name in files.listdir(spark, f"{root}/{table}")]
        first = today - timedelta(days=days)
        going += [one for one in folders if (day := date_of(one.rpartition("/")[2])) is not None and day < first]
    sizes = [files.disk_usage(spark, folder) for folder in going]
    if going and not dry_run:
        published = [one.removeprefix(f"{store.root}/") for one in going if one.startswith(f"{store.tables}/")]
        commit(spark, store, Intent(f"{run_id}-retention", [], published))
        for folder in [*going, store.trash(f"{run_id}-retention")]:
            files.delete(spark, folder)
    return Freed("dates older than retention", f"{sum(n for n, _ in sizes):,} files", sum(size for _, size in sizes))


def _states(spark: SparkSession, store: Store, config: Config, *, dry_run: bool) -> Freed:
    """Free what nights kept for the next one: of dates older than `retention`, and of no date."""
    days = config.retention.days_of("prompts")
    first = None if days is None else shop_today(config.timezone) - timedelta(days=days)
    old = [store.state(day) for day in state.published_states(spark, store) if first is not None and day < first]
    going = [*old, *state.unused_segments(spark, store, without=old)]
    sizes = [files.disk_usage(spark, folder) for folder in going]
    if not dry_run:
        for folder in going:
            files.delete(spark, folder)
    return Freed("state that no night needs", f"{sum(n for n, _ in sizes):,} files", sum(size for _, size in sizes))


def _trash_names(spark: SparkSession, store: Store) -> list[str]:
    return [name for name in files.listdir(spark, f"{store.root}/trash") if is_name(name)]


def _records(spark: SparkSession, store: Store, room: str, names: Sequence[str], *, dry_run: bool) -> Freed:
    paths = [path for name in names if files.is_file(spark, path := f"{store.root}/{room}/{name}")]
    size = sum(files.file_size(spark, path) for path in paths)
    if not dry_run:
        for path in paths:
            files.delete(spark, path)
    return Freed(f"{room} that no date needs", f"{len(paths):,} files", size)


def _reports(spark: SparkSession, store: Store, config: Config, old_attempts: Sequence[str], *, dry_run: bool) -> Freed:
    """Free the reports of dates that nothing else has, and those older than the lists that they show."""
    room = f"{store.root}/reports"
    days = config.retention.days_of("recommendations")
    first = date.min if days is None else shop_today(config.timezone) - timedelta(days=days)
    going_trash = leftover_folders(spark, store, config.publish.keep_publishes)
    trash = [one for name in _trash_names(spark, store) if (one := store.trash(name)) not in going_trash]
    tables = [f"{root}/{table}" for root in (store.tables, *(f"{one}/tables" for one in trash)) for table in _OUTPUTS]
    known = {day for table in tables for name in files.listdir(spark, table) if (day := date_of(name))}
    known |= {day for day in read_attempts(spark, store) if f"{day}.json" not in old_attempts}
    going = [
        f"{room}/{name}"
        for name in files.listdir(spark, room)
        if (day := date_of(name)) is not None and (day < first or day not in known)
    ]
    sizes = [files.disk_usage(spark, folder) for folder in going]
    if not dry_run:
        for folder in going:
            files.delete(spark, folder)
    return Freed("reports of removed dates", f"{len(going):,} reports", sum(size for _, size in sizes))


def _old_attempts(spark: SparkSession, store: Store, keep_from: date | None) -> list[str]:
    """Records of dates too old to be repeated, of runs that published after all, and broken records."""
    # A backfill writes records without the lock: one that comes after this listing stays.
    names = files.listdir(spark, store.attempts)
    tried = read_attempts(spark, store)
    runs = published_runs(spark, store, tried)
    live = {
        store.attempt(day).rpartition("/")[2]
        for day, one in tried.items()
        if (keep_from is None or day >= keep_from) and not (day in runs and runs[day].run_id == one.run_id)
    }
    return [name for name in names if name not in live]


def _unused_settings(spark: SparkSession, store: Store, config: Config) -> list[str]:
    """Settings of no published date, of none that a rollback would bring back, and not today's."""
    folder = f"{store.root}/settings"
    names = files.listdir(spark, folder)
    trash = [store.trash(name) for name in _trash_names(spark, store)]
    going = leftover_folders(spark, store, config.publish.keep_publishes)
    tables = [f"{store.tables}/runs", *(f"{one}/tables/runs" for one in trash if one not in going)]
    dates = [f"{table}/{day}" for table in tables for day in files.listdir(spark, table)]
    if not names or not dates:
        return []
    runs = spark.read.schema("versions map<string,string>").parquet(*(files.for_reading(day) for day in dates))
    used = {row["settings"] for row in runs.select("versions.settings").distinct().collect()}
    kept = {store.settings(version).rpartition("/")[2] for version in (used - {None}) | {settings_version(config)}}
    return [name for name in names if name not in kept]


def _keep_from(spark: SparkSession, store: Store, config: Config) -> date | None:
    """Count back from the newest published date that is not in the future, so an unused store loses nothing more."""
    today = shop_today(config.timezone)
    dates = [day for day in published_dates(spark, store, "runs") if day <= today]
    return dates[-1] - timedelta(days=config.gc.ledger_days) if dates else None


def _ledger(
    spark: SparkSession, store: Store, config: Config, task: str, run_id: str, keep_from: date | None, *, dry_run: bool
) -> Freed:
    result_type = compaction.result_type_of(spark, store, task)
    if result_type is None:
        return Freed(f"ledger of {task}", "0 rows", 0)
    in_use = None
    if keep_from is not None:
        # A repeated date asks again about the rows of its look-back days.
        known = task_named(task)
        keep_from -= timedelta(days=known.lookback_days(config) if known else 0)
        if known and known.REQUESTS in schemas.OUTPUTS:
            in_use = _prompts_since(spark, store, known.REQUESTS, keep_from)
    _, size = files.disk_usage(spark, store.ledger(task))
    waves = len(files.listdir(spark, store.ledger(task)))
    if dry_run:
        before = compaction.rows_of(spark, store, task)
        rows = ledger.read(spark, store, task, result_type)
        after = before - compaction.unused_rows(rows, keep_from, in_use).count()
        left = round(size * after / before) if before else size
    else:
        before, after = compaction.compact(spark, store, task, result_type, f"{run_id}-{task}", keep_from, in_use)
        # Nobody lists the old waves: other commands that read the ledger end with StoreBusy now.
        files.delete(spark, store.trash(f"{run_id}-{task}"))
        _, left = files.disk_usage(spark, store.ledger(task))
    return Freed(f"ledger of {task}", f"{before - after:,} of {before:,} rows in {waves} waves", size - left)


def _prompts_since(spark: SparkSession, store: Store, table: str, keep_from: date) -> DataFrame | None:
    """The published requests of every date that stays repeatable; None if `retention` has taken all of them."""
    dates = [day for day in published_dates(spark, store, table) if day >= keep_from]
    folders = [files.for_reading(store.date_folder(table, day)) for day in dates]
    return spark.read.parquet(*folders).select("prompt_hash") if folders else None


def _table(freed: list[Freed], *, dry_run: bool) -> Table:
    table = Table("would go" if dry_run else "freed", "how much", "MB")
    for one in freed:
        table.add_row(one.what, one.count, "" if one.size is None else f"{one.size / 1e6:,.1f}")
    return table
