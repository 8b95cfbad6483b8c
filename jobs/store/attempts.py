"""A date's run that has not published: running, waiting for its turn in a backfill, failed, or killed.

One small record a date, `<store>/attempts/YYYY-MM-DD.json`, gone once the date is published. A run that is killed
leaves its record as running; whoever reads it sees that nobody holds the store for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import UserError
from jobs.store.store import Store

RUNNING, WAITING, FAILED, INTERRUPTED = "running", "waiting", "failed", "interrupted"


@dataclass(frozen=True)
class Attempt:
    """The record; `reason` is a message of ours or the kind of a defect, so it holds no personal data."""

    run_id: str
    run_date: str
    status: str
    started_at: str
    ended_at: str | None = None
    reason: str = ""


@contextmanager
def record_attempt(spark: SparkSession, store: Store, run_id: str, run_date: date) -> Iterator[None]:
    """Leave a record of the block while it runs and where it fails; under the store's lock."""
    record = Attempt(run_id, run_date.isoformat(), RUNNING, _now())
    _write(spark, store, run_date, record)
    try:
        yield
    except UserError as error:
        _write(spark, store, run_date, replace(record, status=FAILED, ended_at=_now(), reason=str(error)))
        raise
    except Exception as error:
        kind = f"{type(error).__name__}, a defect: see the log of the run"
        _write(spark, store, run_date, replace(record, status=FAILED, ended_at=_now(), reason=kind))
        raise
    except KeyboardInterrupt:
        _write(spark, store, run_date, replace(record, status=INTERRUPTED, ended_at=_now(), reason="interrupted"))
        raise
    files.delete(spark, store.attempt(run_date))


def record_waiting(spark: SparkSession, store: Store, run_id: str, run_date: date) -> None:
    """Note that a backfill is going to run this date, so that one that is stopped can go on where it was."""
    reason = f"waited for its turn in the backfill {run_id}, which ended before"
    _write(spark, store, run_date, Attempt(run_id, run_date.isoformat(), WAITING, _now(), reason=reason))


def read_attempts(spark: SparkSession, store: Store) -> dict[date, Attempt]:
    """Every date's record, oldest date first; what is not one is passed over."""
    found = {}
    for name in files.listdir(spark, store.attempts):
        try:
            record = Attempt(**json.loads(files.read_text(spark, f"{store.attempts}/{name}")))
            found[date.fromisoformat(record.run_date)] = record
        except (ValueError, TypeError, FileNotFoundError):
            continue  # half a scratch file of a crash, or published in this moment
    return found


def _write(spark: SparkSession, store: Store, run_date: date, record: Attempt) -> None:
    files.write_text(spark, store.attempt(run_date), json.dumps(asdict(record), indent=1))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
