"""The seconds that the stages of the newest night took: by them a stage says how long it will probably take."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pyarrow as pa
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.spark.progress import Stages, UsualSeconds
from jobs.store.dates import published_runs
from jobs.store.store import Store, published_dates

#: Newest dates among which a night of the wanted kind is looked for.
_DATES = 8


def usual_seconds(spark: SparkSession, store: Store, *, by_change: bool = False) -> UsualSeconds | None:
    """Return the seconds of the newest published night that read everything, or of the newest one `by_change`.

    None where the newest dates have no such night, or where the table `runs` cannot be read: a command goes on without
    an estimate. Starts no Spark job.
    """
    try:
        runs = published_runs(spark, store, published_dates(spark, store, "runs")[-_DATES:])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):  # the last three: columns of another table
        return None
    of_kind = [day for day, run in runs.items() if (run.rows.get("customers_copied", 0) > 0) == by_change]
    return UsualSeconds(of_kind[-1], runs[of_kind[-1]].seconds) if of_kind else None


def reading_stage(spark: SparkSession, store: Store, console: Console, name: str) -> AbstractContextManager[None]:
    """Return a stage `name` that reads some inputs, with the seconds that the newest night needed for all."""
    return Stages(console, usual=usual_seconds(spark, store)).stage(name, like="inputs", is_part=True)
