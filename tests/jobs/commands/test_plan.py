"""What a plan knows of the speed of earlier nights."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from jobs.commands.plan import _replaced_runs, measured_rates
from jobs.store.dates import published_runs
from jobs.store.store import Store
from tests.jobs.spark.test_files import NO_SPARK
from tests.published import put

DAY = date(2026, 3, 1)


def test_a_repeat_without_requests_does_not_hide_the_measured_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    put(store, DAY, rows={"recommend.scored": 500}, seconds={"recommend.model": 50.0})
    trash = Path(store.trash("again"), "tables/runs", f"run_date={DAY}")
    trash.parent.mkdir(parents=True)
    Path(store.date_folder("runs", DAY)).rename(trash)
    put(store, DAY, "again", minutes=3, rows={"recommend.scored": 0}, seconds={})
    published = list(published_runs(NO_SPARK, store, [DAY]).values())
    assert measured_rates(published).minutes({"recommend": 600}) is None
    # One minute for 600 requests at ten a second, and the three minutes of the newest night without the model.
    rates = measured_rates([*published, *_replaced_runs(NO_SPARK, store)])
    assert rates.minutes({"recommend": 600}) == 4.0
