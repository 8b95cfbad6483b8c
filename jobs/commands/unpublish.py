"""`regulars unpublish`: takes a date out of every table, for example one that was published by mistake.

Its folders move to the trash, so `regulars rollback` brings the date back while `publish.keep_publishes` keeps them. A
date that was only tried by mistake is forgotten.
"""

from __future__ import annotations

import uuid
from datetime import date

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.spark import files
from jobs.spark.errors import UsageError
from jobs.store import store_format
from jobs.store.date_swap import Intent, commit, next_publish
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.store import Store, published_dates


def unpublish(spark: SparkSession, config: Config, run_date: date, console: Console) -> list[str]:
    """Move the folders of `run_date` in all tables to the trash; return the names of the tables.

    The record of a run that failed for the date goes too: `status` then no longer counts the date as due. Raises
    UsageError where neither exists.
    """
    store, run_id = Store(config.store), f"unpublish-{run_date}-{uuid.uuid4().hex[:8]}"
    with lock(spark, store, run_id):
        for line in [*store_format.check_format(spark, store), *recover(spark, store, config.publish.keep_publishes)]:
            console.print(line, highlight=False, markup=False)
        # `runs` goes first: a date that it names has all its tables.
        names = sorted(files.listdir(spark, store.tables), key=lambda name: (name != "runs", name))
        tables = [name for name in names if run_date in published_dates(spark, store, name)]
        attempt = store.attempt(run_date)
        was_tried = files.exists(spark, attempt)
        if not tables and not was_tried:
            raise UsageError(
                f"{run_date} is not published in {store.root}. To list the dates that are: {config.command('status')}"
            )
        if was_tried:
            files.delete(spark, attempt)
        if not tables:
            return []
        paths = [*(store.date_folder(table, run_date) for table in tables), store.state(run_date)]
        folders = [path.removeprefix(f"{store.root}/") for path in paths if files.exists(spark, path)]
        commit(spark, store, Intent(run_id, [], folders, next_publish(spark, store)))
        if delta := DeltaTables.of(config.publish):
            update_delta_tables(spark, store, delta)
    return sorted(tables)
