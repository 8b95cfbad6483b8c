"""Reasons of lists: exactness, cost, deletion curves and counterfactuals, on the prompts of a published date.

    make run
    python -m tests.bench.reasons [--config demo/regulars.yaml] [--customers 500] [--quick] [--json]

Weights are compared with a prediction from scratch without each event. A deletion curve removes the events of a
customer one after another: in the order of their weights, of weights that are computed again after each removal, in
random order, newest first, or most similar to the product's title first. Its area is the mean score of the first
product over all removals, less the score with all events: the lower the area, the more the removed events mattered.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from jobs.config.config import load
from lm.engine.device import use_threads
from lm.recommend.catalogue import Catalogue
from lm.recommend.counterfactual import counterfactual
from lm.recommend.reasons import Reasoner, event_texts, without_events
from lm.recommend.recommender import Recommender
from lm.recommend.title_features import feature_counts, inverse_document_frequency, tf_idf
from lm.text.prompt import PromptEncoder
from tests.bench.measure import arguments, console, report

K, CANDIDATES, MOST = 10, 15, 5
MARKER = re.compile(r"<\|item:([^|\n]*)\|>")


def main() -> None:
    config_file = Path("demo/regulars.yaml")
    if "--config" in sys.argv:
        at = sys.argv.index("--config")
        config_file = Path(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    options = arguments(__doc__ or "", customers=500)
    use_threads()
    config = load(config_file)
    folder = Path(config.models.recommend)
    encoder = PromptEncoder.load(folder)
    tables = Path(config.store) / "tables"
    lists = str(tables / "recommendations/*/*.parquet")
    items = duckdb.sql(f"SELECT DISTINCT ON (item_id) item_id, title FROM '{lists}' ORDER BY ALL").fetchall()
    asked = duckdb.sql(
        f"SELECT prompt FROM '{tables}/prompts/*/*.parquet' WHERE events_used > 1 ORDER BY prompt_hash LIMIT "
        f"{options.customers}"
    ).fetchall()
    prompts = list(dict.fromkeys(prompt for (prompt,) in asked))
    model = Recommender.load(
        folder, Catalogue.build([i for i, _ in items], [t for _, t in items], encoder), dtype="float32"
    )
    names = dict(items)
    excluded = [list(dict.fromkeys(MARKER.findall(prompt))) for prompt in prompts]
    reasoner = Reasoner(model)

    started = time.perf_counter()
    found = model.recommend(prompts, excluded, CANDIDATES)
    seconds = {"lists": time.perf_counter() - started}
    firsts = [[row[0].item_id] for row in found]
    started = time.perf_counter()
    first = reasoner.event_weights(prompts, firsts)
    seconds["reasons of the first product"] = time.perf_counter() - started
    every = [[one.item_id for one in row] for row in found]
    started = time.perf_counter()
    reasoner.event_weights(prompts, every)
    scores = [np.array([one.score for one in row]) for row in found]
    parts = reasoner.parts(prompts, every, scores)
    seconds["reasons of all products"] = time.perf_counter() - started
    sums = max(
        abs(sum(part) - one.score)
        for row, of_row in zip(found, parts, strict=True)
        for one, part in zip(row, of_row, strict=True)
    )
    weights = [tuple(of_prompt[0].tolist()) for of_prompt in first]
    figures: dict[str, Any] = {
        "customers": len(prompts),
        "events": statistics.fmean(map(len, weights)),
        "parts_less_score": sums,
        "weights_less_scratch": exactness(model, prompts, firsts, weights),
        "time_first": seconds["reasons of the first product"] / seconds["lists"],
        "time_all": seconds["reasons of all products"] / seconds["lists"],
        "deletion": deletion(reasoner, prompts, firsts, weights, names),
        "counterfactuals": counterfactuals(model, prompts, excluded, firsts, weights),
    }
    console.print_json(data=figures)
    report("reasons", {name: {"seconds": f"{value:.2f}"} for name, value in seconds.items()}, figures, options.json)


def exactness(
    model: Recommender, prompts: Sequence[str], firsts: Sequence[Sequence[str]], weights: Sequence[Sequence[float]]
) -> float:
    """The largest difference of a weight from a whole prediction with and without the event."""
    worst = 0.0
    for prompt, (item,), found in zip(prompts, firsts, weights, strict=True):
        texts = [prompt, *(without_events(model.encoder, prompt, [event]) for event in range(len(found)))]
        scores = [
            next(one.score for one in row if one.item_id == item)
            for row in model.recommend(texts, [[]] * len(texts), len(model.catalogue))
        ]
        worst = max(worst, *(abs(scores[0] - score - w) for score, w in zip(scores[1:], found, strict=True)))
    return worst


def deletion(
    reasoner: Reasoner,
    prompts: Sequence[str],
    firsts: Sequence[Sequence[str]],
    weights: Sequence[Sequence[float]],
    names: dict[str, str],
) -> dict[str, Any]:
    """The areas below the deletion curves, and the difference of each from that of the weights with its interval."""
    rng = np.random.default_rng(0)
    orders: dict[str, list[list[int]]] = {"weights": [], "random": [], "newest first": [], "title likeness": []}
    for prompt, (item,), found in zip(prompts, firsts, weights, strict=True):
        lines = [MARKER.sub(lambda m: names.get(m[1], ""), line) for line in event_texts(reasoner.encoder, prompt)]
        counts = feature_counts([names[item], *lines])
        vectors = tf_idf(counts, inverse_document_frequency(counts))
        alike = (vectors[1:] @ vectors[0].T).toarray().ravel()
        n = len(found)
        orders["weights"].append(sorted(range(n), key=lambda e, w=found: -w[e]))
        orders["random"].append(rng.permutation(n).tolist())
        orders["newest first"].append(list(range(n))[::-1])
        orders["title likeness"].append(np.argsort(-alike, kind="stable").tolist())
    orders["weights again"] = weighed_again(reasoner, prompts, firsts, weights)
    areas = {}
    for name, order in orders.items():
        removed = [[tuple(one[:m]) for m in range(1, min(len(one), MOST) + 1)] for one in order]
        scores = reasoner.scores_without(prompts, firsts, removed)
        areas[name] = np.array([float(np.mean(row[1:, 0] - row[0, 0])) for row in scores])
    draws = rng.integers(0, len(prompts), (2000, len(prompts)))
    result: dict[str, Any] = {name: float(values.mean()) for name, values in areas.items()}
    for ours in ("weights", "weights again"):
        for name in ("random", "newest first", "title likeness"):
            less = areas[ours] - areas[name]
            low, high = np.percentile(less[draws].mean(axis=1), [2.5, 97.5])
            result[f"{ours} less {name}"] = [float(less.mean()), float(low), float(high)]
    return result


def weighed_again(
    reasoner: Reasoner,
    prompts: Sequence[str],
    firsts: Sequence[Sequence[str]],
    weights: Sequence[Sequence[float]],
) -> list[list[int]]:
    """The events of each prompt, each the heaviest after those before it are gone."""
    orders: list[list[int]] = [[] for _ in prompts]
    for _ in range(MOST):
        rest = [
            [event for event in range(len(found)) if event not in order]
            for found, order in zip(weights, orders, strict=True)
        ]
        left_out = [[(*order, event) for event in left] for order, left in zip(orders, rest, strict=True)]
        scores = reasoner.scores_without(prompts, firsts, left_out)
        for order, left, found in zip(orders, rest, scores, strict=True):
            if left:
                order.append(left[int(np.argmin(found[1:, 0]))])
    return orders


def counterfactuals(
    model: Recommender,
    prompts: Sequence[str],
    excluded: Sequence[Sequence[str]],
    firsts: Sequence[Sequence[str]],
    weights: Sequence[Sequence[float]],
    most: int = 200,
) -> dict[str, Any]:
    """How many products are off the list without the found events, of those for which there are such events."""
    sizes, verified, none = [], 0, 0
    for prompt, barred, (item,), found in list(zip(prompts, excluded, firsts, weights, strict=True))[:most]:

        def is_listed(
            sets: Sequence[Sequence[int]], p: str = prompt, b: Sequence[str] = barred, wanted: str = item
        ) -> list[bool]:
            texts = [without_events(model.encoder, p, one) for one in sets]
            return [wanted in {c.item_id for c in row} for row in model.recommend(texts, [b] * len(texts), K)]

        events = counterfactual(found, is_listed)
        if events is None:
            none += 1
            continue
        sizes.append(len(events))
        verified += not is_listed([events])[0]
    return {
        "customers": len(sizes) + none,
        "listed without any event": none,
        "verified": verified,
        "median events": statistics.median(sizes) if sizes else None,
    }


if __name__ == "__main__":
    main()
