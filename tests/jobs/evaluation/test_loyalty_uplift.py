"""`evaluate --loyalty` on a small shop: outcomes counted by hand, moments against numpy, and every refusal."""

from __future__ import annotations

import io
import json
import shutil
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs.config.config import load
from jobs.config.settings import LoyaltySettings
from jobs.evaluation.experiment import ExperimentDesign, Moments
from jobs.evaluation.loyalty_uplift import customer_outcomes, evaluate_loyalty, group_moments
from jobs.spark import parquet
from jobs.spark.errors import ConfigurationError, InputError, UsageError
from jobs.store.store import Store
from jobs.tables.groups import CONTROL, group_of
from tests.rows import frame

START, HORIZON = date(2026, 3, 10), 14
SETTINGS = LoyaltySettings(control_share=0.4, starts_on=START, horizon_days=HORIZON)
DESIGN = ExperimentDesign(SETTINGS.control_share, HORIZON)
CUSTOMERS = 120


def at(days: int, hour: int = 12) -> datetime:
    """An hour of the day `days` after the start, in the shop's time zone."""
    day = START + timedelta(days=days)
    return datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo("Europe/London"))


def bought(user: str, days: int, price: str = "10.00", hour: int = 12) -> dict:
    return {"user_id": user, "item_id": "i", "purchased_at": at(days, hour), "unit_price": Decimal(price)}


def test_outcomes_are_counted_inside_the_window(spark):
    baseline = frame(spark, "loyalty", [{"user_id": user, "frequency": 3} for user in ("ann", "bob", "cleo", "gone")])
    purchases = frame(
        spark,
        "purchases",
        [
            bought("ann", -HORIZON, "50.00"),  # the day before the window of before
            bought("ann", 0, "7.00", 23),  # still before: the lists of the start's night come after it
            bought("ann", 3, "5.00"),
            bought("ann", 5, "6.00"),
            bought("bob", -2, "1.00"),
            bought("bob", HORIZON + 1),  # after the horizon
            bought("cleo", HORIZON, "2.00"),
            bought("stranger", 1),
        ],
    )
    scores = spark.createDataFrame(
        [("ann", at(2).date(), 1.0), ("ann", at(4).date(), 0.5), ("ann", at(0).date(), -1.0)],
        "user_id string, reviewed_on date, score double",
    )
    rows = customer_outcomes(baseline, purchases, scores, START, HORIZON, DESIGN).collect()
    found = {row.user_id: row for row in rows}
    assert set(found) == {"ann", "bob", "cleo"}, "who opted out has no purchases left and is not judged"
    ann, bob, cleo = found["ann"], found["bob"], found["cleo"]
    assert (ann.repeat_purchase_rate, ann.days_to_next_purchase, ann.spend) == (1.0, 3.0, 11.0)
    assert (ann.purchase_days_before, ann.spend_before, ann.frequency, ann.sentiment) == (1.0, 7.0, 3.0, 0.75)
    assert (bob.repeat_purchase_rate, bob.days_to_next_purchase, bob.spend) == (0.0, 14.0, 0.0)
    assert (bob.spend_before, bob.sentiment, bob.p_alive) == (1.0, None, 0.0)
    assert (cleo.repeat_purchase_rate, cleo.days_to_next_purchase, cleo.spend) == (1.0, 14.0, 2.0)


