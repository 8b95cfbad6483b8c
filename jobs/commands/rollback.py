"""`regulars rollback`: restores the version of a date that its last publish replaced.

Readers see the old or the new version, as in a publish. The replaced version is kept, so a second rollback undoes the
first. Customers who opted out since are left out of the restored version: it is filtered by the list of opt-outs that
the newest published date reads.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date

import pyarrow as pa
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs import optouts
from jobs.inputs.reader import read_inputs
from jobs.spark import files
from jobs.spark.errors import UsageError
from jobs.spark.privacy_key import keyed_hash
from jobs.store import filtered_parquet, store_format
from jobs.store.date_swap import FolderSwap, Intent, closed_intents, commit, next_publish, prepare_swap, trash_folder
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.filtered_parquet import Unwanted
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.store import Store, published_dates


def rollback(spark: SparkSession, config: Config, run_date: date, console: Console) -> list[str]:
    """Restore the version of `run_date` that its newest publish replaced; return the changed tables.

    Raises UsageError where that publish replaced nothing or the old version is no longer kept.
    """
    store, run_id = Store(config.store), f"rollback-{run_date}-{uuid.uuid4().hex[:8]}"
    with lock(spark, store, run_id):
        for line in [*store_format.check_format(spark, store), *recover(spark, store, config.publish.keep_publishes)]:
            console.print(line, highlight=False, markup=False)
        undone = _newest_publish(spark, store, run_date)
        old = _old_versions(spark, store, run_date, undone) if undone else {}
        opted_out = _opted_out(spark, config, store, run_date, run_id) if old else {}
        swaps = [_restoring(spark, store, run_id, target, folder, opted_out) for target, folder in old.items()]
        if undone is None or not swaps:
            tables = files.listdir(spark, store.tables)
            if not any(run_date in published_dates(spark, store, table) for table in tables):
                raise UsageError(
                    f"{run_date} is not published in {store.root}, and no earlier version of {run_date} is kept. To "
                    f"list the published dates: {config.command('status')}"
                )
            raise UsageError(
                f"no earlier version of {run_date} is kept: it was published only once, or its last publish was "
                f"more than publish.keep_publishes ({config.publish.keep_publishes}) publishes ago. To write the date "
                f"again: {config.command('nightly', f'--run-date {run_date}')}"
            )
        back = {swap.target for swap in swaps}
        added = [swap.target for swap in undone.swaps if _is_of(run_date, swap.target) and swap.target not in back]
        commit(spark, store, Intent(run_id, swaps, added, next_publish(spark, store)))
        if delta := DeltaTables.of(config.publish):
            update_delta_tables(spark, store, delta)
    return sorted(path.split("/")[1] for path in [*back, *added] if path.startswith("tables/"))


def _newest_publish(spark: SparkSession, store: Store, run_date: date) -> Intent | None:
    of_date = [i for i in closed_intents(spark, store) if any(_is_of(run_date, path) for path in _targets(i))]
    return of_date[-1] if of_date else None


def _old_versions(spark: SparkSession, store: Store, run_date: date, undone: Intent) -> dict[str, str]:
    """Return the folder in the trash of each folder of the date that the publish replaced or retired."""
    of_date = {path: trash_folder(store, undone.run_id, path) for path in _targets(undone) if _is_of(run_date, path)}
    return {path: folder for path, folder in of_date.items() if files.exists(spark, folder)}


def _opted_out(spark: SparkSession, config: Config, store: Store, run_date: date, run_id: str) -> Unwanted:
    """Return ids, pseudonyms and hashes of all customers who opted out, as the newest published date reads them."""
    if optouts.TABLE not in config.inputs:
        return {}
    newest = max([run_date, *published_dates(spark, store, "runs")])
    found = read_inputs(spark, config, newest, store.work(run_id), (optouts.TABLE,)).opted_out
    assert found is not None, "the table was asked for"
    ids, key = [row["user_id"] for row in found.collect()], privacy_key(spark, config)
    files.delete(spark, store.work(run_id))
    hashes = [keyed_hash(key, one) for one in ids]
    return {"user_id": pa.array([*ids, *hashes], pa.string()), "user_hash": pa.array(hashes, pa.string())}


def _restoring(
    spark: SparkSession, store: Store, run_id: str, target: str, folder: str, opted_out: Unwanted
) -> FolderSwap:
    """Return the swap that restores an old folder; a copy without the rows of `opted_out` where it has such rows."""
    names = files.listdir(spark, folder)
    if opted_out and any(filtered_parquet.count_rows(spark, f"{folder}/{name}", opted_out) for name in names):
        staged = f"{store.staging(run_id)}/{target.removeprefix('tables/')}"
        for name in names:
            filtered_parquet.write_without(spark, f"{folder}/{name}", f"{staged}/{name}", opted_out)
        folder = staged
    return prepare_swap(spark, store, folder, f"{store.root}/{target}")


def _targets(intent: Intent) -> Sequence[str]:
    return [*(swap.target for swap in intent.swaps), *intent.retires]


def _is_of(run_date: date, path: str) -> bool:
    return path.startswith("tables/") and path.endswith(f"/run_date={run_date.isoformat()}")
