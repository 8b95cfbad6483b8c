"""Treated against control: differences with intervals, CUPED, what could be detected, and when a winner may be called.

Plain numpy and scipy over moments (counts, means, covariances), which Spark computes of any number of customers.

The horizon is fixed: the window that decides is written in the configuration before it begins, and until it has ended
no winner is called, however clear the figures look, because whoever looks every day and stops at the first clear one
is wrong far more often than 1 - confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

#: A sample-ratio mismatch below this p-value means that customers were lost or added on one side: nothing is judged.
MISMATCH = 0.001


@dataclass(frozen=True)
class Moments:
    """Of one group: customers, and mean (m,) and covariance (m, m) of the outcome followed by its covariates."""

    customers: int
    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Of rows (n, m), one a customer."""
        return cls(len(values), values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))

    @classmethod
    def of_nobody(cls, columns: int) -> Moments:
        """Of a group without customers."""
        return cls(0, np.zeros(columns), np.zeros((columns, columns)))

    def only(self, columns: Sequence[int]) -> Moments:
        """Of some columns, the outcome first."""
        keep = list(columns)
        return Moments(self.customers, self.mean[keep], self.covariance[np.ix_(keep, keep)])


@dataclass(frozen=True)
class Effect:
    """Treated minus control, in the outcome's unit and relative to control, each with its interval."""

    difference: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    standard_error: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """One outcome: both groups' means, the plain effect, the one with CUPED, and what this design can detect."""

    treated: float
    control: float
    treated_customers: int
    control_customers: int
    plain: Effect
    adjusted: Effect
    #: Share of the effect's variance that CUPED removed.
    variance_reduction: float
    #: Smallest relative effect that this many customers show with the configured power (with CUPED).
    detectable: float
    #: Customers, of both groups together, that the uplift to detect needs (with CUPED);
    #: None where control's mean is 0.
    customers_needed: int | None


@dataclass(frozen=True)
class Design:
    """What was fixed beforehand."""

    control_share: float
    horizon_days: int
    confidence: float = 0.95
    power: float = 0.8
    uplift_to_detect: float = 0.02


@dataclass(frozen=True)
class Verdict:
    """`winner` is treated, control or none; `reason` says why in words."""

    winner: str
    reason: str


def compare(treated: Moments, control: Moments, design: Design) -> Comparison:
    """Compare the outcome (the first of the moments) of two groups; the further columns are covariates of before.

    CUPED (Deng, Xu, Kohavi & Walker 2013): what the covariates predict is taken from the outcome, with one slope per
    covariate for both groups. Intervals are Welch's; relative ones follow by the delta method. ValueError with fewer
    than two customers in a group.
    """
    if min(treated.customers, control.customers) < 2:
        raise ValueError("a group needs at least two customers to be compared")
    slopes = _slopes(treated, control)
    plain = _effect(treated, control, np.zeros_like(slopes), design.confidence)
    adjusted = _effect(treated, control, slopes, design.confidence)
    base = abs(float(control.mean[0]))
    detectable = detectable_effect(adjusted.standard_error, design) / base if base else math.inf
    customers = treated.customers + control.customers
    needed = customers * (detectable / design.uplift_to_detect) ** 2
    return Comparison(
        treated=float(treated.mean[0]),
        control=float(control.mean[0]),
        treated_customers=treated.customers,
        control_customers=control.customers,
        plain=plain,
        adjusted=adjusted,
        variance_reduction=1 - (adjusted.standard_error / plain.standard_error) ** 2 if plain.standard_error else 0.0,
        detectable=detectable,
        customers_needed=math.ceil(needed) if math.isfinite(needed) else None,
    )


def detectable_effect(standard_error: float, design: Design) -> float:
    """Smallest true difference that a two-sided test at the design's confidence finds with its power."""
    return standard_error * _distance(design)


def sample_size(mean: float, variance: float, design: Design, variance_reduction: float = 0.0) -> int:
    """Customers of both groups together that show the uplift to detect; for planning, from one period's moments."""
    share = design.control_share
    if not 0 < share < 1:
        raise ValueError("control_share must lie between 0 and 1 for an experiment")
    per_customer = variance * (1 - variance_reduction) * (1 / share + 1 / (1 - share))
    return math.ceil(per_customer * (_distance(design) / (mean * design.uplift_to_detect)) ** 2)


