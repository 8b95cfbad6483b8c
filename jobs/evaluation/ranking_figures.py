"""Ranking metrics of lists with confidence intervals, beside baselines and by slice.

`new_items` counts only purchases of items that the customer had never bought before; `all_items` counts every one.
The metrics are those of `lm.metrics.metrics` over the whole catalogue: hit@k, recall@k, NDCG@k with binary gains, MRR.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from jobs.spark.progress import warn
from lm.metrics import baselines, metrics

#: Lower bounds of the slices by the number of purchases before.
HISTORY_LENGTHS = (0, 3, 10, 30)
#: Below so many customers an interval is wide, and a warning says so.
FEW_CUSTOMERS = 100
RANKERS = ("model", "co-purchase", "popularity", "buy again")


class JudgedCustomer(NamedTuple):
    """One customer: the recommended items (best first) and those bought before and after (oldest first)."""

    listed: list[str]
    before: list[str]
    after: list[str]


def compare_with_baselines(
    judged: Sequence[JudgedCustomer],
    known: Sequence[Sequence[str]],
    sellable: Sequence[str],
    ks: Sequence[int],
    *,
    new_only: bool,
) -> dict[str, Any]:
    """Return the figures of the lists and of every baseline on the same customers.

    `known` holds each customer's purchases that the baselines learn from, `sellable` the items that may be listed.
    `new_only` drops earlier purchases from the relevant items and from the lists. Slots that they fill in a customer's
    list are judged for no ranker, and a customer without other slots is left out: such a list answers another question.
    The result has `customers` and, where there are any, `slices` and per ranker `metric@k -> {value, low, high}`.
    """
    k = max(ks)
    asked, excluded, listed, slots = [], [], [], []
    for one in judged:
        left_out = set(one.before) if new_only else set()
        relevant = set(one.after) - left_out
        free = k - sum(item in left_out for item in one.listed[:k])
        if relevant and free:
            asked.append((one, relevant))
            excluded.append(left_out)
            listed.append([item for item in one.listed if item not in left_out][:free])
            slots.append(free)
    figures: dict[str, Any] = {"customers": len(asked)}
    if not asked:
        return figures
    before = [one.before for one, _ in asked]
    popular = baselines.popularity(known, set(sellable))
    rankers = {
        "model": listed,
        "co-purchase": baselines.CoPurchases.fit(known).recommend(before, popular, excluded, k),
        "popularity": baselines.recommend_popular(popular, excluded, k),
    }
    if not new_only:
        rankers["buy again"] = baselines.recommend_again(before, popular, k)
    rankers = {
        name: [list(one[:free]) for one, free in zip(lists, slots, strict=True)] for name, lists in rankers.items()
    }
    counts = Counter(item for history in known for item in history)
    relevant_items = [relevant for _, relevant in asked]
    for ranker, lists in rankers.items():
        figures[ranker] = _ranking_metrics(lists, relevant_items, counts, max(len(sellable), 1), ks)
    judged_by = {"hit": metrics.hit_at_k, "recall": metrics.recall_at_k, "ndcg": metrics.ndcg_at_k}
    for name, metric in judged_by.items():
        per_customer = {ranker: metric(lists, relevant_items, k) for ranker, lists in rankers.items()}
        for ranker in list(rankers)[1:]:
            mean, low, high = metrics.mean_interval(per_customer["model"] - per_customer[ranker])
            figures[ranker][f"model_more_{name}@{k}"] = {"value": mean, "low": low, "high": high}
    figures["slices"] = _slices(rankers, before, relevant_items, counts, k)
    return figures


def _slices(
    rankers: Mapping[str, Sequence[list[str]]],
    before: Sequence[Sequence[str]],
    relevant: Sequence[set[str]],
    counts: Mapping[str, int],
    k: int,
) -> dict[str, dict[str, Any]]:
    """Return figures by the number of purchases before, and of cold items, which no one had bought.

    Each slice has `customers`, the model's recall and NDCG, and the model's lead over the baseline that is best in the
    slice by NDCG.
    """
    wanted_in: dict[str, dict[int, set[str]]] = {}  # name of the slice -> customer -> items
    for number, (history, wanted) in enumerate(zip(before, relevant, strict=True)):
        wanted_in.setdefault(_slice_of(len(history)), {})[number] = wanted
        if cold := {item for item in wanted if item not in counts}:
            wanted_in.setdefault("cold items", {})[number] = cold
    slices: dict[str, dict[str, Any]] = {}
    for name in sorted(wanted_in, key=lambda name: (name == "cold items", len(name.split("-")[0]), name)):
        of_slice = list(wanted_in[name].values())
        lists = {ranker: [of_all[number] for number in wanted_in[name]] for ranker, of_all in rankers.items()}
        ndcg = {ranker: metrics.ndcg_at_k(some, of_slice, k) for ranker, some in lists.items()}
        best = max((ranker for ranker in lists if ranker != "model"), key=lambda ranker: float(ndcg[ranker].mean()))
        recall = metrics.recall_at_k(lists["model"], of_slice, k)
        leads = ndcg["model"] - ndcg[best], recall - metrics.recall_at_k(lists[best], of_slice, k)
        values = {"recall": recall, "ndcg": ndcg["model"], "lead_ndcg": leads[0], "lead_recall": leads[1]}
        slices[name] = {"customers": float(len(of_slice)), "best_baseline": best}
        for metric, of_customers in values.items():
            mean, low, high = metrics.mean_interval(of_customers)
            slices[name] |= {f"{metric}@{k}": mean, f"{metric}@{k}_low": low, f"{metric}@{k}_high": high}
    return slices


def _slice_of(purchases: int) -> str:
    bounds = [*HISTORY_LENGTHS, None]
    low = max(bound for bound in HISTORY_LENGTHS if bound <= purchases)
    high = bounds[bounds.index(low) + 1]
    return f"{low} or more purchases" if high is None else f"{low}-{high - 1} purchases"


def headline_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the model's `recall@k` and `ndcg@k` for every k, each with `_low` and `_high`."""
    headline: dict[str, float] = {}
    for name, figure in figures.get("model", {}).items():
        if name.startswith(("recall@", "ndcg@")):
            headline |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    return headline


