"""Statistics of the loyalty experiment: treated against control with intervals, CUPED, power and a verdict.

Everything is computed with numpy and scipy from moments (counts, means, covariances).
Spark computes the moments of any number of customers.

The horizon is fixed in the configuration before the window begins, and no winner is called before it ends.
Daily looks that stop at the first clear result are wrong far more often than 1 - confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

#: A sample-ratio mismatch below this p-value means that one group lost or gained customers: no winner is called.
MISMATCH_P_VALUE = 0.001


@dataclass(frozen=True)
class Moments:
    """Moments of one group: its customers, and mean (m,) and covariance (m, m) of an outcome and its covariates."""

    customers: int
    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Return the moments of `values` (n, m), one row per customer."""
        return cls(len(values), values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))

    @classmethod
    def of_nobody(cls, columns: int) -> Moments:
        """Return the moments of a group without customers."""
        return cls(0, np.zeros(columns), np.zeros((columns, columns)))

    def only(self, columns: Sequence[int]) -> Moments:
        """Return the moments of `columns` alone; the first one is the outcome."""
        keep = list(columns)
        return Moments(self.customers, self.mean[keep], self.covariance[np.ix_(keep, keep)])


@dataclass(frozen=True)
class Effect:
    """Treated minus control, in the outcome's unit and relative to control, each with its confidence interval."""

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
    """One outcome: both means, the effect without and with CUPED, and the smallest effect that this design detects."""

    treated: float
    control: float
    treated_customers: int
    control_customers: int
    plain: Effect
    adjusted: Effect
    #: Share of the effect's variance that CUPED removed.
    variance_reduction: float
    #: Smallest relative effect that this many customers detect with the configured power, with CUPED.
    detectable: float
    #: Customers of both groups together that detect `uplift_to_detect`, with CUPED; None where control's mean is 0.
    customers_needed: int | None


@dataclass(frozen=True)
class ExperimentDesign:
    """The experiment's settings, which are fixed before it starts."""

    control_share: float
    horizon_days: int
    confidence: float = 0.95
    power: float = 0.8
    uplift_to_detect: float = 0.02


@dataclass(frozen=True)
class Verdict:
    """The result: `winner` is treated, control or none, and `reason` explains it."""

    winner: str
    reason: str


def compare_groups(treated: Moments, control: Moments, design: ExperimentDesign) -> Comparison:
    """Compare two groups on the first column of their moments; the other columns are covariates from before the start.

    CUPED (Deng, Xu, Kohavi & Walker 2013) subtracts from the outcome what the covariates predict. Both groups share
    one slope per covariate. Intervals are Welch's; relative intervals use the delta method.
    Raises ValueError where a group has fewer than two customers.
    """
    if min(treated.customers, control.customers) < 2:
        raise ValueError("a group needs at least two customers to be compared")
    slopes = _slopes(treated, control)
    plain = _effect(treated, control, np.zeros_like(slopes), design.confidence)
    adjusted = _effect(treated, control, slopes, design.confidence)
    base = abs(float(control.mean[0]))
    detectable = _detectable_effect(adjusted.standard_error, design) / base if base else math.inf
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


def ratio_mismatch(treated: int, control: int, control_share: float) -> float:
    """Return the chi-square test's p-value that the group sizes fit `control_share`; 1 without customers."""
    customers = treated + control
    if not customers:
        return 1.0
    expected = [customers * (1 - control_share), customers * control_share]
    return float(stats.chisquare([treated, control], expected).pvalue)


def verdict(
    primary: Comparison, design: ExperimentDesign, days_seen: int, mismatch_p_value: float, leaked: int = 0
) -> Verdict:
    """Name the winner on the primary outcome, or the reason for none.

    `leaked` counts the control customers whose lists were published in the window.
    """
    if mismatch_p_value < MISMATCH_P_VALUE:
        return Verdict(
            "none",
            f"the group sizes do not fit the configured share (p = {mismatch_p_value:.1g}): look for lost or added "
            "customers",
        )
    if leaked:
        return Verdict(
            "none", f"lists of {leaked:,} control customers were published in the window: start a new experiment"
        )
    if days_seen < design.horizon_days:
        return Verdict("none", f"too early: the data cover {days_seen} of {design.horizon_days} days")
    effect, level = primary.adjusted, f"{design.confidence:.0%}"
    if effect.low > 0:
        return Verdict("treated", f"the lists bring customers back: the {level} interval lies above 0")
    if effect.high < 0:
        return Verdict("control", f"the lists keep customers away: the {level} interval lies below 0")
    return Verdict("none", f"no difference shown: the {level} interval contains 0")


def _slopes(treated: Moments, control: Moments) -> Floats:
    """Return the pooled least-squares slopes of the outcome on the covariates; constant covariates get 0."""
    freedom = treated.customers + control.customers - 2
    pooled = ((treated.customers - 1) * treated.covariance + (control.customers - 1) * control.covariance) / freedom
    deviations = np.sqrt(np.maximum(np.diag(pooled)[1:], 0))
    unit = np.where(deviations > 0, deviations, 1.0)
    # Standardised covariates make the cut-off of the pseudo-inverse independent of their units.
    correlations = pooled[1:, 1:] / np.outer(unit, unit)
    slopes: Floats = np.linalg.pinv(correlations, rcond=1e-8, hermitian=True) @ (pooled[1:, 0] / unit) / unit
    return slopes


def _effect(treated: Moments, control: Moments, slopes: Floats, confidence: float) -> Effect:
    customers = treated.customers + control.customers
    centre = (treated.customers * treated.mean[1:] + control.customers * control.mean[1:]) / customers
    weights = np.concatenate([[1.0], -slopes])
    means, errors = [], []  # treated first, then control; errors are squared standard errors
    for group in (treated, control):
        means.append(float(group.mean[0] - slopes @ (group.mean[1:] - centre)))
        errors.append(max(float(weights @ group.covariance @ weights), 0.0) / group.customers)
    difference, error = means[0] - means[1], math.sqrt(sum(errors))
    freedom = _welch_degrees_of_freedom(errors, [treated.customers, control.customers])
    quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
    margin = quantile * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom)) if error else float(difference == 0)
    ratio, ratio_error = _ratio(means, errors)
    relative, relative_margin = ratio - 1, quantile * ratio_error
    return Effect(
        difference=difference,
        low=difference - margin,
        high=difference + margin,
        relative=relative,
        relative_low=relative - relative_margin,
        relative_high=relative + relative_margin,
        standard_error=error,
        p_value=p_value,
    )


def _welch_degrees_of_freedom(errors: list[float], customers: list[int]) -> float:
    """Return the Welch-Satterthwaite degrees of freedom; `errors` are squared standard errors."""
    total = sum(errors)
    parts = sum(error**2 / (n - 1) for error, n in zip(errors, customers, strict=True))
    return total**2 / parts if parts else float(sum(customers) - 2)


def _ratio(means: list[float], errors: list[float]) -> tuple[float, float]:
    """Return the ratio of the means and its standard error by the delta method; NaN where control's mean is 0."""
    if means[1] == 0:
        return math.nan, math.nan
    ratio = means[0] / means[1]
    return ratio, math.sqrt(errors[0] + ratio**2 * errors[1]) / abs(means[1])


def _detectable_effect(standard_error: float, design: ExperimentDesign) -> float:
    """Return the smallest true difference that a two-sided test finds with the design's confidence and power."""
    quantiles = stats.norm.ppf((1 + design.confidence) / 2) + stats.norm.ppf(design.power)
    return standard_error * float(quantiles)
