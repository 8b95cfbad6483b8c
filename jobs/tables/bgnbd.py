"""The BG/NBD model: which customers are still alive and how often they buy.

Source: Fader, Hardie & Lee 2005, "Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model.
A customer's purchase rate follows gamma(r, alpha). After each purchase the customer drops out with a probability that
follows beta(a, b).

No library fits here. pymc-marketing has needed Python 3.12 since 0.19.3; 0.19.2 adds 40 packages and compiles for a
minute per night. lifetimes and btyd have had no release since 2020 and 2022. clvkit needs pandas 3.
tests/bench/bgnbd.py compares this fit with pymc-marketing 0.19.2 and lifetimes 0.11.3.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, gammaln, hyp2f1, psi

Floats = NDArray[np.float64]

#: Bound of the parameters' absolute logarithms: far beyond any shop's values and safe in double precision.
_LOG_BOUND = 12.0
#: The expectation divides by a - 1; an a this close to 1 is moved away from it.
_NEAR_ONE = 1e-6
#: The series of 2F1 stops at a smaller term; its terms shrink at least as fast as z ** n.
_SERIES_TOLERANCE, _MAX_SERIES_TERMS = 1e-15, 10_000


@dataclass(frozen=True)
class Parameters:
    """Parameters of the purchase rate, gamma(r, alpha) in 1/time unit, and of the dropout probability, beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True)
class BgnbdFit:
    """Maximum-likelihood parameters, their log-likelihood and the number of customers fitted."""

    parameters: Parameters
    log_likelihood: float
    customers: int


class NotFitted(Exception):
    """The likelihood has no maximum that the optimiser can find; the purchases hold too little information."""


