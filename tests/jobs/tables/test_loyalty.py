"""Loyalty measures on histories that a reader can count, and what may change them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pyspark.testing import assertDataFrameEqual

import schemas
from jobs.config.settings import LoyaltySettings
from jobs.spark import parquet
from jobs.spark.contracts import enforce
from jobs.store.store import Store
from jobs.tables import bgnbd, loyalty
from schemas.loyalty import SEGMENTS
from tests.rows import check_rows, frame

RUN_DATE = date(2026, 3, 31)
SETTINGS = LoyaltySettings(control_share=0.3, starts_on=date(2026, 3, 1), min_repeat_customers=5)
LONDON = ZoneInfo("Europe/London")


def at(month: int, day: int, hour: int = 12) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=LONDON)


def bought(user: str, when: datetime, price: str | None = "10.00", quantity: int = 1, item: str = "i") -> dict:
    value = None if price is None else Decimal(price)
    return {"user_id": user, "purchased_at": when, "unit_price": value, "quantity": quantity, "item_id": item}


def measured(spark, purchases, reviews=(), labels=None):
    scores = loyalty.review_scores(frame(spark, "reviews", reviews), labels)
    return loyalty.measure_customers(frame(spark, "purchases", purchases), scores, RUN_DATE)


def by_user(rows) -> dict:
    return {row.user_id: row for row in rows.collect()}


def test_counts_are_of_days_in_the_shops_time_zone(spark):
    purchases = [
        bought("ann", at(3, 1)),
        bought("ann", at(3, 1, 23), "2.50", 2, "other"),  # the same day: one purchase day worth 15.00
        bought("ann", at(3, 11), "5.00"),
        bought("ann", at(3, 21), None),  # without a price: a purchase day, but not one of known value
        bought("bob", at(3, 30)),
        # 30 March 00:30 in London is 29 March in UTC (summer time began on the 29th).
        bought("cleo", datetime(2026, 3, 30, 0, 30, tzinfo=LONDON), None),
    ]
    rows = by_user(measured(spark, purchases))
    ann, bob, cleo = rows["ann"], rows["bob"], rows["cleo"]
    assert (ann.frequency, ann.recency, ann.age_days, ann.days_since_purchase) == (2, 20.0, 30, 10)
    assert (ann.days_between_purchases, ann.monetary_value) == (10.0, 10.0)
    assert (bob.frequency, bob.recency, bob.age_days, bob.days_between_purchases) == (0, 0.0, 1, None)
    assert (cleo.days_since_purchase, cleo.monetary_value) == (1, None)


def test_sentiment_is_the_mean_score_and_its_trend_the_slope_a_month(spark):
    reviews = [
        {"review_id": "r1", "user_id": "ann", "rating": 5, "reviewed_at": at(1, 30)},  # 60 days ago, stars say 1
        {"review_id": "r2", "user_id": "ann", "rating": 5, "reviewed_at": at(3, 1)},  # 30 days ago, the label says 0
        {"review_id": "r3", "user_id": "ann", "rating": None, "reviewed_at": at(3, 31)},  # today, the label says -1
        {"review_id": "r4", "user_id": "ann", "rating": None, "reviewed_at": at(3, 31)},  # says nothing
        {"review_id": "r5", "user_id": "bob", "rating": 2, "reviewed_at": at(3, 31)},
    ]
    labels = frame(
        spark,
        "sentiments",
        [
            {"review_id": "r2", "p_negative": 0.25, "p_neutral": 0.5, "p_positive": 0.25},
            {"review_id": "r3", "p_negative": 1.0, "p_neutral": 0.0, "p_positive": 0.0},
        ],
    )
    rows = by_user(measured(spark, [bought(user, at(3, 1)) for user in ("ann", "bob", "cleo")], reviews, labels))
    assert (rows["ann"].reviews, rows["ann"].sentiment) == (3, 0.0)
    assert rows["ann"].sentiment_trend == pytest.approx(-1.0)
    assert (rows["bob"].reviews, rows["bob"].sentiment, rows["bob"].sentiment_trend) == (1, -0.5, None)
    assert (rows["cleo"].reviews, rows["cleo"].sentiment, rows["cleo"].sentiment_trend) == (0, None, None)


def test_labels_come_from_nights_up_to_the_date_and_the_newest_counts(spark, tmp_path):
    store = Store(str(tmp_path))

    def publish(day: date, positive: float) -> None:
        row = {"review_id": "r", "p_negative": 0.0, "p_neutral": 1 - positive, "p_positive": positive}
        parquet.write(spark, frame(spark, "sentiments", [row]), store.date_folder("sentiments", day))

    def label(tonight=None):
        found = loyalty.labels_as_of(spark, store, RUN_DATE, tonight)
        return None if found is None else [row.p_positive for row in found.collect()]

    assert label() is None
    publish(date(2026, 4, 1), 0.9)  # a later night
    assert label() is None
    publish(date(2026, 3, 1), 0.2)
    publish(date(2026, 3, 30), 0.4)
    assert label() == [0.4]
    tonight = frame(spark, "sentiments", [{"review_id": "r", "p_neutral": 0.25, "p_positive": 0.75}])
    assert label(tonight) == [0.75]


def shop(spark, customers: int = 60):
    """Customers with 1 to 6 purchase days; more days come with a later last one."""
    purchases = [
        bought(f"u{number:03d}", at(1 + step % 3, 1 + (number * 7 + step * 3) % 28), f"{5 + number}.00")
        for number in range(customers)
        for step in range(1 + number % 6)
    ]
    return measured(spark, purchases)


def test_scored_rows_keep_the_contract_and_agree_with_the_model(spark):
    rows = shop(spark)
    model = loyalty.fit_model(rows, SETTINGS)
    assert model.parameters is not None
    scored = enforce(loyalty.score_customers(rows, model, SETTINGS), schemas.contract("loyalty"))
    assert check_rows(scored, schemas.contract("loyalty")) == 60
    found = scored.toPandas()
    counts = [found[name].to_numpy(float) for name in ("frequency", "recency", "age_days")]
    # Of customers with one purchase day the model knows nothing; their segment is given all the same.
    came_back = counts[0] > 0
    assert found.p_alive[came_back].to_numpy() == pytest.approx(bgnbd.p_alive(model.parameters, *counts)[came_back])
    assert found.p_alive[~came_back].isna().all()
    assert 0 < (~came_back).sum() < 60
    assert found.segment.notna().all()
    assert found.expected_purchases.to_numpy() == pytest.approx(bgnbd.expected_purchases(model.parameters, 30, *counts))
    assert (found.groupby("frequency").frequency_score.nunique() == 1).all(), "equal counts have equal scores"
    assert found.sort_values("days_since_purchase").recency_score.is_monotonic_decreasing
    assert found.sort_values("monetary_value").monetary_score.is_monotonic_increasing
    assert set(found.recency_score) == set(found.monetary_score) == {1, 2, 3, 4, 5}
    assert 0.1 < (found.group == "control").mean() < 0.5


def test_rows_do_not_depend_on_partitions_or_order(spark):
    rows = shop(spark)
    one = loyalty.score_customers(rows, loyalty.fit_model(rows, SETTINGS), SETTINGS)
    spread = rows.repartition(7).orderBy("monetary_value", ascending=False)
    other = loyalty.score_customers(spread, loyalty.fit_model(spread, SETTINGS), SETTINGS)
    assert sorted(one.collect()) == sorted(other.collect())  # to the last bit, not approximately


def test_too_few_returning_customers_leave_the_probabilities_null(spark):
    rows = shop(spark, 12)
    model = loyalty.fit_model(rows, SETTINGS.model_copy(update={"min_repeat_customers": 1000}))
    assert model.parameters is None
    scored = loyalty.score_customers(rows, model, SETTINGS)
    assert scored.where("p_alive IS NOT NULL OR expected_purchases IS NOT NULL").count() == 0
    assert check_rows(scored, schemas.contract("loyalty")) == 12


def test_a_shop_without_prices_has_no_value_and_no_score_of_it(spark):
    rows = measured(spark, [bought("ann", at(3, 1), None), bought("bob", at(3, 2), None)])
    scored = loyalty.score_customers(rows, loyalty.fit_model(rows, SETTINGS), SETTINGS)
    assert {(row.monetary_value, row.monetary_score) for row in scored.collect()} == {(None, None)}
    check_rows(scored, schemas.contract("loyalty"))


def test_every_pair_of_scores_has_a_segment_and_every_segment_a_pair(spark):
    pairs = spark.createDataFrame([(r, f) for r in range(1, 6) for f in range(1, 6)], "r int, f int")
    named = pairs.withColumn("segment", loyalty.segment_of(pairs.r, pairs.f))
    found = {(row.r, row.f): row.segment for row in named.collect()}
    assert set(found.values()) == set(SEGMENTS)
    assert (found[5, 5], found[1, 5], found[5, 1], found[1, 1]) == ("champions", "cannot_lose", "new", "hibernating")
    assert (found[3, 1], found[2, 3], found[4, 1]) == ("about_to_sleep", "at_risk", "promising")


def test_metrics_tell_the_model_and_the_segments(spark):
    rows = shop(spark)
    model = loyalty.fit_model(rows, SETTINGS)
    found = loyalty.model_metrics(spark, model, loyalty.score_customers(rows, model, SETTINGS))
    assertDataFrameEqual(enforce(found, schemas.contract("metrics")).limit(0), found.limit(0))
    values = {(row.metric, row["slice"]): row.value for row in found.collect()}
    assert values["bgnbd", "alpha"] == model.parameters.alpha
    assert sum(v for (metric, _), v in values.items() if metric == "segment_share") == pytest.approx(1.0)
    assert np.isfinite(list(values.values())).all()
