"""BG/NBD against the published figures, mpmath in 50 digits, and samples of the process."""

from __future__ import annotations

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from jobs.tables import bgnbd
from jobs.tables.bgnbd import NotFitted, Parameters
from tests import ROOT

#: The 2,357 CDNOW customers of Fader, Hardie & Lee 2005 (bought first in the first 12 weeks of 1997; 39 weeks seen).
CDNOW = pd.read_csv(ROOT / "tests/cdnow.csv")
PUBLISHED = Parameters(0.243, 4.414, 0.793, 2.426)  # table 2 of the paper, time in weeks


def cdnow_weeks() -> list[np.ndarray]:
    rows = CDNOW.loc[CDNOW.index.repeat(CDNOW.customers)]
    return [rows.frequency.to_numpy(float), rows.recency_days.to_numpy() / 7, rows.age_days.to_numpy() / 7]


def test_the_fit_finds_the_published_parameters():
    fit = bgnbd.fit_bgnbd(*cdnow_weeks())
    assert fit.customers == 2357
    assert fit.log_likelihood == pytest.approx(-9582.4, abs=0.1)
    found = fit.parameters
    assert (found.r, found.alpha) == (pytest.approx(0.243, abs=5e-4), pytest.approx(4.414, abs=5e-4))
    assert (found.a, found.b) == (pytest.approx(0.793, abs=1e-3), pytest.approx(2.426, abs=2e-3))


def test_the_unit_of_time_changes_alpha_alone():
    weeks = bgnbd.fit_bgnbd(*cdnow_weeks()).parameters
    x, t_x, t = cdnow_weeks()
    days = bgnbd.fit_bgnbd(x, t_x * 7, t * 7).parameters
    assert days.alpha == pytest.approx(7 * weeks.alpha, rel=1e-3)
    assert [days.r, days.a, days.b] == pytest.approx([weeks.r, weeks.a, weeks.b], rel=1e-3)


def test_the_published_expectation_of_one_customer():
    # Fader & Hardie, "Implementing the BG/NBD model ... in Excel": customer 0001, the next 39 weeks.
    one = [np.array([2.0]), np.array([30.43]), np.array([38.86])]
    assert bgnbd.expected_purchases(PUBLISHED, 39, *one)[0] == pytest.approx(1.226, abs=5e-4)


shapes = st.floats(0.05, 20)
counts = st.integers(0, 400)


@settings(deadline=None, max_examples=60)
@example(r=1.0, alpha=1.0, a=2.0, b=1.0, x=99, last=1.0, t=1.0)  # scipy's hyp2f1 is infinite here
@given(r=shapes, alpha=st.floats(0.5, 500), a=shapes, b=shapes, x=counts, last=st.floats(0, 1), t=st.floats(1, 700))
def test_the_expectation_is_equation_10_in_50_digits(r, alpha, a, b, x, last, t):
    p = Parameters(r, alpha, a, b)
    t_x = last * t if x else 0.0
    got = bgnbd.expected_purchases(p, 30, np.array([float(x)]), np.array([t_x]), np.array([t]))[0]
    with mpmath.workdps(50):
        r, alpha, b, t_x, t = (mpmath.mpf(v) for v in (r, alpha, b, t_x, t))
        a = mpmath.mpf(a if abs(a - 1) > 1e-6 else 1 + 1e-6)
        z = 30 / (alpha + t + 30)
        f = mpmath.hyp2f1(r + x, b + x, a + b + x - 1, z)
        top = (a + b + x - 1) / (a - 1) * (1 - ((alpha + t) / (alpha + t + 30)) ** (r + x) * f)
        gone = a / (b + x - 1) * ((alpha + t) / (alpha + t_x)) ** (r + x) if x else 0
        wanted = float(top / (1 + gone))
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-8)


@settings(deadline=None, max_examples=60)
@given(r=shapes, alpha=st.floats(0.5, 500), a=shapes, b=shapes, x=counts, last=st.floats(0, 1), t=st.floats(1, 700))
def test_p_alive_is_a_probability_and_falls_with_silence(r, alpha, a, b, x, last, t):
    p = Parameters(r, alpha, a, b)
    ages = np.array([t, t + 30.0, t + 3000.0])
    alive = bgnbd.p_alive(p, np.full(3, float(x)), np.full(3, last * t if x else 0.0), ages)
    assert ((alive >= 0) & (alive <= 1)).all()
    assert (np.diff(alive) <= 0).all()
    assert x > 0 or (alive == 1).all()


def test_the_gradient_is_that_of_the_likelihood():
    x, t_x, t = np.array([0.0, 1, 7, 60]), np.array([0.0, 5, 90, 200]), np.array([30.0, 80, 91, 230])
    at = np.array([0.4, 12.0, 0.7, 2.2])
    _, gradient = bgnbd._likelihood_and_gradient(at, x, t_x, t)
    wanted = approx_fprime(at, lambda v: bgnbd._likelihood_and_gradient(v, x, t_x, t)[0].sum(), 1e-7)
    assert gradient.sum(axis=1) == pytest.approx(wanted, rel=1e-4)


def simulated(parameters: Parameters, customers: int, days: float, seed: int) -> list[np.ndarray]:
    """Sample frequency, recency and age (customers,) from the BG/NBD process."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(parameters.r, 1 / parameters.alpha, customers)
    leaves = rng.beta(parameters.a, parameters.b, customers)
    age = rng.uniform(days / 2, days, customers)
    frequency, recency, alive = np.zeros(customers), np.zeros(customers), np.ones(customers, bool)
    now = np.zeros(customers)
    while True:
        now = now + rng.exponential(1 / np.maximum(rate, 1e-12))
        alive = alive & (now <= age)
        if not alive.any():
            return [frequency, recency, age]
        frequency[alive] += 1
        recency[alive] = now[alive]
        alive = alive & (rng.random(customers) >= leaves)


def test_parameters_come_back_from_histories_drawn_with_them():
    truth = Parameters(0.6, 20.0, 0.9, 2.5)
    found = bgnbd.fit_bgnbd(*simulated(truth, 40_000, 400, seed=3)).parameters
    assert [found.r, found.alpha] == pytest.approx([truth.r, truth.alpha], rel=0.06)
    assert found.a / (found.a + found.b) == pytest.approx(truth.a / (truth.a + truth.b), rel=0.06)


def test_one_time_buyers_alone_cannot_be_fitted():
    with pytest.raises(NotFitted, match="come back"):
        bgnbd.fit_bgnbd(np.zeros(50), np.zeros(50), np.arange(50.0) + 1)


def test_the_order_of_customers_changes_nothing():
    columns = cdnow_weeks()
    order = np.random.default_rng(0).permutation(len(columns[0]))
    assert bgnbd.fit_bgnbd(*(c[order] for c in columns)) == bgnbd.fit_bgnbd(*columns)
