"""Compares treated and control customers over the experiment's window: do the lists bring customers back?

    regulars evaluate --loyalty --run-date D --config regulars.yaml

The customers and their groups are those of the `loyalty` table of `starts_on`. All of them count, whether or not
they looked at their lists (intention to treat). The window is the `horizon_days` after `starts_on`, up to the end of D.
Spark aggregates the customers to moments, one row per group.
"""

from __future__ import annotations

import json
import math
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
from jobs.config.settings import LoyaltySettings
from jobs.evaluation import experiment
from jobs.evaluation.experiment import Comparison, ExperimentDesign, Moments, Verdict
from jobs.evaluation.ranking_figures import FEW_CUSTOMERS
from jobs.inputs.reader import read_inputs
from jobs.spark import files
from jobs.spark.errors import InputError, UsageError
from jobs.spark.progress import warn
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store, published_dates
from jobs.store.usual_seconds import reading_stage
from jobs.tables import loyalty
from jobs.tables.groups import CONTROL, TREATED, refuse_group_changes

#: The outcome that decides. It is fixed in code, so nobody chooses it after seeing the figures.
PRIMARY_OUTCOME = "repeat_purchase_rate"
OUTCOMES = (PRIMARY_OUTCOME, "days_to_next_purchase", "spend")
#: Measures from before the start, which CUPED uses as covariates.
COVARIATES = (
    "frequency",
    "days_since_purchase",
    "p_alive",
    "expected_purchases",
    "purchase_days_before",
    "spend_before",
)
_INPUTS = ("purchases", "items", "reviews", "optouts")


