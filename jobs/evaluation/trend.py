"""Says whether a figure changed over dates, by a weighted straight line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np

#: Half the width of a 95% interval of a normal distribution, in standard errors.
_NORMAL = 1.96


class Estimate(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def change(days: Sequence[date], figures: Sequence[Estimate], customers: Sequence[int]) -> Estimate:
    """Return how much a straight line through the figures rises from the first day to the last.

    Least squares weighted by the inverse variances. Where the figures scatter more than their intervals explain, the
    interval is widened by the root of chi-square by its degrees of freedom (Birge, 1932). Dates count as independent;
    customers who are judged on several dates make the true interval narrower. An error below one customer's full
    gain, such as that of figures which are all 0, counts as that. Raises ValueError with fewer than two days.
    """
    if len(set(days)) < 2:
        raise ValueError("a change needs two days")
    at = np.array([day.toordinal() for day in days], dtype=np.float64)
    value = np.array([one.value for one in figures])
    error = np.array([(one.high - one.low) / (2 * _NORMAL) for one in figures])
    weight = np.maximum(error, 1 / np.maximum(customers, 1)) ** -2.0
    centre = np.average(at, weights=weight)
    spread = (weight * (at - centre) ** 2).sum()
    slope = (weight * (at - centre) * value).sum() / spread
    variance = 1 / spread
    if len(days) > 2:
        line = np.average(value, weights=weight) + slope * (at - centre)
        variance *= max(1.0, (weight * (value - line) ** 2).sum() / (len(days) - 2))
    span = at.max() - at.min()
    rise, half = float(slope * span), _NORMAL * math.sqrt(variance) * float(span)
    return Estimate(rise, rise - half, rise + half)