def test_moments_are_numpys(spark):
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 1.0, (200, 3)) * [1, 10, 1000] + [0, 0, 1e6]
    names = [CONTROL if number % 3 else "treated" for number in range(200)]
    rows = [(name, *map(float, row)) for name, row in zip(names, values, strict=True)]
    found = group_moments(spark.createDataFrame(rows, "group string, a double, b double, c double"), ("a", "b", "c"))
    for group in ("treated", CONTROL):
        wanted = Moments.of(values[[name == group for name in names]])
        assert found[group].customers == wanted.customers
        assert found[group].mean == pytest.approx(wanted.mean)
        assert found[group].covariance == pytest.approx(wanted.covariance)


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory):
    """A shop of 120 customers: in the window all treated and every fifth control customer buy again."""
    folder = tmp_path_factory.mktemp("shop")
    users = [f"u{number}" for number in range(CUSTOMERS)]
    ids = spark.createDataFrame([(user,) for user in users], "user_id string")
    grouped = ids.withColumn("group", group_of(F.col("user_id"), SETTINGS)).collect()
    groups = {row.user_id: row["group"] for row in grouped}
    purchases = []
    for number, user in enumerate(users):
        purchases += [bought(user, -1 - number % 9)]
        if groups[user] != CONTROL or number % 5 == 0:
            purchases += [bought(user, 1 + number % 7, f"{number}.00")]
    purchases += [bought("later", HORIZON + 3)]
    parquet.write(spark, frame(spark, "purchases", purchases), str(folder / "data/purchases"))
    parquet.write(spark, frame(spark, "items", [{"item_id": "i"}]), str(folder / "data/items"))
    loyalty = frame(spark, "loyalty", [{"user_id": user, "group": group} for user, group in groups.items()])
    parquet.write(spark, loyalty, Store(str(folder / "store")).date_folder("loyalty", START))
    config = folder / "regulars.yaml"
    config.write_text(
        "store: ./store\ntimezone: Europe/London\n"
        "inputs: {purchases: {path: data/purchases}, items: {path: data/items}}\n"
        f"loyalty: {{control_share: 0.4, starts_on: {START}, horizon_days: {HORIZON}}}\n"
    )
    return config, groups


def evaluated(spark, config, as_of: date, *overrides: str, json_file=None):
    printed = io.StringIO()
    report = evaluate_loyalty(
        spark, load(config, overrides), as_of, Console(file=printed, width=220), json_file=json_file
    )
    return report, printed.getvalue()


def test_a_clear_effect_wins_at_the_horizon(spark, shop, tmp_path):
    config, groups = shop
    report, printed = evaluated(spark, config, START + timedelta(days=40), json_file=tmp_path / "report.json")
    controls = sum(group == CONTROL for group in groups.values())
    assert (report.treated, report.control, report.days_seen) == (CUSTOMERS - controls, controls, HORIZON)
    rate = report.outcomes["repeat_purchase_rate"]
    back = sum(group == CONTROL and int(user[1:]) % 5 == 0 for user, group in groups.items())
    assert (rate.treated, rate.control) == (1.0, pytest.approx(back / controls))
    assert rate.adjusted.low > 0.5
    assert report.verdict.winner == "treated"
    assert "sentiment" not in report.outcomes
    assert "Winner: treated" in printed
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["outcomes"]["spend"]["plain"]["difference"] == report.outcomes["spend"].plain.difference
    assert written["starts_on"] == "2026-03-10"
    assert not list((config.parent / "store/scratch").glob("*")), "nothing of the evaluation stays behind"


def test_before_the_horizon_no_winner_is_called(spark, shop):
    report, printed = evaluated(spark, shop[0], START + timedelta(days=HORIZON - 1))
    assert report.outcomes["repeat_purchase_rate"].adjusted.low > 0.3
    assert report.verdict.winner == "none"
    assert "too early" in printed


def test_published_lists_of_control_customers_end_the_experiment(spark, shop):
    config, groups = shop
    store = Store(str(config.parent / "store"))
    control = [user for user, group in groups.items() if group == CONTROL][:2]
    folder = store.date_folder("recommendations", START + timedelta(days=2))
    parquet.write(spark, frame(spark, "recommendations", [{"user_id": u, "rank": 1} for u in [*control, "u0"]]), folder)
    try:
        report, _ = evaluated(spark, config, START + timedelta(days=40))
    finally:
        shutil.rmtree(folder)
    expected = {*control, "u0"} & {user for user, group in groups.items() if group == CONTROL}
    assert report.leaked == len(expected) >= 2
    assert report.verdict.winner == "none"


def test_refusals_say_how_to_go_on(spark, shop):
    config = shop[0]
    end = START + timedelta(days=40)
    with pytest.raises(ConfigurationError, match=r"customers of 2026-03-10 would switch group.*old values back"):
        evaluated(spark, config, end, "loyalty.key=another")
    with pytest.raises(UsageError, match=r"loyalty\.control_share"):
        evaluated(spark, config, end, "loyalty.control_share=0.0")
    with pytest.raises(InputError, match=r"regulars nightly .*--run-date 2026-03-11"):
        evaluated(spark, config, end, "loyalty.starts_on=2026-03-11")
    with pytest.raises(UsageError, match="purchases end on"):
        evaluated(spark, config, START)
