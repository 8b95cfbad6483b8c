"""BG/NBD: who still buys here, and how often (Fader, Hardie & Lee 2005, "Counting Your Customers" the Easy Way).

Plain numpy and scipy: counts of purchase days in, parameters and expectations out. A customer buys at a rate of their
own (gamma: r, alpha) and may leave for good after any purchase with a probability of their own (beta: a, b).

Why no library fits it: pymc-marketing, the maintained one, has needed Python 3.12 since 0.19.3, and 0.19.2 brings 40
more packages and compiles for a minute a night; lifetimes and btyd have had no release since 2020 and 2022; clvkit
needs pandas 3. tests/bench/bgnbd.py holds this fit against pymc-marketing 0.19.2 and lifetimes 0.11.3.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, gammaln, hyp2f1, psi

Floats = NDArray[np.float64]

#: Bounds of the logarithms of the parameters: far outside what any shop has, well inside what a double can hold.
_LOG_BOUND = 12.0
#: The expectation divides by a - 1; so near to 1 the limit is taken from beside it.
_NEAR_ONE = 1e-6
#: The series of 2F1 ends where a term adds less than this; its terms shrink at least as fast as z ** n.
_SERIES_END, _SERIES_TERMS = 1e-15, 10_000


@dataclass(frozen=True)
class Parameters:
    """Of the purchase rate, gamma(r, alpha) in 1/time unit, and of the dropout probability, beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True)
class Fit:
    """Parameters of greatest likelihood with their log-likelihood, over so many customers."""

    parameters: Parameters
    log_likelihood: float
    customers: int


class NotFitted(Exception):
    """The purchases say too little for the model: its likelihood has no maximum that could be found."""


def log_likelihood(parameters: Parameters, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Each customer's log-likelihood: equation 6 of the paper, in the form that does not overflow.

    `frequency` counts purchase days after the first, `recency` is the time from the first to the last of them, `age`
    that from the first to now; one unit of time for all.
    """
    return _terms(np.array(astuple(parameters)), frequency, recency, age)[0]


def fit(frequency: Floats, recency: Floats, age: Floats) -> Fit:
    """Find the parameters of greatest likelihood; NotFitted if no start ends in a maximum.

    Parameters are rounded to six digits, so that machines whose arithmetic differs in the last bits agree on them.
    """
    # Customers with equal counts have equal likelihoods: a shop has far fewer kinds of customers than customers.
    kinds, customers = np.unique(np.column_stack([frequency, recency, age]).astype(float), axis=0, return_counts=True)
    if len(kinds) < 2 or not (kinds[:, 0] > 0).any():
        raise NotFitted("no customer has come back")
    scale = float(kinds[:, 2].max())
    x, t_x, t = kinds[:, 0], kinds[:, 1] / scale, kinds[:, 2] / scale
    weights = customers / customers.sum()

    def loss(logs: Floats) -> tuple[float, Floats]:
        values = np.exp(logs)
        likelihood, gradient = _terms(values, x, t_x, t)
        return -float(weights @ likelihood), -(gradient @ weights) * values

    starts = np.log([[0.5, 0.5, 0.5, 2.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.1, 0.1, 3.0]])
    bounds = [(-_LOG_BOUND, _LOG_BOUND)] * 4
    ends = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-8})
        for start in starts
    ]
    found = [end for end in ends if np.isfinite(end.fun) and _is_flat(end.x, loss(end.x)[1])]
    if not found:
        raise NotFitted("the likelihood has no maximum within reach")
    best = min(found, key=lambda end: float(end.fun))
    r, alpha, a, b = np.exp(best.x)
    parameters = Parameters(*(float(f"{value:.6g}") for value in (r, alpha * scale, a, b)))
    total = float(customers @ log_likelihood(parameters, kinds[:, 0], kinds[:, 1], kinds[:, 2]))
    return Fit(parameters, total, int(customers.sum()))


def p_alive(parameters: Parameters, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Probability that a customer has not left, given the counts; 1 for who bought once: one leaves on coming back."""
    p = parameters
    repeats = np.maximum(frequency, 1)
    grown = np.log(p.a) - np.log(p.b + repeats - 1) + (p.r + frequency) * np.log((p.alpha + age) / (p.alpha + recency))
    alive: Floats = np.where(frequency > 0, expit(-grown), 1.0)
    return alive


def expected_purchases(parameters: Parameters, days: float, frequency: Floats, recency: Floats, age: Floats) -> Floats:
    """Purchase days expected in the next `days` (in the unit of `age`), given the counts: equation 10 of the paper.

    Written with Euler's transformation of 2F1, whose arguments do not grow with the customer's purchases.
    """
    p = parameters
    a = p.a if abs(p.a - 1) > _NEAR_ONE else 1 + _NEAR_ONE
    z = days / (p.alpha + age + days)
    remaining = (1 - z) ** (a - 1) * _hyp2f1(a + p.b - 1 - p.r, a - 1, a + p.b + frequency - 1, z)
    expected = (a + p.b + frequency - 1) / (a - 1) * (1 - remaining) * p_alive(p, frequency, recency, age)
    nonnegative: Floats = np.maximum(expected, 0.0)
    return nonnegative


def _hyp2f1(a: float, b: float, c: Floats, z: Floats) -> Floats:
    """Gauss's 2F1 for 0 <= z < 1; scipy's overflows for many purchases (large c - a - b whole, z > 0.9)."""
    value: Floats = np.array(hyp2f1(a, b, c, z), dtype=np.float64)
    lost = ~np.isfinite(value)
    if lost.any():  # c is large there, so the defining series converges fast
        c, z = c[lost], z[lost]
        term, total = np.ones_like(z), np.ones_like(z)
        for n in range(_SERIES_TERMS):
            term = term * ((a + n) * (b + n) / ((c + n) * (n + 1))) * z
            total += term
            if np.abs(term).max() < _SERIES_END:
                break
        value[lost] = total
    return value


def _terms(values: Floats, x: Floats, t_x: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Log-likelihood of each customer, (n,), and its gradient by r, alpha, a, b, (4, n)."""
    r, alpha, a, b = values
    repeats = np.maximum(x, 1)
    stayed = -(r + x) * np.log(alpha + t)
    left = np.where(x > 0, np.log(a) - np.log(b + repeats - 1) - (r + x) * np.log(alpha + t_x), -np.inf)
    either = np.logaddexp(stayed, left)
    likelihood: Floats = (
        gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        + gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        + either
    )  # fmt: skip
    p_stayed, p_left = np.exp(stayed - either), np.exp(left - either)
    shared = psi(a + b) - psi(a + b + x)
    gradient: Floats = np.stack(
        [
            psi(r + x) - psi(r) + np.log(alpha) - p_stayed * np.log(alpha + t) - p_left * np.log(alpha + t_x),
            r / alpha - (r + x) * (p_stayed / (alpha + t) + p_left / (alpha + t_x)),
            shared + p_left / a,
            shared + psi(b + x) - psi(b) - p_left / (b + repeats - 1),
        ]
    )
    return likelihood, gradient


def _is_flat(logs: Floats, gradient: Floats) -> bool:
    """Whether no direction inside the bounds goes further down."""
    at_low, at_high = logs <= -_LOG_BOUND, logs >= _LOG_BOUND
    free = np.where(at_low, np.minimum(gradient, 0), np.where(at_high, np.maximum(gradient, 0), gradient))
    return bool(np.abs(free).max() < 1e-4)
