"""Takes customers out of every file of a store: ledger, trash, attempts, reports, all tables date by date.

The order makes a killed run repeatable. The ledger has no ids: the tables tell which of its answers only these
customers used, so the ledger goes first and the tables go last. Each date of all tables is one intent, so readers see
it with or without the customers. A second run finds what the first one left.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.spark import files, parquet
from jobs.spark.fault_points import point
from jobs.store import filtered_parquet
from jobs.store.byte_scan import Needles, count_in_table
from jobs.store.date_swap import FolderSwap, Intent, commit, prepare_swap
from jobs.store.filtered_parquet import Unwanted
from jobs.store.state import forget_states
from jobs.store.store import Store, is_name, published_dates

#: Columns that tell the customer, in tables whose dates of earlier releases lack them.
_NEWER_COLUMNS = {"quarantine": "user_hash", "answers": "user_id"}
_REMOVED_REASON = "the reason named a customer who was erased"


@dataclass
class Erasure:
    """What was taken out, or would be: rows by table, ledger and room, and the changed files."""

    rows: Counter[str] = field(default_factory=Counter)
    #: SHA-256 of each written file by its path in the store.
    written: dict[str, str] = field(default_factory=dict)
    #: The first date whose tables have one of the customers.
    first_date: date | None = None
    #: Values of `user_id` that were found.
    user_ids: set[str | None] = field(default_factory=set)
    #: Answers of the ledger that stay, because other customers have the same prompt.
    shared_answers: int = 0


def erase_customers(
    spark: SparkSession, store: Store, run_id: str, unwanted: Unwanted, needles: Needles, *, dry_run: bool
) -> Erasure:
    """Take the rows with `unwanted` values out of the store, or with `dry_run` only count them.

    `needles` finds the customers in the reasons of failed nights. Call this under the store's lock, after `recover`.
    """
    done = Erasure()
    hashes = _own_prompts(spark, store, unwanted, done)
    for task in filter(is_name, files.listdir(spark, f"{store.root}/ledger")):
        _ledger(spark, store, f"{run_id}-{task}", task, hashes, needles, done, dry_run=dry_run)
    _trash(spark, store, run_id, unwanted, hashes, done, dry_run=dry_run)
    _state(spark, store, unwanted, done, dry_run=dry_run)
    _attempts(spark, store, needles, done, dry_run=dry_run)
    _reports(spark, store, done, dry_run=dry_run)
    tables = [name for name in files.listdir(spark, store.tables) if is_name(name)]
    for day in sorted({day for table in tables for day in published_dates(spark, store, table)}):
        _date(spark, store, f"{run_id}-{day}", day, tables, unwanted, done, dry_run=dry_run)
    return done


def unattributed_rows(spark: SparkSession, store: Store) -> dict[str, int]:
    """Return by table the rows of dates of an earlier release whose files do not say whose a row is."""
    found: Counter[str] = Counter()
    for path in _tables_everywhere(spark, store):
        column = _NEWER_COLUMNS.get(path.split("/")[-3])
        if column is not None:
            with files.local_copy(spark, path) as here, pq.ParquetFile(here) as source:
                if column not in source.schema_arrow.names and source.metadata.num_rows:
                    found[path.split("/")[-3]] += source.metadata.num_rows
    return dict(found)


def _own_prompts(spark: SparkSession, store: Store, unwanted: Unwanted, done: Erasure) -> pa.Array:
    """Return the hashes of the prompts that only the customers have, in any date and in the trash."""
    paths = _tables_everywhere(spark, store)
    own: set[str | None] = set()
    for path in paths:
        for rows, mask in filtered_parquet.unwanted_rows(spark, path, unwanted, ("prompt_hash",)):
            theirs = rows.filter(mask)
            own.update(_distinct(theirs, "prompt_hash"))
            done.user_ids.update(_distinct(theirs, "user_id"))
    own.discard(None)  # a refused question has no hash
    shared: set[str | None] = set()
    candidates = pa.array(own, pa.string())
    for path in paths if own else ():
        for rows, mask in filtered_parquet.unwanted_rows(spark, path, unwanted, ("prompt_hash",)):
            if "prompt_hash" in rows.column_names:
                others = rows.filter(pc.invert(mask))
                shared.update(_distinct(others.filter(pc.is_in(others["prompt_hash"], candidates)), "prompt_hash"))
    done.shared_answers = len(shared)
    return pa.array(own - shared, pa.string())


def _distinct(rows: pa.Table, column: str) -> list[str | None]:
    return pc.unique(rows[column]).to_pylist() if column in rows.column_names else []


def _tables_everywhere(spark: SparkSession, store: Store) -> list[str]:
    """Return the Parquet files of all tables and of their replaced versions in the trash."""
    roots = (store.tables, f"{store.root}/trash")
    return [path for root in roots for path in files.walk(spark, root) if "/run_date=" in path and _is_parquet(path)]


def _ledger(
    spark: SparkSession,
    store: Store,
    run_id: str,
    task: str,
    hashes: pa.Array,
    needles: Needles,
    done: Erasure,
    *,
    dry_run: bool,
) -> None:
    """Take answers out of all waves of a task, in one intent.

    They are the answers to prompts of these customers alone, and those whose text names one. The latter may be of a
    night that published nothing, so no table has their prompts.
    """
    waves = [f"{store.ledger(task)}/{wave}" for wave in files.listdir(spark, store.ledger(task))]
    parts = [path for wave in waves for path in files.walk(spark, wave) if _is_parquet(path)]
    keys = pa.array([key for part in parts for key in _naming_keys(spark, part, needles)], pa.string())
    going = {"prompt_hash": hashes, "key": keys}
    swaps = list(_swaps(spark, store, run_id, waves, going, done, f"ledger/{task}", dry_run=dry_run))
    _commit(spark, store, run_id, swaps)


def _naming_keys(spark: SparkSession, path: str, needles: Needles) -> Iterator[str]:
    """Yield the keys of a wave's rows whose texts have an id or a phrase."""
    with files.local_copy(spark, path) as here, pq.ParquetFile(here) as source:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            if count_in_table(rows, needles):
                numbers = (n for n in range(len(rows)) if count_in_table(rows.slice(n, 1), needles))
                yield from (rows["key"][n].as_py() for n in numbers)