def log_likelihood(parameters: Parameters, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Return each customer's log-likelihood (n,): equation 6 of the paper in a form that does not overflow.

    `frequency` (n,) counts purchase days after the first. `recency` (n,) is the time from the first to the last
    purchase day and `age` (n,) the time from the first one to now, both in the same unit.
    """
    return _likelihood_and_gradient(np.array(astuple(parameters)), frequency, recency, age)[0]


def fit_bgnbd(frequency: Floats, recency: Floats, age: Floats) -> BgnbdFit:
    """Fit the parameters by maximum likelihood to `frequency`, `recency` and `age` (n,), as in `log_likelihood`.

    Parameters are rounded to six digits, which hides differences in the last bits between machines.
    Raises NotFitted where no start of the optimiser ends in a maximum.
    """
    # Customers with equal counts have equal likelihoods, so each distinct triple is evaluated once.
    triples, customers = np.unique(np.column_stack([frequency, recency, age]).astype(float), axis=0, return_counts=True)
    if len(triples) < 2 or not (triples[:, 0] > 0).any():
        raise NotFitted("no customer has come back")
    scale = float(triples[:, 2].max())
    x, t_x, t = triples[:, 0], triples[:, 1] / scale, triples[:, 2] / scale
    weights = customers / customers.sum()

    def loss(logs: Floats) -> tuple[float, Floats]:
        values = np.exp(logs)
        likelihood, gradient = _likelihood_and_gradient(values, x, t_x, t)
        return -float(weights @ likelihood), -(gradient @ weights) * values

    starts = np.log([[0.5, 0.5, 0.5, 2.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.1, 0.1, 3.0]])
    bounds = [(-_LOG_BOUND, _LOG_BOUND)] * 4
    ends = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-8})
        for start in starts
    ]
    optima = [end for end in ends if np.isfinite(end.fun) and _is_optimum(end.x, loss(end.x)[1])]
    if not optima:
        raise NotFitted("the likelihood has no maximum within the bounds")
    best = min(optima, key=lambda end: float(end.fun))
    r, alpha, a, b = np.exp(best.x)
    parameters = Parameters(*(float(f"{value:.6g}") for value in (r, alpha * scale, a, b)))
    total = float(customers @ log_likelihood(parameters, triples[:, 0], triples[:, 1], triples[:, 2]))
    return BgnbdFit(parameters, total, int(customers.sum()))


def p_alive(parameters: Parameters, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Return the probability (n,) that each customer is alive.

    It is 1 for customers with one purchase day, because the model drops customers out at repeat purchases only.
    """
    p = parameters
    repeats = np.maximum(frequency, 1)
    growth = np.log((p.alpha + age) / (p.alpha + recency))
    log_odds_of_dropout = np.log(p.a) - np.log(p.b + repeats - 1) + (p.r + frequency) * growth
    alive: Floats = np.where(frequency > 0, expit(-log_odds_of_dropout), 1.0)
    return alive


def expected_purchases(parameters: Parameters, days: float, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Return the purchase days (n,) expected in the next `days`, in the unit of `age`: equation 10 of the paper.

    Euler's transformation keeps the arguments of 2F1 small for customers with many purchases.
    """
    p = parameters
    a = p.a if abs(p.a - 1) > _NEAR_ONE else 1 + _NEAR_ONE
    z = days / (p.alpha + age + days)
    remaining = (1 - z) ** (a - 1) * _hyp2f1(a + p.b - 1 - p.r, a - 1, a + p.b + frequency - 1, z)
    expected = (a + p.b + frequency - 1) / (a - 1) * (1 - remaining) * p_alive(p, frequency, recency, age)
    nonnegative: Floats = np.maximum(expected, 0.0)
    return nonnegative


def _hyp2f1(a: float, b: float, c: Floats, z: Floats) -> Floats:
    """Return Gauss's 2F1 for 0 <= z < 1, also where scipy's overflows (whole, large c - a - b and z > 0.9)."""
    value: Floats = np.array(hyp2f1(a, b, c, z), dtype=np.float64)
    overflowed = ~np.isfinite(value)
    if overflowed.any():  # c is large there, so the defining series converges fast
        c, z = c[overflowed], z[overflowed]
        term, total = np.ones_like(z), np.ones_like(z)
        for n in range(_MAX_SERIES_TERMS):
            term = term * ((a + n) * (b + n) / ((c + n) * (n + 1))) * z
            total += term
            if np.abs(term).max() < _SERIES_TOLERANCE:
                break
        value[overflowed] = total
    return value


def _likelihood_and_gradient(values: Floats, x: Floats, t_x: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Return each customer's log-likelihood (n,) and its gradient by r, alpha, a, b (4, n)."""
    r, alpha, a, b = values
    repeats = np.maximum(x, 1)
    alive = -(r + x) * np.log(alpha + t)
    dropped = np.where(x > 0, np.log(a) - np.log(b + repeats - 1) - (r + x) * np.log(alpha + t_x), -np.inf)
    either = np.logaddexp(alive, dropped)
    likelihood: Floats = (
        gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        + gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        + either
    )  # fmt: skip
    p_alive_now, p_dropped = np.exp(alive - either), np.exp(dropped - either)
    shared = psi(a + b) - psi(a + b + x)
    gradient: Floats = np.stack(
        [
            psi(r + x) - psi(r) + np.log(alpha) - p_alive_now * np.log(alpha + t) - p_dropped * np.log(alpha + t_x),
            r / alpha - (r + x) * (p_alive_now / (alpha + t) + p_dropped / (alpha + t_x)),
            shared + p_dropped / a,
            shared + psi(b + x) - psi(b) - p_dropped / (b + repeats - 1),
        ]
    )
    return likelihood, gradient


def _is_optimum(logs: Floats, gradient: Floats) -> bool:
    """Return whether the loss falls in no direction inside the bounds."""
    at_low, at_high = logs <= -_LOG_BOUND, logs >= _LOG_BOUND
    free = np.where(at_low, np.minimum(gradient, 0), np.where(at_high, np.maximum(gradient, 0), gradient))
    return bool(np.abs(free).max() < 1e-4)