@dataclass(frozen=True)
class LoyaltyReport:
    """The figures that the command prints and writes with --json."""

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
    """Compare the groups with the data up to the end of `as_of`; print the report, return it, write it to `json_file`.

    Raises UsageError (no control group, or no data of its window yet), InputError (the night of starts_on is not
    published) and ConfigurationError (today's settings put customers into other groups).
    """
    store = Store(config.store)
    _started(config)
    with scratch_folder(spark, store, "evaluate") as work:
        with reading_stage(spark, store, console, f"reading the inputs up to {as_of}"):
            used = read_inputs(spark, config, as_of, work, _INPUTS).used
        report = compare_as_of(spark, config, used, as_of)
    _print_report(report, design_of(config.loyalty), console)
    if json_file is not None:
        text = json.dumps(_finite(asdict(report)), default=str, indent=2, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    return report


def compare_as_of(spark: SparkSession, config: Config, used: Mapping[str, DataFrame], as_of: date) -> LoyaltyReport:
    """Compare the groups by the inputs `used` up to the end of `as_of`. Raises what `evaluate_loyalty` does."""
    settings, store = config.loyalty, Store(config.store)
    starts_on = _started(config)
    baseline = _baseline(spark, config, starts_on)
    refuse_group_changes(spark, store, settings)
    design = design_of(settings)
    days_seen = _days_seen(used["purchases"], starts_on, as_of, design.horizon_days)
    scores = _review_scores(spark, store, used, as_of)
    customers = customer_outcomes(baseline, used["purchases"], scores, starts_on, days_seen, design)
    leaked = _count_leaked(spark, store, baseline, starts_on, days_seen)
    return _compare_outcomes(customers, leaked, starts_on, as_of, days_seen, design)


def design_of(settings: LoyaltySettings) -> ExperimentDesign:
    """Return the configured experiment."""
    return ExperimentDesign(
        settings.control_share, settings.horizon_days, settings.confidence, settings.power, settings.uplift_to_detect
    )


def _started(config: Config) -> date:
    """Return the configured start. Raises UsageError where there is no control group."""
    settings = config.loyalty
    if not settings.control_share or settings.starts_on is None:
        raise UsageError(
            "there is no control group: set loyalty.control_share and loyalty.starts_on, then run the nights of the "
            "window"
        )
    return settings.starts_on


def customer_outcomes(
    baseline: DataFrame,
    purchases: DataFrame,
    scores: DataFrame | None,
    starts_on: date,
    days_seen: int,
    design: ExperimentDesign,
) -> DataFrame:
    """Return one row per customer: `user_id`, `group`, the outcomes of `days_seen` days, `sentiment`, the covariates.

    `baseline` is the loyalty table of `starts_on`, `scores` the result of `loyalty.review_scores`.
    `sentiment` is null for customers without a review in the window.
    Customers who opted out have no purchases in the input and are left out.
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
        F.col("next_day").isNotNull().cast("double").alias(PRIMARY_OUTCOME),
        waited.cast("double").alias("days_to_next_purchase"),
        "spend",
        "sentiment",
        *(F.coalesce(F.col(name).cast("double"), F.lit(0.0)).alias(name) for name in COVARIATES),
    )


def _compare_outcomes(
    customers: DataFrame, leaked: int, starts_on: date, as_of: date, days_seen: int, design: ExperimentDesign
) -> LoyaltyReport:
    """Compare the groups on every outcome; `sentiment` is compared where both groups have two customers with one."""
    names = OUTCOMES + COVARIATES
    groups = group_moments(customers, names)
    treated, control = (groups.get(group, Moments.of_nobody(len(names))) for group in (TREATED, CONTROL))
    if min(treated.customers, control.customers) < 2:
        raise InputError(
            f"inputs.purchases has {treated.customers} treated and {control.customers} control customers of "
            f"{starts_on}: a comparison needs at least two of each. Give a larger loyalty.control_share or more "
            "customers"
        )
    comparisons = {}
    for position, outcome in enumerate(OUTCOMES):
        keep = [position, *range(len(OUTCOMES), len(names))]
        comparisons[outcome] = experiment.compare_groups(treated.only(keep), control.only(keep), design)
    with_reviews = group_moments(customers.where("sentiment IS NOT NULL"), ("sentiment", *COVARIATES))
    if all(group in with_reviews and with_reviews[group].customers > 1 for group in (TREATED, CONTROL)):
        comparisons["sentiment"] = experiment.compare_groups(with_reviews[TREATED], with_reviews[CONTROL], design)
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
        verdict=experiment.verdict(comparisons[PRIMARY_OUTCOME], design, days_seen, mismatch, leaked),
        outcomes=comparisons,
    )


def group_moments(customers: DataFrame, names: Sequence[str]) -> dict[str, Moments]:
    """Return the moments of the columns `names` per value of `group`, in one pass.

    Spark's covariances are numerically stable for large means.
    """
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
    by_group = {}
    for row in rows:
        covariance = np.zeros((len(names), len(names)))
        for i, j in pairs:
            # A single customer has no covariance; the caller refuses such a group by its count.
            covariance[i, j] = covariance[j, i] = row[f"covariance {i} {j}"] or 0.0
        mean = np.array([row[f"mean {i}"] for i in range(len(names))], dtype=np.float64)
        by_group[row["group"]] = Moments(row["customers"], mean, covariance)
    return by_group


def _baseline(spark: SparkSession, config: Config, starts_on: date) -> DataFrame:
    store = Store(config.store)
    if starts_on not in published_dates(spark, store, "loyalty"):
        raise InputError(
            f"table loyalty has no date {starts_on} (loyalty.starts_on), which holds the groups. "
            f"Run: {config.command('nightly', f'--run-date {starts_on}')}"
        )
    return spark.read.parquet(files.for_reading(store.date_folder("loyalty", starts_on)))


def _days_seen(purchases: DataFrame, starts_on: date, as_of: date, horizon: int) -> int:
    """Return the whole days of the window that the purchases cover by `as_of`."""
    last = purchases.agg(F.max(F.to_date("purchased_at"))).first()[0]  # type: ignore[index]
    days = (min(as_of, last) - starts_on).days
    if days < 1:
        raise UsageError(
            f"the window begins after {starts_on} and the purchases end on {min(as_of, last)}: give a later --run-date "
            "or newer purchases"
        )
    return min(days, horizon)


def _review_scores(spark: SparkSession, store: Store, used: Mapping[str, DataFrame], as_of: date) -> DataFrame | None:
    if "reviews" not in used:
        return None
    labels = loyalty.labels_as_of(spark, store, as_of + timedelta(days=1), None)
    return loyalty.review_scores(used["reviews"], labels)


def _count_leaked(spark: SparkSession, store: Store, baseline: DataFrame, starts_on: date, days_seen: int) -> int:
    """Count the control customers with a published list in the window."""
    last = starts_on + timedelta(days=days_seen)
    dates = [day for day in published_dates(spark, store, "recommendations") if starts_on <= day <= last]
    if not dates:
        return 0
    shown = spark.read.parquet(*(files.for_reading(store.date_folder("recommendations", day)) for day in dates))
    control = baseline.where(F.col("group") == CONTROL)
    return control.join(shown.select("user_id").distinct(), on="user_id", how="left_semi").count()


def _finite(value: Any) -> Any:
    """Replace infinity and NaN by None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _within(day: Column, start: date, days: int) -> Column:
    """Return whether `day` is one of the `days` days after `start`; negative `days` end with `start`."""
    first, last = sorted((start, start + timedelta(days=days)))
    return (day > F.lit(first)) & (day <= F.lit(last))


def _print_report(report: LoyaltyReport, design: ExperimentDesign, console: Console) -> None:
    title = (
        f"{report.treated:,} treated and {report.control:,} control customers of {report.starts_on}, "
        f"{report.days_seen} of {report.horizon_days} days seen"
    )
    table = Table("outcome", "treated", "control", "relative effect (interval)", "detectable", title=title)
    for name, one in report.outcomes.items():
        effect = one.adjusted
        table.add_row(
            name + (" (decides)" if name == PRIMARY_OUTCOME else ""),
            f"{one.treated:.4g}",
            f"{one.control:.4g}",
            f"{effect.relative:+.1%} ({effect.relative_low:+.1%} to {effect.relative_high:+.1%})",
            f"{one.detectable:.1%}",
        )
    console.print(table)
    needed = report.outcomes[PRIMARY_OUTCOME].customers_needed
    if needed is not None:
        console.print(
            f"An effect of {design.uplift_to_detect:.0%} on {PRIMARY_OUTCOME} needs {needed:,} customers. Differences, "
            "CUPED and the other outcomes' customers: --json FILE",
            highlight=False,
        )
    if min(report.treated, report.control) < FEW_CUSTOMERS:
        warn(console, f"a group has fewer than {FEW_CUSTOMERS} customers: chance may decide, so look at the intervals")
    console.print(
        f"Group sizes against the configured share of {design.control_share:.0%}: p = {report.mismatch_p_value:.2g}; "
        f"control customers with published lists: {report.leaked:,}",
        highlight=False,
    )
    console.print(f"Winner: {report.verdict.winner}: {report.verdict.reason}", highlight=False)
