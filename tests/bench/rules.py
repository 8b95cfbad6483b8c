"""What rules cost in the engine: lists of 2,000 customers of the sample shop's size with and without rules.

    python -m tests.bench.rules [--customers N] [--products N] [--quick] [--json]

The model has the size of one that `regulars train` makes for item tokens (2 blocks of width 64), random weights and
co-purchase features of random purchases.
Seconds are of processor time, and contenders run in turn, so that other processes matter little. A small model is the
hardest case: a larger one takes more time for the same lists.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lm.engine.device import use_threads
from lm.recommend.catalogue import Catalogue
from lm.recommend.hybrid import Hybrid
from lm.recommend.list_rules import ListRule, RuleTable
from lm.recommend.recommender import Recommender
from lm.recommend_training.count_purchases import Bought, count_hybrid
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.measure import arguments, console, report
from tests.models import save_causal

K, CANDIDATES = 10, 15
KINDS = {
    "deny": ListRule("deny", "deny"),
    "price": ListRule("price", "price", at_most=20.0),
    "boost": ListRule("boost", "boost", weight=0.5),
    "cap": ListRule("cap", "cap", most=2),
    "pin": ListRule("pin", "pin", rank=3),
    "share": ListRule("share", "share", products=2, within=K),
    "diversity": ListRule("diversity", "diversity", strength=0.3),
    "disliked": ListRule("disliked", "disliked", weight=2.0),
}
SETS = {name: [name] for name in KINDS} | {"deny, boost, cap": ["deny", "boost", "cap"], "all": list(KINDS)}


def main() -> None:
    options = arguments(__doc__ or "", customers=2000, products=400)
    use_threads()
    rng = np.random.default_rng(0)
    names = material.titles(None)[: options.products]
    ids = [f"{n:05d}" for n in range(len(names))]
    rows: dict[str, dict[str, str]] = {}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for coding in ("item_tokens", "titles"):
            coded = ids if coding == "item_tokens" else ()
            path = save_causal(Path(folder) / coding, item_ids=coded, lines=names, n_embd=64, n_layer=2)
            encoder = PromptEncoder.load(path)
            catalogue = Catalogue.build(ids, names, encoder)
            table = rule_table(catalogue, rng)
            model = Recommender.load(path, catalogue, rules=table, dtype="float32")
            if coding == "item_tokens":
                model.hybrid = co_purchases(ids, names, rng)
            customers = options.customers if coding == "item_tokens" else max(1, options.customers // 10)
            prompts = [prompt(coding, rng.choice(len(ids), rng.integers(3, 30)), ids, names) for _ in range(customers)]
            disliked = [rng.choice(ids, 3).tolist() for _ in range(customers)]
            contenders = {"no rules": lister(model, prompts, None)}
            for name, kinds in SETS.items():
                contenders[name] = lister(model, prompts, [binding(kinds, items) for items in disliked])
            seconds = processor_seconds(contenders, options.rounds)
            for name, spent in seconds.items():
                more = spent / seconds["no rules"] - 1
                figures[f"{coding}.{name}"] = more
                rows.setdefault(name, {})[coding] = f"{more:+.1%}" if name != "no rules" else f"{spent:.2f} s"
    report(f"Lists under rules: {options.customers:,} customers, {len(ids):,} products", rows, figures, options.json)


def co_purchases(ids: Sequence[str], names: Sequence[str], rng: np.random.Generator) -> Hybrid:
    """Features of 2,000 customers' random purchases, all with weight."""
    bought = [Bought(rng.choice(len(ids), 10), np.zeros(10, np.int64)) for _ in range(2000)]
    hybrid = count_hybrid(bought, dict(zip(ids, names, strict=True)), co_purchase=True, cold_items=False)
    assert hybrid.co_purchase is not None, "it was asked for"
    return replace(hybrid, co_purchase=replace(hybrid.co_purchase, weights=(1.0,) + (0.5,) * 7))


def prompt(coding: str, bought: Iterable[int], ids: Sequence[str], names: Sequence[str]) -> str:
    """A customer's purchases."""
    if coding == "item_tokens":
        return "Customer history\n" + "".join(f"<|item:{ids[n]}|>" for n in bought)
    return "Customer history\n" + "".join(f"Bought: {names[n]}\n" for n in bought) + "Bought:"


def rule_table(catalogue: Catalogue, rng: np.random.Generator) -> RuleTable:
    """Each rule speaks of a tenth of the products; prices and categories are drawn."""
    ids = list(catalogue.item_ids)
    rules = list(KINDS.values())
    category = [f"c{n}" for n in rng.integers(0, 20, len(ids))]
    member = rng.random((len(rules), len(ids))) < 0.1
    values = [category if rule.kind == "cap" else [] for rule in rules]
    prices = rng.uniform(1, 30, len(ids)).tolist()
    return RuleTable.build(catalogue, rules, K, ids, member, values, category, prices, [[""] * len(ids)] * len(rules))


def binding(kinds: list[str], disliked: list[str]) -> str:
    """The rules of one request."""
    numbers = [list(KINDS).index(kind) for kind in kinds]
    found: dict[str, Any] = {"rules": numbers}
    if "disliked" in kinds:
        found["disliked"] = {str(list(KINDS).index("disliked")): disliked}
    return json.dumps(found)


def lister(model: Recommender, prompts: list[str], bindings: list[str] | None) -> Callable[[], object]:
    """A contender."""
    return lambda: model.recommend(prompts, [[]] * len(prompts), CANDIDATES, bindings)


def processor_seconds(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each contender, which run in turn after one run to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            started = time.process_time()
            work()
            if number:
                seconds[name].append(time.process_time() - started)
        console.print(f"[dim]round {number} of {rounds}[/dim]", highlight=False)
    return {name: statistics.median(spent) for name, spent in seconds.items()}


if __name__ == "__main__":
    main()
