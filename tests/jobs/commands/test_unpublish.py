"""A date that was published by mistake goes from every table, and comes back by a rollback."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from jobs.commands.gc import _keep_from
from jobs.commands.rollback import rollback
from jobs.commands.unpublish import unpublish
from jobs.config.config import Config
from jobs.spark import fault_points
from jobs.spark.errors import UsageError
from jobs.store.attempts import record_attempt
from jobs.store.dates import known_span
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.publish import recover
from jobs.store.store import Store, published_dates
from tests.jobs.commands.test_rollback import DAY, OTHER, QUIET, config, publish, versions
from tests.jobs.spark.test_files import NO_SPARK
from tests.jobs.store.test_date_swap import Killed
from tests.published import put

FUTURE = date(2062, 3, 1)


def test_a_date_goes_from_every_table_and_comes_back(store: Store) -> None:
    publish(store, "one", DAY, "ab")
    publish(store, "typo", FUTURE, "abc")
    assert unpublish(NO_SPARK, config(store), FUTURE, QUIET) == ["a", "b", "c"]
    assert versions(store, FUTURE) == {}
    assert published_dates(NO_SPARK, store, "a") == [DAY]
    assert versions(store) == {"a": "one", "b": "one"}
    assert rollback(NO_SPARK, config(store), FUTURE, QUIET) == ["a", "b", "c"]
    assert versions(store, FUTURE) == {"a": "typo", "b": "typo", "c": "typo"}


def test_a_date_that_is_not_published_is_an_error(store: Store) -> None:
    publish(store, "one", DAY, "ab")
    with pytest.raises(UsageError, match=r"2026-03-02 is not published in .* regulars status --config regulars.yaml"):
        unpublish(NO_SPARK, config(store), OTHER, QUIET)


def test_a_date_that_was_only_tried_is_forgotten(store: Store) -> None:
    publish(store, "one", DAY, "ab")
    with pytest.raises(UsageError, match="no such column"), record_attempt(NO_SPARK, store, "typo", FUTURE):
        raise UsageError("no such column")
    assert known_span(NO_SPARK, store) == (FUTURE, FUTURE)  # these tables have no `runs`
    assert unpublish(NO_SPARK, config(store), FUTURE, QUIET) == []
    assert known_span(NO_SPARK, store) is None
    assert versions(store) == {"a": "one", "b": "one"}


def test_a_killed_unpublish_is_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise Killed

    publish(store, "one", DAY, "ab")
    monkeypatch.setattr(fault_points, "_kill", die)
    monkeypatch.setattr(fault_points, "_passages", Counter())
    monkeypatch.setenv(fault_points.VARIABLE, "retired:1")
    with pytest.raises(Killed):
        unpublish(NO_SPARK, config(store), DAY, QUIET)
    monkeypatch.delenv(fault_points.VARIABLE)
    (told,) = recover(NO_SPARK, store, 5)
    assert "tables/a/run_date=2026-03-01, tables/b/run_date=2026-03-01" in told
    assert versions(store) == {}


def test_the_delta_tables_lose_the_date_too(store: Store, tmp_path: Path) -> None:
    put(store, DAY)
    put(store, FUTURE)
    delta = DeltaTables(str(tmp_path / "delta"), {})
    update_delta_tables(NO_SPARK, store, delta)
    raw = config(store).model_dump() | {"publish": {"format": "delta", "to": delta.root}}
    unpublish(NO_SPARK, Config.model_validate(raw), FUTURE, QUIET)
    for name in ("recommendations", "runs"):
        table = delta.table(name)
        assert table is not None
        assert {one["run_date"] for one in table.partitions()} == {str(DAY)}


def test_gc_counts_from_the_newest_date_that_is_not_in_the_future(store: Store) -> None:
    for day in (DAY, OTHER, FUTURE):
        put(store, day)
    limited = config(store).model_copy(update={"gc": config(store).gc.model_copy(update={"ledger_days": 1})})
    assert _keep_from(NO_SPARK, store, limited) == DAY