def _date(
    spark: SparkSession,
    store: Store,
    run_id: str,
    day: date,
    tables: Sequence[str],
    unwanted: Unwanted,
    done: Erasure,
    *,
    dry_run: bool,
) -> None:
    """Take the customers out of one date of all tables, in one intent."""
    swaps: list[FolderSwap] = []
    before = done.rows.total()
    for table in tables:
        folders = [store.date_folder(table, day)]
        swaps += _swaps(spark, store, run_id, folders, unwanted, done, f"tables/{table}", dry_run=dry_run)
    if done.rows.total() > before and done.first_date is None:
        done.first_date = day
    _commit(spark, store, run_id, swaps)


def _swaps(
    spark: SparkSession,
    store: Store,
    run_id: str,
    folders: Sequence[str],
    unwanted: Unwanted,
    done: Erasure,
    what: str,
    *,
    dry_run: bool,
) -> Iterator[FolderSwap]:
    """Stage each folder that has unwanted rows without them, and yield its swap; with `dry_run` only count them."""
    for folder in folders:
        names = [name for name in files.listdir(spark, folder) if name.endswith(".parquet")]
        count = sum(filtered_parquet.count_rows(spark, f"{folder}/{name}", unwanted) for name in names)
        done.rows[what] += count
        if dry_run or not count:
            continue
        relative = folder.removeprefix(f"{store.root}/")
        staged = f"{store.staging(run_id)}/{relative}"
        for number, name in enumerate(names):
            target = _new_name(relative, name, number, run_id) if len(names) > 1 else name
            filtered_parquet.write_without(spark, f"{folder}/{name}", f"{staged}/{target}", unwanted)
        point("rows-removed")
        swap = prepare_swap(spark, store, staged, folder)
        done.written |= {f"{relative}/{name}": digest for name, digest in swap.contents.items()}
        yield swap


def _new_name(folder: str, name: str, number: int, run_id: str) -> str:
    """Return the new name of one of several files.

    A reader of a date who listed the old files gets an error, never files of two versions. Nobody reads the ledger
    meanwhile, and its names say which keys a file has.
    """
    return parquet.part_name(number, run_id) if folder.startswith("tables/") else name


def _commit(spark: SparkSession, store: Store, run_id: str, swaps: Sequence[FolderSwap]) -> None:
    """Put the staged folders in place and delete the old ones, which `rollback` must never restore."""
    if swaps:
        commit(spark, store, Intent(run_id, swaps))  # without a number, `recover` deletes its trash too
        files.delete(spark, store.trash(run_id))


def _trash(
    spark: SparkSession,
    store: Store,
    run_id: str,
    unwanted: Unwanted,
    hashes: pa.Array,
    done: Erasure,
    *,
    dry_run: bool,
) -> None:
    """Replace each file of the trash by one without the customers. Nobody reads the trash meanwhile."""
    room = f"{store.root}/trash"
    for path in filter(_is_parquet, files.walk(spark, room)):
        is_wave = "/ledger/" in path.removeprefix(room)
        going = {"prompt_hash": hashes} if is_wave else unwanted
        count = filtered_parquet.count_rows(spark, path, going)
        done.rows["trash"] += count
        if dry_run or not count:
            continue
        staged = f"{store.staging(run_id)}/part.parquet"
        filtered_parquet.write_without(spark, path, staged, going)
        done.written[path.removeprefix(f"{store.root}/")] = files.sha256(spark, staged)
        files.replace(spark, staged, path)
        point("rows-removed")
    if not dry_run:
        files.delete(spark, store.staging(run_id))


def _state(spark: SparkSession, store: Store, unwanted: Unwanted, done: Erasure, *, dry_run: bool) -> None:
    """Delete what nights kept for the next one, which then starts from nothing."""
    parts = [path for path in files.walk(spark, f"{store.root}/state") if _is_parquet(path)]
    done.rows["state"] = sum(filtered_parquet.count_rows(spark, path, unwanted) for path in parts)
    if not dry_run:
        forget_states(spark, store)


def _attempts(spark: SparkSession, store: Store, needles: Needles, done: Erasure, *, dry_run: bool) -> None:
    """Replace the reasons of failed nights that name a customer; earlier releases quoted rows there."""
    for name in files.listdir(spark, store.attempts):
        path = f"{store.attempts}/{name}"
        try:
            text = files.read_text(spark, path)
            record = json.loads(text)
        except (OSError, ValueError):
            continue
        if not needles.count_in_text(text.encode()) or not isinstance(record, dict):
            continue
        done.rows["attempts"] += 1
        if not dry_run:
            files.write_text(spark, path, json.dumps(record | {"reason": _REMOVED_REASON}, indent=1))


def _reports(spark: SparkSession, store: Store, done: Erasure, *, dry_run: bool) -> None:
    """Delete all reports: they show lists and redacted texts without ids, so nothing tells whose they are."""
    folder = f"{store.root}/reports"
    done.rows["reports"] += len(files.listdir(spark, folder))
    if not dry_run:
        files.delete(spark, folder)


def _is_parquet(path: str) -> bool:
    return path.endswith(".parquet")
