"""What lists are worth: their figures with intervals, beside plain baselines, and for which customers they hold.

A customer is asked two questions: `new_items` (of what they had never bought: how much was in the list?) and
`all_items` (of everything they bought). The metrics are those of `lm.metrics.metrics`: hit@k, recall@k, NDCG@k with
binary gains, MRR, over the whole catalogue.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from lm.metrics import baselines, metrics

#: Lower bounds of the slices by the number of purchases before.
HISTORY_LENGTHS = (0, 3, 10, 30)
RIVALS = ("model", "co-purchase", "popularity", "buy again")

Lists = list[list[str]]
Figures = dict[str, dict[str, float]]


class Judged(NamedTuple):
    """One customer: the published list, what was bought up to the run date (in order) and after it."""

    listed: list[str]
    before: list[str]
    after: list[str]


def compare(
    judged: Sequence[Judged],
    known: Sequence[Sequence[str]],
    sellable: Sequence[str],
    ks: Sequence[int],
    *,
    new_only: bool,
) -> dict[str, Any]:
    """Figures of the lists and of each baseline, on the same customers; `new_only` leaves earlier purchases out."""
    asked = []
    for one in judged:
        relevant = set(one.after) - set(one.before) if new_only else set(one.after)
        if relevant:
            asked.append((one, relevant))
    found: dict[str, Any] = {"customers": len(asked)}
    if not asked:
        return found
    before = [one.before for one, _ in asked]
    barred = [set(one.before) if new_only else set() for one, _ in asked]
    popular = baselines.popularity(known, set(sellable))
    k = max(ks)
    listed = [[item for item in one.listed if item not in bar][:k] for (one, _), bar in zip(asked, barred, strict=True)]
    rivals = {
        "model": listed,
        "co-purchase": baselines.CoPurchases.fit(known).recommend(before, popular, barred, k),
        "popularity": baselines.recommend_popular(popular, barred, k),
    }
    if not new_only:
        rivals["buy again"] = baselines.recommend_again(before, popular, k)
    counts = Counter(item for history in known for item in history)
    relevant_items = [relevant for _, relevant in asked]
    for rival, lists in rivals.items():
        found[rival] = _figures(lists, relevant_items, counts, max(len(sellable), 1), ks)
    for name, metric in (("hit", metrics.hit_at_k), ("ndcg", metrics.ndcg_at_k)):
        of_customers = {rival: metric(lists, relevant_items, k) for rival, lists in rivals.items()}
        for rival in list(rivals)[1:]:
            mean, low, high = metrics.mean_interval(of_customers["model"] - of_customers[rival])
            found[rival][f"model_more_{name}@{k}"] = {"value": mean, "low": low, "high": high}
    found["slices"] = _slices(listed, before, relevant_items, counts, k)
    return found


def _slices(
    lists: Lists,
    before: Sequence[Sequence[str]],
    relevant: Sequence[set[str]],
    counts: Mapping[str, int],
    k: int,
) -> dict[str, dict[str, float]]:
    """Recall and NDCG by the customers' number of purchases before, and of cold items: those that nobody had bought."""
    bounds = [*HISTORY_LENGTHS, None]
    asked: dict[str, list[tuple[list[str], set[str]]]] = {}
    for ranked, history, wanted in zip(lists, before, relevant, strict=True):
        low = max(bound for bound in HISTORY_LENGTHS if bound <= len(history))
        high = bounds[bounds.index(low) + 1]
        name = f"{low} or more purchases" if high is None else f"{low}-{high - 1} purchases"
        asked.setdefault(name, []).append((ranked, wanted))
        if cold := {item for item in wanted if item not in counts}:
            asked.setdefault("cold items", []).append((ranked, cold))
    found: dict[str, dict[str, float]] = {}
    for name in sorted(asked, key=lambda name: (name == "cold items", len(name.split("-")[0]), name)):
        of_slice = [ranked for ranked, _ in asked[name]], [wanted for _, wanted in asked[name]]
        found[name] = {"customers": float(len(asked[name]))}
        for metric, values in (("recall", metrics.recall_at_k), ("ndcg", metrics.ndcg_at_k)):
            mean, low_, high_ = metrics.mean_interval(values(*of_slice, k))
            found[name] |= {f"{metric}@{k}": mean, f"{metric}@{k}_low": low_, f"{metric}@{k}_high": high_}
    return found


def headline(figures: Mapping[str, Any]) -> dict[str, float]:
    """`recall@5, ndcg@5, recall@10, ndcg@10` (as far as lists go) of the model, each with `_low` and `_high`."""
    found: dict[str, float] = {}
    for name, figure in figures.get("model", {}).items():
        if name.startswith(("recall@", "ndcg@")):
            found |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    return found


def show(console: Console, title: str, figures: Mapping[str, Any], k: int) -> None:
    """Print one question's figures and slices."""
    if not figures["customers"]:
        console.print(f"{title}: nobody bought anything that this question is about", highlight=False)
        return
    console.print(_table(title, figures, k))
    table = Table("the model, by slice", "customers", f"recall@{k}", f"ndcg@{k}")
    for name, found in figures["slices"].items():
        cells = (
            _cell({"value": found[m], "low": found[f"{m}_low"], "high": found[f"{m}_high"]})
            for m in (f"recall@{k}", f"ndcg@{k}")
        )
        table.add_row(name, f"{found['customers']:,.0f}", *cells)
    console.print(table)


def write(console: Console, figures: Mapping[str, Any], json_file: Path | None) -> None:
    """Write the figures as JSON where a file is asked for."""
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False)


def _figures(
    lists: Lists, relevant: Sequence[set[str]], purchases: Mapping[str, int], catalogue: int, ks: Sequence[int]
) -> Figures:
    figures = {}
    for k in ks:
        of_customers = {
            f"hit@{k}": metrics.hit_at_k(lists, relevant, k),
            f"recall@{k}": metrics.recall_at_k(lists, relevant, k),
            f"ndcg@{k}": metrics.ndcg_at_k(lists, relevant, k),
            f"mrr@{k}": metrics.reciprocal_rank(lists, relevant, k),
            f"mean_popularity@{k}": metrics.mean_popularity(lists, purchases, k),
        }
        for name, values in of_customers.items():
            mean, low, high = metrics.mean_interval(values)
            figures[name] = {"value": mean, "low": low, "high": high}
        figures[f"coverage@{k}"] = {"value": metrics.coverage(lists, catalogue, k)}
    return figures


def _table(title: str, figures: Mapping[str, Any], k: int) -> Table:
    shown = [f"{name}@{k}" for name in ("hit", "recall", "ndcg", "mrr", "coverage", "mean_popularity")]
    leads = ("hit", "ndcg")  # of each customer, so that who is easy and who is not says nothing
    shown_as = [*shown, *(f"the model's {name}@{k} more" for name in leads)]
    table = Table("", *shown_as, title=f"{title}: {figures['customers']:,} customers", title_justify="left")
    for rival, of_rival in figures.items():
        if rival in RIVALS:
            cells = [_cell(of_rival[name]) for name in shown]
            more = [of_rival.get(f"model_more_{name}@{k}") for name in leads]
            table.add_row(rival, *cells, *("" if lead is None else _cell(lead) for lead in more))
    return table


def _cell(figure: Mapping[str, float]) -> str:
    interval = f" ({figure['low']:.3f}–{figure['high']:.3f})" if "low" in figure else ""
    return f"{figure['value']:.3f}{interval}"
