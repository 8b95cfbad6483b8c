"""Writes `loyalty`: per customer recency, frequency, value, sentiment, the probability of being alive, segment, group.

For the loyalty manager, who reads it with SQL. Runs inside the night: `regulars nightly --run-date D`.

All purchases up to run_date count. Several orders on one day in the shop's time zone are one purchase day.
Sums are of whole numbers, so the rows do not depend on the order of addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.config.settings import LoyaltySettings
from jobs.spark import files
from jobs.spark.pandas_udfs import pandas_udf
from jobs.store.store import Store, published_dates
from jobs.tables import bgnbd
from jobs.tables.groups import group_of

#: The days ahead that `expected_purchases` covers, and the time unit of `sentiment_trend`.
FORECAST_DAYS = 30
#: Review scores are summed as integers of 1 / _SCORE_UNIT.
_SCORE_UNIT = 1_000_000
#: Sums over the scored reviews of a customer: their number, days (x), scores (y), and products of both.
_REVIEW_SUMS = ("n", "x", "y", "xx", "xy")

#: Segment by recency score (rows, 1 to 5) and frequency score (columns, 1 to 5), the usual grid of RFM tools.
_SEGMENTS = (
    ("hibernating", "hibernating", "at_risk", "at_risk", "cannot_lose"),
    ("hibernating", "hibernating", "at_risk", "at_risk", "cannot_lose"),
    ("about_to_sleep", "about_to_sleep", "need_attention", "loyal", "loyal"),
    ("promising", "potential_loyalists", "potential_loyalists", "loyal", "loyal"),
    ("new", "potential_loyalists", "potential_loyalists", "champions", "champions"),
)


@dataclass(frozen=True)
class LoyaltyModel:
    """BG/NBD parameters and quintiles, learned from a sample of customers."""

    #: None where too few customers came back for a fit.
    parameters: bgnbd.Parameters | None
    #: Upper ends of the first four quintiles of each measure; empty where no customer has the measure.
    quintiles: Mapping[str, Sequence[float]]


def measure_customers(purchases: DataFrame, scores: DataFrame | None, run_date: date) -> DataFrame:
    """Return one row per customer with a purchase: counts, time spans, value and sentiment as of `run_date`.

    `scores` is the result of `review_scores`, or None in a shop without reviews.
    """
    return measures(sum_customers(purchases, scores), run_date)


def sum_customers(purchases: DataFrame, scores: DataFrame | None) -> DataFrame:
    """Return the sums of each customer with a purchase from which `measures` computes; they depend on no run date.

    Days of reviews count from 1970; scores are whole numbers, so that each sum is exact.
    """
    days = purchases.groupBy("user_id", F.to_date("purchased_at").alias("day")).agg(
        F.sum(F.col("unit_price") * F.col("quantity")).alias("value")
    )
    bought = days.groupBy("user_id").agg(
        F.min("day").alias("first_day"),
        F.max("day").alias("last_day"),
        F.count("*").alias("days"),
        F.sum("value").cast("decimal(38,2)").alias("value"),
        F.count("value").alias("days_with_value"),
    )
    if scores is None:
        return bought.withColumns({name: F.lit(None).cast("bigint") for name in _REVIEW_SUMS})
    y = F.round(F.col("score") * _SCORE_UNIT).cast("bigint")
    x = F.unix_date("reviewed_on").cast("bigint")
    sums = scores.groupBy("user_id").agg(
        F.count("*").alias("n"),
        F.sum(x).alias("x"),
        F.sum(y).alias("y"),
        F.sum(x * x).alias("xx"),
        F.sum(x * y).alias("xy"),
    )
    return bought.join(sums, on="user_id", how="left")


def measures(sums: DataFrame, run_date: date) -> DataFrame:
    """Return counts, time spans, value and sentiment as of `run_date`, from the result of `sum_customers`."""
    since = F.lit((run_date - date(1970, 1, 1)).days).cast("bigint")
    n, x, y, xx, xy = (F.col(name) for name in _REVIEW_SUMS)
    # The same sums with days that count from the run date.
    x_of, xx_of, xy_of = x - n * since, xx - 2 * since * x + n * since * since, xy - since * y
    count, total = n.cast("double"), y.cast("double")
    x_sum, xx_sum, xy_sum = (one.cast("double") for one in (x_of, xx_of, xy_of))
    spread = count * xx_sum - x_sum * x_sum
    slope = (count * xy_sum - x_sum * total) / spread / _SCORE_UNIT
    recency = F.datediff("last_day", "first_day").cast("double")
    frequency = (F.col("days") - 1).cast("int")
    return sums.select(
        "user_id",
        recency.alias("recency"),
        frequency.alias("frequency"),
        F.datediff(F.lit(run_date), "first_day").alias("age_days"),
        F.datediff(F.lit(run_date), "last_day").alias("days_since_purchase"),
        (F.col("value").cast("double") / F.col("days_with_value")).alias("monetary_value"),
        F.when(frequency > 0, recency / frequency).alias("days_between_purchases"),
        F.coalesce(n, F.lit(0)).cast("int").alias("reviews"),
        (total / count / _SCORE_UNIT).alias("sentiment"),
        F.when(spread > 0, slope * FORECAST_DAYS).alias("sentiment_trend"),
    )


def review_scores(reviews: DataFrame, labels: DataFrame | None) -> DataFrame:
    """Return `user_id`, `reviewed_on` and `score` (-1 to 1) of each review with a label or stars.

    The score is p_positive - p_negative for a labelled review, else (stars - 3) / 2.
    `labels` has at most one row per `review_id`; None stands for a shop without a classifier.
    """
    stars = ((F.col("rating") - 3) / 2).cast("double")
    rows = reviews.select("review_id", "user_id", F.to_date("reviewed_at").alias("reviewed_on"), stars.alias("stars"))
    if labels is None:
        scored = rows.withColumn("score", F.col("stars"))
    else:
        labelled = labels.select("review_id", (F.col("p_positive") - F.col("p_negative")).alias("from_label"))
        scored = rows.join(labelled, on="review_id", how="left").withColumn("score", F.coalesce("from_label", "stars"))
    return scored.where(F.col("score").isNotNull()).select("user_id", "reviewed_on", "score")


def labels_as_of(
    spark: SparkSession, store: Store, run_date: date, tonight: DataFrame | None, reviews: DataFrame | None = None
) -> DataFrame | None:
    """Return each review's newest label among the tables of dates before `run_date` and `tonight`, None without any.

    Columns are `review_id`, `p_negative` and `p_positive`. Tables of later dates are ignored, so a backfilled date
    does not depend on the nights after it. With `reviews` (`review_id`) only their labels are read.
    """
    dates = [day for day in published_dates(spark, store, "sentiments") if day < run_date]
    parts = [] if tonight is None else [_label_rows(tonight, F.lit(run_date))]
    if dates:
        reader = spark.read.option("basePath", files.uri(store.table("sentiments")))
        before = reader.parquet(*(files.for_reading(store.date_folder("sentiments", day)) for day in dates))
        parts.append(_label_rows(before, F.col("run_date")))
    if not parts:
        return None
    rows = reduce(DataFrame.unionByName, parts)
    if reviews is not None:
        rows = rows.join(F.broadcast(reviews.select("review_id")), on="review_id", how="left_semi")
    newest = rows.groupBy("review_id").agg(F.max(F.struct("labelled_for", "p_negative", "p_positive")).alias("newest"))
    return newest.select("review_id", "newest.p_negative", "newest.p_positive")


def fit_model(measured: DataFrame, settings: LoyaltySettings) -> LoyaltyModel:
    """Fit BG/NBD and the quintiles on at most `fit_customers` customers, the same ones in every run."""
    columns = ["frequency", "recency", "age_days", "days_since_purchase", "monetary_value"]
    # The hash of the id draws a sample that is the same on every cluster and in every re-run.
    order = F.xxhash64("user_id")
    sample = measured.orderBy(order, "user_id").limit(settings.fit_customers).select(*columns).toPandas()
    return LoyaltyModel(
        parameters=_fit_parameters(sample, settings.min_repeat_customers),
        quintiles={name: _quintiles(sample[name]) for name in ("days_since_purchase", "frequency", "monetary_value")},
    )


def score_customers(measured: DataFrame, model: LoyaltyModel, settings: LoyaltySettings) -> DataFrame:
    """Add the model's columns to every customer and return the `loyalty` contract's columns."""
    # Few days since the last purchase are good, so the recency score counts its quintiles downwards.
    recency_score = 6 - _quintile_of("days_since_purchase", model)
    scored = (
        _with_expectations(measured, model.parameters)
        .withColumn("recency_score", recency_score)
        .withColumn("frequency_score", _quintile_of("frequency", model))
        .withColumn("monetary_score", _quintile_of("monetary_value", model))
        .withColumn("segment", segment_of(F.col("recency_score"), F.col("frequency_score")))
        .withColumn("group", group_of(F.col("user_id"), settings))
    )
    return scored.select(*schemas.contract("loyalty").column_names)


def segment_of(recency_score: Column, frequency_score: Column) -> Column:
    """Return the name of the segment of two scores from 1 to 5."""
    names = F.array(*(F.lit(name) for row in _SEGMENTS for name in row))
    return F.element_at(names, ((recency_score - 1) * 5 + frequency_score).cast("int"))


def model_metrics(spark: SparkSession, model: LoyaltyModel, loyalty: DataFrame) -> DataFrame:
    """Return rows for `metrics`: `bgnbd` by parameter and `segment_share` by segment."""
    total = loyalty.agg(F.count("*").alias("n"))
    shares = loyalty.groupBy(F.col("segment").alias("slice")).agg(F.count("*").alias("rows")).crossJoin(total)
    share = (F.col("rows") / F.col("n")).alias("value")
    rows = shares.select(F.lit("segment_share").alias("metric"), "slice", share, "n")
    if model.parameters is None:
        return rows
    values = [("bgnbd", name, value) for name, value in vars(model.parameters).items()]
    parameters = spark.createDataFrame(values, "metric string, slice string, value double")
    return rows.unionByName(parameters.crossJoin(total))


def _label_rows(labels: DataFrame, day: Column) -> DataFrame:
    return labels.select("review_id", "p_negative", "p_positive", day.cast("date").alias("labelled_for"))


def _fit_parameters(sample: pd.DataFrame, min_repeat_customers: int) -> bgnbd.Parameters | None:
    """Fit BG/NBD; None where too few customers came back or the fit finds no maximum."""
    if (sample.frequency > 0).sum() < min_repeat_customers:
        return None
    counts = (sample[name].to_numpy(np.float64) for name in ("frequency", "recency", "age_days"))
    try:
        return bgnbd.fit_bgnbd(*counts).parameters
    except bgnbd.NotFitted:
        return None


def _quintiles(values: pd.Series) -> list[float]:
    known = values.dropna().to_numpy(np.float64)
    return [float(cut) for cut in np.quantile(known, [0.2, 0.4, 0.6, 0.8], method="lower")] if len(known) else []


def _quintile_of(measure: str, model: LoyaltyModel) -> Column:
    """Return the quintile (1 to 5) of each value; equal values share a quintile, and null stays null."""
    above = [(F.col(measure) > cut).cast("int") for cut in model.quintiles[measure]]
    position = reduce(Column.__add__, above, F.lit(1))
    return F.when(F.col(measure).isNotNull(), position).cast("int")


def _with_expectations(measured: DataFrame, parameters: bgnbd.Parameters | None) -> DataFrame:
    """Add `p_alive` and `expected_purchases` in a pandas UDF, because Spark has no 2F1."""
    if parameters is None:
        nothing = F.lit(None).cast("double")
        return measured.withColumns({"p_alive": nothing, "expected_purchases": nothing})

    @pandas_udf("struct<p_alive:double,expected_purchases:double>")
    def expect(batches: Iterator[tuple[pd.Series, pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            x, t_x, t = (series.to_numpy(np.float64) for series in batch)
            alive = bgnbd.p_alive(parameters, x, t_x, t)
            bought = bgnbd.expected_purchases(parameters, FORECAST_DAYS, x, t_x, t)
            yield pd.DataFrame({"p_alive": alive, "expected_purchases": bought})

    expected = measured.withColumn("_expected", expect("frequency", "recency", "age_days"))
    # BG/NBD says 1 of everyone who bought on one day: it lets customers go at repeat purchases only.
    p_alive = F.when(F.col("frequency") > 0, F.col("p_alive"))
    return expected.select("*", "_expected.*").drop("_expected").withColumn("p_alive", p_alive)
