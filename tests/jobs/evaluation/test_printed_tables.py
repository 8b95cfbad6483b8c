"""The tables that `regulars evaluate` prints fit a terminal of 100 columns, and few customers are told."""

from __future__ import annotations

import io
from datetime import date

import numpy as np
import pytest
from rich.console import Console

from jobs.evaluation.experiment import ExperimentDesign, Moments, Verdict, compare_groups
from jobs.evaluation.loyalty_uplift import LoyaltyReport, _print_report
from jobs.evaluation.ranking_figures import cell, compare_with_baselines, print_figures
from jobs.evaluation.time_split import JudgedCustomer


def widest(text: str) -> int:
    """The longest line of a table; sentences may wrap."""
    return max(len(line) for line in text.splitlines() if line[:1] in "┏┃│└")


@pytest.mark.parametrize(("customers", "is_told"), [(99, True), (100, False)])
def test_ranking_figures(customers, is_told):
    judged = [JudgedCustomer(["a", "b"], ["c"] * (n % 40), ["a" if n % 2 else "d"]) for n in range(customers)]
    figures = compare_with_baselines(judged, [["a", "c"], ["b"]], ["a", "b", "c", "d"], [2], new_only=True)
    log = io.StringIO()
    print_figures(Console(file=log, width=300), "new items, 14 days after 2026-03-01", figures, 2)
    assert widest(log.getvalue()) <= 100
    assert "30 or more purchases" in log.getvalue()
    assert ("only 99 customers are judged" in log.getvalue()) == is_told


@pytest.mark.parametrize(
    ("low", "high", "customers", "shown"),
    [
        (1.0, 1.0, 1, "1.000 (too few)"),
        (1.0, 1.0, 9, "1.000 (too few)"),
        (1.0, 1.0, 10, "1.000 (1.000–1.000)"),
        (0.5, 1.0, 2, "1.000 (0.500–1.000)"),
        (-0.5, 1.5, 2, "1.000 (-0.500 to 1.500)"),
    ],
)
def test_a_figure_of_too_few_customers_has_no_interval(low, high, customers, shown):
    assert cell({"value": 1.0, "low": low, "high": high}, customers) == shown


@pytest.mark.parametrize(("customers", "is_told"), [(99, True), (1000, False)])
def test_loyalty_figures(customers, is_told):
    rng = np.random.default_rng(0)
    design = ExperimentDesign(0.2, 28)
    groups = [Moments.of(rng.normal([0.8, 3], [0.3, 1], (n, 2))) for n in (4000, customers)]
    names = ("repeat_purchase_rate", "days_to_next_purchase", "spend", "sentiment")
    outcomes = {name: compare_groups(*groups, design) for name in names}
    verdict = Verdict("none", "no difference shown: the 95% interval holds 0")
    report = LoyaltyReport(date(2026, 2, 1), date(2026, 3, 1), 28, 28, 4000, customers, 0.5, 0, verdict, outcomes)
    log = io.StringIO()
    _print_report(report, design, Console(file=log, width=300))
    assert widest(log.getvalue()) <= 100
    assert ("fewer than 100 customers" in log.getvalue()) == is_told