def print_figures(console: Console, title: str, figures: Mapping[str, Any], k: int) -> None:
    """Print the metrics at `k` of every ranker, and by slice the model's and its lead over the best baseline."""
    if not figures["customers"]:
        console.print(f"{title}: no customer has a purchase that counts", highlight=False)
        return
    console.print(_table(title, figures, k))
    console.print(f"hit@{k}, mrr@{k}, coverage, popularity and other k: --json FILE", highlight=False)
    warn_of_few_customers(console, figures["customers"])
    table = Table("the model, by slice", "customers", f"ndcg@{k}", "best baseline", f"lead in ndcg@{k}")
    for name, of_slice in figures["slices"].items():
        customers = int(of_slice["customers"])
        ndcg, lead = (
            cell({"value": of_slice[m], "low": of_slice[f"{m}_low"], "high": of_slice[f"{m}_high"]}, customers)
            for m in (f"ndcg@{k}", f"lead_ndcg@{k}")
        )
        table.add_row(name, f"{customers:,}", ndcg, of_slice["best_baseline"], lead)
    console.print(table)


def warn_of_few_customers(console: Console, customers: int) -> None:
    """Warn where so few customers are judged that chance decides."""
    if customers < FEW_CUSTOMERS:
        are = "is" if customers == 1 else "are"
        warn(console, f"only {_customers(customers)} {are} judged: chance may decide, so look at the intervals")


def write_json(console: Console, figures: Mapping[str, Any], json_file: Path | None) -> None:
    """Write the figures as JSON, unless `json_file` is None."""
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False, markup=False)


def _ranking_metrics(
    lists: Sequence[list[str]],
    relevant: Sequence[set[str]],
    purchases: Mapping[str, int],
    catalogue: int,
    ks: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Return `metric@k -> {value, low, high}`; `purchases` counts each item, `catalogue` is the number of items."""
    figures = {}
    for k in ks:
        per_customer = {
            f"hit@{k}": metrics.hit_at_k(lists, relevant, k),
            f"recall@{k}": metrics.recall_at_k(lists, relevant, k),
            f"ndcg@{k}": metrics.ndcg_at_k(lists, relevant, k),
            f"mrr@{k}": metrics.reciprocal_rank(lists, relevant, k),
            f"mean_popularity@{k}": metrics.mean_popularity(lists, purchases, k),
        }
        for name, values in per_customer.items():
            mean, low, high = metrics.mean_interval(values)
            figures[name] = {"value": mean, "low": low, "high": high}
        figures[f"coverage@{k}"] = {"value": metrics.coverage(lists, catalogue, k)}
    return figures


def _table(title: str, figures: Mapping[str, Any], k: int) -> Table:
    shown = [f"{name}@{k}" for name in ("recall", "ndcg")]
    leads = ("ndcg",)  # paired by customer, which removes the differences between customers
    headers = [*shown, *(f"model's lead in {name}@{k}" for name in leads)]
    table = Table("", *headers, title=f"{title}: {_customers(figures['customers'])}", title_justify="left")
    for ranker, of_ranker in figures.items():
        if ranker in RANKERS:
            cells = [cell(of_ranker[name], figures["customers"]) for name in shown]
            more = [of_ranker.get(f"model_more_{name}@{k}") for name in leads]
            table.add_row(ranker, *cells, *("" if lead is None else cell(lead, figures["customers"]) for lead in more))
    return table


def cell(figure: Mapping[str, float], customers: int) -> str:
    """Return `value (low–high)` of a figure of so many customers, or `too few` in place of an interval.

    An interval with a negative bound is written with `to`.
    """
    if not metrics.has_interval(customers, figure["low"], figure["high"]):
        return f"{figure['value']:.3f} (too few)"
    low, high = f"{figure['low']:.3f}", f"{figure['high']:.3f}"
    return f"{figure['value']:.3f} ({low}{' to ' if low.startswith('-') else '–'}{high})"


def _customers(number: int) -> str:
    return "1 customer" if number == 1 else f"{number:,} customers"
