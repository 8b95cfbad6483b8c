"""Figures of a training on held-out purchases, beside those of counting, and what they say in a sentence.

The figures are `customers`, with the time split `held_out_days` (the newest days whose purchases are all held out),
recall@10 and NDCG@10 with 95% intervals (`_low`, `_high`), and the same of each baseline with its name before. A
baseline also has `lead_ndcg@10`: the model's NDCG@10 less its own, customer by customer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lm.metrics import baselines, metrics
from lm.recommend_training.held_out import Split
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents

K = 10
#: What is printed of each baseline, and what its keys begin with.
BASELINES = {"co-purchase": "co_purchase_", "popularity": "popularity_", "buy again": "buy_again_"}
#: GPT-2's weight in the lists, and the NDCG@10 of the mixture that counting alone replaced.
GPT2_WEIGHT, MOVED = "gpt2_weight", "mixture_ndcg@10"
#: Share of the customers with longer histories than lists read, from which on a note may say so.
CUT_SHARE = 0.1

Lists = Sequence[Sequence[str]]


def counting_lists(split: Split, items: Mapping[str, str], settings: RecommendTrainSettings) -> dict[str, Lists]:
    """The lists of each baseline for the test customers; buy again only where lists may repeat purchases."""
    bought = [
        [str(event.item_id) for event in customer.events if event.kind == BOUGHT and event.item_id in items]
        for customer in split.training
    ]
    own = [[str(e.item_id) for e in one.events if e.kind == BOUGHT and e.item_id in items] for one in split.test]
    barred = [one.purchased if settings.exclude_purchased else frozenset[str]() for one in split.test]
    popular = baselines.popularity(bought)
    found: dict[str, Lists] = {
        "popularity": baselines.recommend_popular(popular, barred, K),
        "co-purchase": baselines.CoPurchases.fit(bought).recommend(own, popular, barred, K),
    }
    if not settings.exclude_purchased:
        found["buy again"] = baselines.recommend_again(own, popular, K)
    return found


def held_out_figures(
    lists: Lists, counting: Mapping[str, Lists], split: Split, settings: RecommendTrainSettings
) -> dict[str, float]:
    """The figures of `lists` and of the baselines' lists `counting`, each for the test customers."""
    relevant = [one.items for one in split.test]
    figures = {"customers": float(len(relevant))}
    if split.last_training_day is not None:
        newest = max(customer.days[-1] for customer in split.refit if customer.days)
        figures["held_out_days"] = float(newest - split.last_training_day)
    ours = metrics.ndcg_at_k(lists, relevant, K)
    for name, of_name in {"": lists, **counting}.items():
        ndcg = metrics.ndcg_at_k(of_name, relevant, K)
        values = {f"recall@{K}": metrics.recall_at_k(of_name, relevant, K), f"ndcg@{K}": ndcg}
        if name:
            values[f"lead_ndcg@{K}"] = ours - ndcg
        for key, of_customers in values.items():
            mean, low, high = metrics.mean_interval(of_customers, seed=settings.seed)
            full = BASELINES.get(name, "") + key
            figures |= {full: mean, f"{full}_low": low, f"{full}_high": high}
    return figures


class _Lead(NamedTuple):
    """The model's lead on a baseline with its interval, which too few customers do not have."""

    value: float
    low: float
    high: float
    has_interval: bool


def _leads(figures: Mapping[str, float]) -> dict[str, _Lead]:
    found = {}
    for name, prefix in BASELINES.items():
        if f"{prefix}lead_ndcg@{K}" in figures:
            value, low, high = (figures[f"{prefix}lead_ndcg@{K}{end}"] for end in ("", "_low", "_high"))
            found[name] = _Lead(value, low, high, metrics.has_interval(int(figures["customers"]), low, high))
    return found


def is_worse(figures: Mapping[str, float]) -> bool:
    """Whether a baseline is better beyond the interval."""
    return any(lead.high < 0 and lead.has_interval for lead in _leads(figures).values())


def verdict(figures: Mapping[str, float]) -> str:
    """One paragraph: whether the lists are better than each baseline, and what was done if they are not."""
    leads = _leads(figures)
    told = [_compared(name, lead) for name, lead in sorted(leads.items(), key=lambda one: one[1].value)]
    found = f"NDCG@{K} of held-out purchases: {', '.join(told)}."
    weight = figures.get(GPT2_WEIGHT)
    if MOVED in figures:
        still = " They are better, and still worse than a baseline." if is_worse(figures) else ""
        return (
            f"{found} A baseline was better than the mixture with GPT-2 ({figures[MOVED]:.3f}), so counting alone "
            f"makes the lists.{still}"
        )
    if is_worse(figures) and weight is None:
        return (
            f"{found} Counting has no part in these lists. It needs train.recommend.coding item_tokens and "
            "train.recommend.neighbours true."
        )
    if is_worse(figures):
        return (
            f"{found} Counting alone makes no better lists, so the mixture stays. More customers or days to learn from "
            "may help."
        )
    if weight is not None and any(lead.low <= 0 or not lead.has_interval for lead in leads.values()):
        if round(weight, 2) == 0:
            return f"{found} Validation purchases gave GPT-2 no weight, so counting makes the lists."
        return f"{found} Validation purchases gave GPT-2 the weight {weight:.2f}, and counting the rest."
    return found


def _compared(name: str, of: _Lead) -> str:
    lead, low, high, has_interval = of
    if lead == low == high == 0:
        return f"as good as {name} for every customer"
    if not has_interval:
        return f"{lead:+.3f} beside {name}, of too few customers to tell"
    if high < 0:
        return f"worse than {name} by {-lead:.3f} ({-high:.3f} to {-low:.3f})"
    compared = f"better than {name} by" if low > 0 else f"not shown to differ from {name}:"
    return f"{compared} {lead:+.3f} ({low:+.3f} to {high:+.3f})"


def cut_histories_note(figures: Mapping[str, float], customers: Sequence[CustomerEvents], most: int) -> str | None:
    """A note where buy again is ahead, and it counts purchases that lists do not read; None elsewhere.

    `most` is the number of a customer's newest events that lists read.
    """
    longer = sum(len(one.events) > most for one in customers)
    if figures.get(f"buy_again_lead_ndcg@{K}", 0.0) >= 0 or longer < CUT_SHARE * len(customers):
        return None
    return (
        f"Lists read the newest {most:,} events of a customer (recommend.history_events), and "
        f"{longer / len(customers):.0%} of the customers have more, which buy again counts. A larger number, such as "
        f"{4 * most:,}, may lift the lists above it. recommend.prompt_tokens and train.recommend.max_tokens must leave "
        "room for one token an event."
    )
