"""Records of runs that have not published their date: running, waiting in a backfill, failed or interrupted.

Each date has one file, `<store>/attempts/YYYY-MM-DD.json`, deleted when the date is published. A killed run leaves its
record as running; readers compare it with the holder of the store's lock.
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
    """One record. `reason` is our own message or an exception's type, so it holds no personal data."""

    run_id: str
    run_date: str
    status: str
    started_at: str
    ended_at: str | None = None
    reason: str = ""


@contextmanager
def record_attempt(spark: SparkSession, store: Store, run_id: str, run_date: date) -> Iterator[None]:
    """Record the block as running, and as failed or interrupted where it raises. Call this under the lock."""
    record = Attempt(run_id, run_date.isoformat(), RUNNING, _now())
    _write(spark, store, run_date, record)
    try:
        yield
    except UserError as error:
        _write(spark, store, run_date, replace(record, status=FAILED, ended_at=_now(), reason=str(error)))
        raise
    except Exception as error:
        kind = f"{type(error).__name__}, a defect: see the run's log"
        _write(spark, store, run_date, replace(record, status=FAILED, ended_at=_now(), reason=kind))
        raise
    except KeyboardInterrupt:
        _write(spark, store, run_date, replace(record, status=INTERRUPTED, ended_at=_now(), reason="interrupted"))
        raise
    files.delete(spark, store.attempt(run_date))


def record_waiting(spark: SparkSession, store: Store, run_id: str, run_date: date) -> None:
    """Record that a backfill is going to run this date, so a stopped backfill can resume."""
    reason = f"waited for its turn in the backfill {run_id}, which ended before"
    _write(spark, store, run_date, Attempt(run_id, run_date.isoformat(), WAITING, _now(), reason=reason))


def read_attempts(spark: SparkSession, store: Store) -> dict[date, Attempt]:
    """Return the record of each date; unreadable files are skipped."""
    found = {}
    for name in files.listdir(spark, store.attempts):
        try:
            record = Attempt(**json.loads(files.read_text(spark, f"{store.attempts}/{name}")))
            found[date.fromisoformat(record.run_date)] = record
        except (ValueError, TypeError, FileNotFoundError, IsADirectoryError):
            continue  # a temporary file of a crash, a foreign folder, or the date was published just now
    return found


def _write(spark: SparkSession, store: Store, run_date: date, record: Attempt) -> None:
    files.write_text(spark, store.attempt(run_date), json.dumps(asdict(record), indent=1))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
