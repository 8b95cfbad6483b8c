"""Did the lists bring customers back? Treated against control over the window that the configuration fixed.

    regulars evaluate --loyalty --run-date D --config regulars.yaml

Judged are the customers of the `loyalty` table of `starts_on`, as they were grouped then, whether or not they looked
at their lists (intention to treat); the window is the `horizon_days` after it, as far as it can be seen by the end of
D. Of millions of customers Spark hands on only moments, one row per group.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.evaluation import experiment
from jobs.evaluation.experiment import Comparison, Design, Moments, Verdict
from jobs.inputs.reader import read_inputs
from jobs.spark import files
from jobs.spark.errors import InputError, UsageError
from jobs.store.store import Store, published_dates
from jobs.tables import loyalty
from jobs.tables.groups import CONTROL, TREATED, refuse_group_changes

#: The outcome that decides, fixed here and not by whoever reads the figures.
PRIMARY = "repeat_purchase_rate"
OUTCOMES = (PRIMARY, "days_to_next_purchase", "spend")
#: What is known of a customer before the start: CUPED takes from the outcomes what these predict.
COVARIATES = (
    "frequency",
    "days_since_purchase",
    "p_alive",
    "expected_purchases",
    "purchase_days_before",
    "spend_before",
)
_READ = ("purchases", "items", "reviews", "optouts")


@dataclass(frozen=True)
class LoyaltyReport:
    """Everything that the command prints, and writes with --json."""

    starts_on: date
    as_of: date
    days_seen: int
    horizon_days: int
    treated: int
    control: int
    mismatch_p_value: float
    leaked: int
    verdict: Verdict
    outcomes: Mapping[str, Comparison]


def evaluate_loyalty(
    spark: SparkSession, config: Config, as_of: date, console: Console, json_file: Path | None = None
) -> LoyaltyReport:
    """Compare the groups as far as the window can be seen by the end of `as_of`, print it and return it.

    Raises UsageError (no control group is configured, or its window has not begun), InputError (the night of
    starts_on was not published) and ConfigurationError (the configuration groups customers otherwise than then).
    """
    settings, store = config.loyalty, Store(config.store)
    starts_on = settings.starts_on
    if not settings.control_share or starts_on is None:
        raise UsageError("there is no control group: set loyalty.control_share and loyalty.starts_on, then wait")
    baseline = _baseline(spark, store, starts_on)
    refuse_group_changes(spark, store, settings)
    design = Design(
        settings.control_share, settings.horizon_days, settings.confidence, settings.power, settings.uplift_to_detect
    )
    work = store.work(f"evaluate-{as_of}-{uuid.uuid4().hex[:8]}")
    try:
        used = read_inputs(spark, config, as_of, work, _READ).used
        days_seen = _days_seen(used["purchases"], starts_on, as_of, design.horizon_days)
        scores = _scores(spark, store, used, as_of)
        customers = outcomes(baseline, used["purchases"], scores, starts_on, days_seen, design)
        leaked = _leaked(spark, store, baseline, starts_on, days_seen)
        report = judged(customers, leaked, starts_on, as_of, days_seen, design)
    finally:
        files.delete(spark, work)
    _show(report, design, console)
    if json_file is not None:
        text = json.dumps(_finite(asdict(report)), default=str, indent=2, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    return report


def outcomes(
    baseline: DataFrame, purchases: DataFrame, scores: DataFrame | None, starts_on: date, days_seen: int, design: Design
) -> DataFrame:
    """One row per judged customer: `group`, the outcomes of the `days_seen` days after the start, the covariates.

    `sentiment` is null where a customer wrote no review in the window. Who opted out since has no purchases left in
    the input and is judged in neither group.
    """
    day = F.to_date("purchased_at")
    after, before = _within(day, starts_on, days_seen), _within(day, starts_on, -design.horizon_days)
    value = F.coalesce(F.col("unit_price") * F.col("quantity"), F.lit(0)).cast("double")
    bought = purchases.groupBy("user_id").agg(
        F.min(F.when(after, day)).alias("next_day"),
        F.sum(F.when(after, value).otherwise(0.0)).alias("spend"),
        F.countDistinct(F.when(before, day)).cast("double").alias("purchase_days_before"),
        F.sum(F.when(before, value).otherwise(0.0)).alias("spend_before"),
    )
    rows = baseline.join(bought, on="user_id", how="inner")
    if scores is None:
        rows = rows.drop("sentiment").withColumn("sentiment", F.lit(None).cast("double"))
    else:
        written = scores.where(_within(F.col("reviewed_on"), starts_on, days_seen))
        felt = written.groupBy("user_id").agg(F.avg("score").alias("sentiment"))
        rows = rows.drop("sentiment").join(felt, on="user_id", how="left")
    waited = F.coalesce(F.datediff("next_day", F.lit(starts_on)), F.lit(days_seen))
    return rows.select(
        "user_id",
        "group",
        F.col("next_day").isNotNull().cast("double").alias(PRIMARY),
        waited.cast("double").alias("days_to_next_purchase"),
        "spend",
        "sentiment",
        *(F.coalesce(F.col(name).cast("double"), F.lit(0.0)).alias(name) for name in COVARIATES),
    )


def judged(
    customers: DataFrame, leaked: int, starts_on: date, as_of: date, days_seen: int, design: Design
) -> LoyaltyReport:
    """Compare the groups on every outcome that varies, and say who won or why no one can."""
    names = OUTCOMES + COVARIATES
    groups = moments(customers, names)
    treated, control = (groups.get(group, Moments.of_nobody(len(names))) for group in (TREATED, CONTROL))
    if min(treated.customers, control.customers) < 2:
        raise InputError(
            f"of the customers of {starts_on} only {treated.customers} treated and {control.customers} control ones "
            "are in the purchases: a comparison needs at least two of each"
        )
    found = {}
    for position, outcome in enumerate(OUTCOMES):
        keep = [position, *range(len(OUTCOMES), len(names))]
        found[outcome] = experiment.compare(treated.only(keep), control.only(keep), design)
    felt = moments(customers.where("sentiment IS NOT NULL"), ("sentiment", *COVARIATES))
    if all(group in felt and felt[group].customers > 1 for group in (TREATED, CONTROL)):
        found["sentiment"] = experiment.compare(felt[TREATED], felt[CONTROL], design)
    mismatch = experiment.ratio_mismatch(treated.customers, control.customers, design.control_share)
    return LoyaltyReport(
        starts_on=starts_on,
        as_of=as_of,
        days_seen=days_seen,
        horizon_days=design.horizon_days,
        treated=treated.customers,
        control=control.customers,
        mismatch_p_value=mismatch,
        leaked=leaked,
        verdict=experiment.verdict(found[PRIMARY], design, days_seen, mismatch, leaked),
        outcomes=found,
    )


def moments(customers: DataFrame, names: Sequence[str]) -> dict[str, Moments]:
    """Moments of the columns `names` per group, in one pass; Spark's covariances do not cancel for large means."""
    pairs = list(combinations_with_replacement(range(len(names)), 2))
    rows = (
        customers.groupBy("group")
        .agg(
            F.count("*").alias("customers"),
            *(F.avg(name).alias(f"mean {i}") for i, name in enumerate(names)),
            *(F.covar_samp(names[i], names[j]).alias(f"covariance {i} {j}") for i, j in pairs),
        )
        .collect()
    )
    found = {}
    for row in rows:
        covariance = np.zeros((len(names), len(names)))
        for i, j in pairs:
            # Of a single customer there is no covariance; such a group is refused by its count.
            covariance[i, j] = covariance[j, i] = row[f"covariance {i} {j}"] or 0.0
        mean = np.array([row[f"mean {i}"] for i in range(len(names))], dtype=np.float64)
        found[row["group"]] = Moments(row["customers"], mean, covariance)
    return found


