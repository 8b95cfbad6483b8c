"""The estimate of a stage comes from the newest night of the same kind, and never stops a command."""

from __future__ import annotations

import io
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.spark.progress import UsualSeconds
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage, usual_seconds
from tests.jobs.spark.test_files import NO_SPARK
from tests.published import put

DAY = date(2026, 3, 1)


def test_the_newest_night_of_the_same_kind_counts(store: Store) -> None:
    put(store, DAY, seconds={"inputs": 40.0}, rows={"customers_copied": 0})
    put(store, DAY + timedelta(days=1), seconds={"inputs": 4.0}, rows={"customers_copied": 7})
    put(store, DAY + timedelta(days=2), seconds={"inputs": 3.0}, rows={"customers_copied": 9})
    assert usual_seconds(NO_SPARK, store) == UsualSeconds(DAY, {"inputs": 40.0})
    assert usual_seconds(NO_SPARK, store, by_change=True) == UsualSeconds(DAY + timedelta(days=2), {"inputs": 3.0})


def test_a_new_store_has_no_estimate(store: Store) -> None:
    assert usual_seconds(NO_SPARK, store) is None
    put(store, DAY)
    assert usual_seconds(NO_SPARK, store, by_change=True) is None


@pytest.mark.parametrize("content", [b"", b"PAR1 no table", None])
def test_a_table_of_runs_that_cannot_be_read_gives_no_estimate(store: Store, content: bytes | None) -> None:
    put(store, DAY, seconds={"inputs": 40.0})
    file = Path(store.date_folder("runs", DAY), "part-00000.parquet")
    if content is None:
        pq.write_table(pa.table({"seconds": [1.0]}), file)
    else:
        file.write_bytes(content)
    assert usual_seconds(NO_SPARK, store) is None


def test_other_errors_are_not_hidden(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, DAY)
    monkeypatch.setattr("jobs.store.dates.run_of", lambda row: row.missing)
    with pytest.raises(AttributeError):
        usual_seconds(NO_SPARK, store)


def test_a_command_that_reads_some_inputs_says_how_long_all_took(store: Store) -> None:
    put(store, DAY, seconds={"inputs": 13.2})
    log = io.StringIO()
    with reading_stage(NO_SPARK, store, Console(file=log, width=160), "reading reviews"):
        pass
    assert "reading reviews, all inputs took 13 s in the night of 2026-03-01 …" in log.getvalue()
