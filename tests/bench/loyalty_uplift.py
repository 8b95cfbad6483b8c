"""Does the evaluation find what was planted? Simulated shops with a known uplift, many seeds.

    python -m tests.bench.loyalty_uplift [--quick] [--json]

Each customer buys at a rate of their own (gamma) and, as in BG/NBD, may have left; purchases of the 28 days before
and after the start are drawn; the treated customers' rate afterwards is multiplied by 1 + uplift. The truth of each
outcome is known in closed form, so its interval either holds it or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.evaluation.experiment import Comparison, ExperimentDesign, Moments, compare_groups, ratio_mismatch, verdict

DAYS = 28
DESIGN = ExperimentDesign(control_share=0.2, horizon_days=DAYS)
UPLIFTS = (0.0, 0.02, 0.05)
OUTCOMES = ("repeat_purchase_rate", "days_to_next_purchase", "spend")
#: Rates of purchase a day are gamma(SHAPE, SCALE days): the mean customer buys every 25 days, most far less often.
SHAPE, SCALE = 0.8, 20.0
STAYED = 0.7
BASKET = 30.0


@dataclass(frozen=True)
class Shop:
    """Per customer (n,): group, covariates of before (n, m) and outcomes of after."""

    control: np.ndarray
    before: np.ndarray
    outcomes: dict[str, np.ndarray]


def shop(customers: int, uplift: float, seed: int) -> Shop:
    """Draw a shop; groups are drawn independently of everything, as the hash does."""
    rng = np.random.default_rng([seed, round(uplift * 1e4)])
    control = rng.random(customers) < DESIGN.control_share
    rate = rng.gamma(SHAPE, 1 / SCALE, customers) * (rng.random(customers) < STAYED)
    past = rng.poisson(rate * 180)
    recent = rng.binomial(past, DAYS / 180)
    rate_after = np.where(control, rate, rate * (1 + uplift))
    first = rng.exponential(1 / np.maximum(rate_after, 1e-12))
    more = rng.poisson(rate_after * np.maximum(DAYS - first, 0))
    bought = (first < DAYS).astype(float)
    purchases = bought + np.where(bought, more, 0)
    baskets = np.where(purchases > 0, rng.gamma(np.maximum(2 * purchases, 1e-9), BASKET / 2), 0.0)
    return Shop(
        control,
        np.column_stack([past, recent, recent > 0, np.log1p(past)]).astype(float),
        {
            "repeat_purchase_rate": bought,
            "days_to_next_purchase": np.minimum(first, DAYS),
            "spend": baskets,
        },
    )


def truth(outcome: str, uplift: float) -> float:
    """Expected difference of treated and control in a shop with this uplift."""
    return _mean(outcome, 1 + uplift) - _mean(outcome, 1.0)


def _mean(outcome: str, factor: float) -> float:
    scale = SCALE / factor  # a gamma rate times a factor is gamma again
    if outcome == "spend":
        return STAYED * SHAPE / scale * DAYS * BASKET
    if outcome == "repeat_purchase_rate":
        return STAYED * (1 - (scale / (scale + DAYS)) ** SHAPE)
    # Mean days until the next purchase or the horizon: the integral of the share that has not bought yet.
    waiting = scale**SHAPE * ((scale + DAYS) ** (1 - SHAPE) - scale ** (1 - SHAPE)) / (1 - SHAPE)
    return STAYED * waiting + (1 - STAYED) * DAYS


def comparisons(customers: int, uplift: float, seeds: int) -> Iterator[tuple[dict[str, Comparison], str]]:
    """Each seed's comparisons and the winner that is called on the primary outcome."""
    for seed in range(seeds):
        drawn = shop(customers, uplift, seed)
        found = {}
        for outcome, values in drawn.outcomes.items():
            rows = np.column_stack([values, drawn.before])
            found[outcome] = compare_groups(Moments.of(rows[~drawn.control]), Moments.of(rows[drawn.control]), DESIGN)
        controls = int(drawn.control.sum())
        mismatch = ratio_mismatch(customers - controls, controls, DESIGN.control_share)
        yield found, verdict(found["repeat_purchase_rate"], DESIGN, DAYS, mismatch).winner


def summary(customers: int, uplift: float, seeds: int) -> dict[str, float]:
    """Coverage of each outcome's interval, winners called, and what CUPED gained; counts over `seeds`."""
    figures: dict[str, float] = {"treated_wins": 0, "control_wins": 0}
    reductions: dict[str, list[float]] = {outcome: [] for outcome in OUTCOMES}
    for found, winner in comparisons(customers, uplift, seeds):
        if winner != "none":
            figures[f"{winner}_wins"] += 1
        for outcome, one in found.items():
            for kind, effect in (("plain", one.plain), ("cuped", one.adjusted)):
                held = effect.low <= truth(outcome, uplift) <= effect.high
                figures[f"{outcome}.{kind}.held"] = figures.get(f"{outcome}.{kind}.held", 0) + held
            shown = (one.plain.low > 0 or one.plain.high < 0, one.adjusted.low > 0 or one.adjusted.high < 0)
            for kind, is_shown in zip(("plain", "cuped"), shown, strict=True):
                figures[f"{outcome}.{kind}.shown"] = figures.get(f"{outcome}.{kind}.shown", 0) + is_shown
            reductions[outcome].append(one.variance_reduction)
        figures["detectable"] = figures.get("detectable", one.detectable)
    return figures | {f"{outcome}.variance_reduction": float(np.mean(v)) for outcome, v in reductions.items()}


def main() -> None:
    from tests.bench.measure import arguments, report

    options = arguments(__doc__ or "")
    customers, seeds = (20_000, 10) if options.quick else (200_000, 100)
    rows, figures = {}, {}
    for uplift in UPLIFTS:
        found = summary(customers, uplift, seeds)
        figures[f"{uplift:.0%}"] = found
        for outcome in OUTCOMES:
            rows[f"{uplift:.0%} {outcome}"] = {
                "interval holds the truth": f"{found[f'{outcome}.cuped.held']:.0f} of {seeds}",
                "without CUPED": f"{found[f'{outcome}.plain.held']:.0f}",
                "effect shown": f"{found[f'{outcome}.cuped.shown']:.0f}",
                "shown without CUPED": f"{found[f'{outcome}.plain.shown']:.0f}",
                "variance removed by CUPED": f"{found[f'{outcome}.variance_reduction']:.0%}",
                "winner called (treated / control)": f"{found['treated_wins']:.0f} / {found['control_wins']:.0f}"
                if outcome == OUTCOMES[0]
                else "",
            }
    report(f"Planted uplift, {customers:,} customers, control 20%, {DAYS} days", rows, figures, options.json)


if __name__ == "__main__":
    main()