def _baseline(spark: SparkSession, store: Store, starts_on: date) -> DataFrame:
    if starts_on not in published_dates(spark, store, "loyalty"):
        raise InputError(
            f"table loyalty has no date {starts_on} (loyalty.starts_on): who was in which group is read there. "
            f"Run: regulars nightly --run-date {starts_on}"
        )
    return spark.read.parquet(files.for_reading(store.date_folder("loyalty", starts_on)))


def _days_seen(purchases: DataFrame, starts_on: date, as_of: date, horizon: int) -> int:
    """Whole days of the window that the data cover; a date in the future does not make it longer."""
    last = purchases.agg(F.max(F.to_date("purchased_at"))).first()[0]  # type: ignore[index]
    days = (min(as_of, last) - starts_on).days
    if days < 1:
        raise UsageError(f"the window begins after {starts_on} and nothing of it has been seen by {min(as_of, last)}")
    return min(days, horizon)


def _scores(spark: SparkSession, store: Store, used: Mapping[str, DataFrame], as_of: date) -> DataFrame | None:
    if "reviews" not in used:
        return None
    labels = loyalty.labels_as_of(spark, store, as_of + timedelta(days=1), None)
    return loyalty.review_scores(used["reviews"], labels)


def _leaked(spark: SparkSession, store: Store, baseline: DataFrame, starts_on: date, days_seen: int) -> int:
    """Count control customers with lists in the tables that were published for the window."""
    last = starts_on + timedelta(days=days_seen)
    dates = [day for day in published_dates(spark, store, "recommendations") if starts_on <= day <= last]
    if not dates:
        return 0
    shown = spark.read.parquet(*(files.for_reading(store.date_folder("recommendations", day)) for day in dates))
    control = baseline.where(F.col("group") == CONTROL)
    return control.join(shown.select("user_id").distinct(), on="user_id", how="left_semi").count()


def _finite(value: Any) -> Any:
    """JSON knows no infinity and no not-a-number: null stands for both."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _within(day: Column, start: date, days: int) -> Column:
    """The `days` days after `start`, or, where negative, so many days that end with it."""
    first, last = sorted((start, start + timedelta(days=days)))
    return (day > F.lit(first)) & (day <= F.lit(last))


def _show(report: LoyaltyReport, design: Design, console: Console) -> None:
    table = Table(
        "outcome", "treated", "control", "difference (interval)", "relative (interval)", "CUPED takes",
        "detectable", f"customers for {design.uplift_to_detect:.0%}",
        title=f"{report.treated:,} treated and {report.control:,} control customers of {report.starts_on}, "
        f"{report.days_seen} of {report.horizon_days} days seen",
    )  # fmt: skip
    for name, one in report.outcomes.items():
        effect = one.adjusted
        table.add_row(
            name + (" (decides)" if name == PRIMARY else ""),
            f"{one.treated:.4g}",
            f"{one.control:.4g}",
            f"{effect.difference:+.3g} ({effect.low:+.3g} to {effect.high:+.3g})",
            f"{effect.relative:+.1%} ({effect.relative_low:+.1%} to {effect.relative_high:+.1%})",
            f"{one.variance_reduction:.0%} of variance",
            f"{one.detectable:.1%}",
            "" if one.customers_needed is None else f"{one.customers_needed:,}",
        )
    console.print(table)
    console.print(
        f"Groups fit the configured share of {design.control_share:.0%}: p = {report.mismatch_p_value:.2g}; control "
        f"customers who were shown lists: {report.leaked:,}",
        highlight=False,
    )
    console.print(f"Winner: {report.verdict.winner}: {report.verdict.reason}", highlight=False)
