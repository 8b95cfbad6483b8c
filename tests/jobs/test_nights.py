"""Nights of a growing shop whose catalogue changes: one by one, as a backfill, cut short, planned and refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from rich.console import Console

from jobs.backfill import BackfillOptions, due_dates, run_backfill
from jobs.commands.plan import PlannedDate, plan
from jobs.commands.status import show_status
from jobs.nightly import run_night
from jobs.report.write import read_facts
from jobs.scoring.ledger import Results
from jobs.spark.deadline import Deadline, DeadlinePassed
from jobs.spark.errors import GateRefused
from jobs.store.attempts import read_attempts
from jobs.store.store import Store
from jobs.tables.runs import Night
from jobs.tasks import recommend
from jobs.tasks.run_task import count_results
from tests.growing_shop import GrowingShop, use_stub

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow

PASSED = Deadline(datetime(2020, 1, 1, tzinfo=UTC), "05:30")
#: Other requests than any that the ledger knows.
NEW = ("recommend.spares=4",)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingShop]:
    """Two nights one by one, each seeing only what was there that evening."""
    with pytest.MonkeyPatch.context() as patch:
        rows = use_stub(spark, patch)
        folder = tmp_path_factory.mktemp("growing")
        growing = GrowingShop(folder, customers=40, products=40, days=5, churn=0.05, nights=2)
        add_rejected_searches(growing)
        for day in growing.nights:
            growing.grow(day)
            before = rows.value
            night = growing.night(spark, "one-by-one", day, growing=True)
            growing.done.append((night, rows.value - before))
        yield growing


def add_rejected_searches(shop: GrowingShop) -> None:
    """Add one search without words on the date of each night."""
    folder = shop.folder / "data/searches"
    searches = pd.read_parquet(folder)
    noons = [pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=12) for day in shop.nights]
    rejected = searches.head(len(noons)).assign(query=" ")
    rejected["searched_at"] = pd.Series(noons, index=rejected.index).astype(searches.searched_at.dtype)
    for file in folder.iterdir():
        file.unlink()
    pd.concat([searches, rejected]).to_parquet(folder / "part-00000.parquet", index=False)


def planned(spark: SparkSession, shop: GrowingShop, store: str, first: int, last: int) -> list[PlannedDate]:
    config = shop.config(store)
    days = shop.nights[first], shop.nights[last]
    due = due_dates(spark, config, *days, BackfillOptions("all"), shop.config_file)
    return plan(spark, config, due, Console(quiet=True), shop.config_file)


def test_a_request_is_scored_once_and_a_list_is_never_unsellable(shop: GrowingShop) -> None:
    for day, (night, rows_through_udf) in zip(shop.nights, shop.done, strict=True):
        assert rows_through_udf == night.scored["recommend"]
        lists = shop.table("one-by-one", "recommendations", day)
        assert set(lists.item_id) <= shop.sellable(day)
        assert lists.user_id.nunique() == night.customers
    assert shop.done[0][0].reused["recommend"] == 0
    reused = [night.reused["recommend"] for night, _ in shop.done[1:]]
    assert min(reused) > 0
    last = shop.table("one-by-one", "recommendations", shop.nights[-1])
    assert set(last.why_scored) <= {"new", "catalogue"}
    assert last.scored_on.nunique() > 1


def test_a_backfill_equals_the_nights_one_by_one_and_the_plan_told_its_cost(
    spark: SparkSession, shop: GrowingShop
) -> None:
    before = planned(spark, shop, "backfilled", 0, 1)
    assert not list((shop.folder / "backfilled").rglob("*.*"))
    log = io.StringIO()
    nights = run_backfill(
        spark, shop.config("backfilled"), shop.nights[0], shop.last, Console(file=log), shop.config_file
    )
    assert shop.digests("backfilled") == shop.digests("one-by-one")
    assert len(shop.digests("backfilled")) >= 2 * 6
    foreseen, needed = [one.to_score for one in before], [night.scored for night in nights]
    assert foreseen[0] == needed[0]
    assert [one.customers for one in before] == [night.customers for night in nights]
    # Of later dates the plan cannot know which of the first's lists will have sold out by then.
    for guess, scored in zip(foreseen[1:], needed[1:], strict=True):
        assert 0 <= scored["recommend"] - guess["recommend"] < 10
        assert guess["sentiment"] == scored["sentiment"]
    assert before[0].minutes is None  # nothing was ever measured in this store
    assert read_attempts(spark, Store(str(shop.folder / "backfilled"))) == {}


def test_quarantine_of_a_night_is_new_on_that_night(shop: GrowingShop) -> None:
    (first, _), (second, _) = shop.done
    rows = [shop.table("one-by-one", "quarantine", day) for day in shop.nights]
    assert not set(rows[0].key_hash) & set(rows[1].key_hash)
    rejected = [sum(account.quarantined for account in night.accounts.values()) for night in (first, second)]
    assert [len(one) for one in rows] == [rejected[0], rejected[1] - rejected[0]]
    assert min(len(one) for one in rows) > 0
    assert [sum(night.quarantined.values()) for night in (first, second)] == [len(one) for one in rows]


def test_a_published_date_costs_the_model_nothing(spark: SparkSession, shop: GrowingShop) -> None:
    (again,) = planned(spark, shop, "one-by-one", 1, 1)
    assert set(again.to_score.values()) == {0}
    night = shop.done[1][0]
    assert again.hits["recommend"] == night.scored["recommend"] + night.reused["recommend"]
    assert again.minutes is not None
    assert again.minutes > 0
    assert again.reason == "published"


def test_a_deadline_carries_lists_forward_or_keeps_the_old_date(spark: SparkSession, shop: GrowingShop) -> None:
    tomorrow = shop.last + timedelta(days=1)
    config = shop.config("one-by-one", *NEW, "publish.at_deadline=keep")
    night = Night("run", tomorrow, Store(config.store), PASSED)
    with pytest.raises(DeadlinePassed, match=r"05:30 passed with 7 of 12 recommend requests not scored") as refusal:
        count_results(recommend, night, config, Results(None, None, reused=3, scored=2, late=7))
    assert refusal.value.exit_code == 4
    count_results(recommend, night, config, Results(None, None, reused=3, scored=9))

    config = shop.config("one-by-one", *NEW, "report.write=true")
    night = run_night(spark, config, tomorrow, Console(quiet=True), shop.config_file, PASSED)
    report = read_facts(spark, Store(config.store), tomorrow)
    assert report is not None
    assert report.outcome == "carried"
    assert report.deadline_margin_seconds is not None
    assert report.deadline_margin_seconds < 0
    assert f"The deadline left {night.late['recommend']} recommend requests" in report.reason
    assert night.scored["recommend"] == night.reused["recommend"] == 0
    assert night.late["recommend"] == shop.table("one-by-one", "prompts", tomorrow).prompt_hash.nunique()
    lists = shop.table("one-by-one", "recommendations", tomorrow)
    yesterday = shop.table("one-by-one", "recommendations", shop.last)
    assert set(lists.why_scored) == {"carried"}
    assert set(lists.item_id) <= shop.sellable(tomorrow)
    assert set(yesterday.item_id) - shop.sellable(tomorrow)  # something had to go
    ranks = lists.sort_values(["user_id", "rank"]).groupby("user_id")["rank"].apply(list)
    assert ranks.map(lambda found: found == list(range(1, len(found) + 1))).all()
    assert not set(zip(lists.user_id, lists.item_id, strict=True)) - set(
        zip(yesterday.user_id, yesterday.item_id, strict=True)
    )

    log = io.StringIO()
    found = show_status(spark, shop.config("one-by-one", *NEW), Console(file=log, width=200), shop.config_file)
    states = {one.run_date: one for one in found}
    assert (states[tomorrow].state, states[tomorrow].rows) == ("stale", len(lists))
    assert "requests left at the deadline" in states[tomorrow].detail
    assert {states[day].detail for day in shop.nights} == {"other settings"}
    for text in (str(tomorrow), "stale 3", night.run_id):
        assert text in log.getvalue()


def test_a_night_unlike_the_others_is_not_published(spark: SparkSession, shop: GrowingShop) -> None:
    before, on = shop.digests("one-by-one"), "report.write=true"
    with pytest.raises(GateRefused, match=r"rows of recommendations: .*, expected .*--set gate.max_drop=0\.\d+;"):
        shop.night(spark, "one-by-one", shop.last, "recommend.k=2", "gate.min_rows=10", "gate.min_dates=1", on)
    assert shop.digests("one-by-one") == before
    store = Store(str(shop.folder / "one-by-one"))
    reason = read_attempts(spark, store)[shop.last].reason
    report = read_facts(spark, store, shop.last)
    assert report is not None
    assert (report.outcome, report.exit_code, report.reason) == ("kept", 4, reason)
    assert report.newest_published == shop.last
    assert report.days[-1].state == "failed"
    assert reason.startswith("The night differs too much from the 1 published dates")
    metrics = pd.read_parquet(store.date_folder("metrics", shop.last)).set_index(["metric", "slice"])
    assert metrics.n["rows", "recommendations"] == len(shop.table("one-by-one", "recommendations", shop.last))