def ratio_mismatch(treated: int, control: int, control_share: float) -> float:
    """p-value of the chi-square test that customers fell to the groups as configured."""
    customers = treated + control
    if not customers:
        return 1.0
    expected = [customers * (1 - control_share), customers * control_share]
    return float(stats.chisquare([treated, control], expected).pvalue)


def verdict(primary: Comparison, design: Design, days_seen: int, mismatch: float, leaked: int = 0) -> Verdict:
    """Call a winner on the primary outcome, or say why not; `leaked` counts control customers who were shown lists."""
    if mismatch < MISMATCH:
        return Verdict("none", f"the groups' sizes do not fit the configured share (p = {mismatch:.1g}): find out why")
    if leaked:
        return Verdict("none", f"lists of {leaked:,} control customers were published in the window: start a new one")
    if days_seen < design.horizon_days:
        return Verdict(
            "none", f"too early: {days_seen} of {design.horizon_days} days have been seen; the horizon is fixed"
        )
    effect, level = primary.adjusted, f"{design.confidence:.0%}"
    if effect.low > 0:
        return Verdict("treated", f"the lists bring customers back: the {level} interval lies above 0")
    if effect.high < 0:
        return Verdict("control", f"the lists keep customers away: the {level} interval lies below 0")
    return Verdict("none", f"no difference shown: the {level} interval holds 0")


def _slopes(treated: Moments, control: Moments) -> Floats:
    """Least-squares slopes of the outcome on the covariates within the groups; constant covariates get 0."""
    freedom = treated.customers + control.customers - 2
    pooled = ((treated.customers - 1) * treated.covariance + (control.customers - 1) * control.covariance) / freedom
    deviations = np.sqrt(np.maximum(np.diag(pooled)[1:], 0))
    unit = np.where(deviations > 0, deviations, 1.0)
    # In units of their own deviations, so that the cut for covariates that say the same is fair to all.
    correlations = pooled[1:, 1:] / np.outer(unit, unit)
    slopes: Floats = np.linalg.pinv(correlations, rcond=1e-8, hermitian=True) @ (pooled[1:, 0] / unit) / unit
    return slopes


def _effect(treated: Moments, control: Moments, slopes: Floats, confidence: float) -> Effect:
    customers = treated.customers + control.customers
    centre = (treated.customers * treated.mean[1:] + control.customers * control.mean[1:]) / customers
    weights = np.concatenate([[1.0], -slopes])
    means, errors = [], []  # of treated, then of control; errors are squared standard errors
    for group in (treated, control):
        means.append(float(group.mean[0] - slopes @ (group.mean[1:] - centre)))
        errors.append(max(float(weights @ group.covariance @ weights), 0.0) / group.customers)
    difference, error = means[0] - means[1], math.sqrt(sum(errors))
    freedom = _welch(errors, [treated.customers, control.customers])
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom)) if error else float(difference == 0)
    ratio, spread = _ratio(means, errors)
    wide = float(stats.t.ppf((1 + confidence) / 2, freedom)) * spread
    low, high = difference - reach, difference + reach
    return Effect(difference, low, high, ratio - 1, ratio - 1 - wide, ratio - 1 + wide, error, p_value)


def _welch(errors: list[float], customers: list[int]) -> float:
    """Welch-Satterthwaite degrees of freedom."""
    total = sum(errors)
    parts = sum(error**2 / (n - 1) for error, n in zip(errors, customers, strict=True))
    return total**2 / parts if parts else float(sum(customers) - 2)


def _ratio(means: list[float], errors: list[float]) -> tuple[float, float]:
    """Ratio of the means, and its standard error by the delta method; not a number where control's mean is 0."""
    if means[1] == 0:
        return math.nan, math.nan
    ratio = means[0] / means[1]
    return ratio, math.sqrt(errors[0] + ratio**2 * errors[1]) / abs(means[1])


def _distance(design: Design) -> float:
    """Standard errors between no effect and one that is found with the design's power."""
    return float(stats.norm.ppf((1 + design.confidence) / 2) + stats.norm.ppf(design.power))
