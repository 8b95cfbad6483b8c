"""Whose list changes with the company it is computed in: float32, bfloat16, and bfloat16 in fixed shapes; and the cost.

    python -m tests.bench.reproducibility [--data FOLDER] [--quick] [--json]

Every customer is asked for alone, among 8, among all and among all in another order. A list has changed when its
products, their order or any bit of a score differ between two of these. In fixed shapes every matrix product has the
same number of rows. Weights are random, which spreads scores as little as possible: a trained model's lists change
less often. On a processor without bfloat16 prompts are short, for it is emulated there.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm.engine.batching import RowTiles
from lm.engine.device import use_threads
from lm.engine.gpt2_engine import GPT2Engine
from lm.engine.weights import load_gpt2
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.measure import arguments, matrix_ceiling, report

K, FIXED_ROWS = 10, 512
Lists = list[list[tuple[str, float]]]


def main() -> None:
    options = arguments(__doc__ or "")
    use_threads()
    torch.manual_seed(0)
    is_slow = matrix_ceiling(torch.bfloat16) < matrix_ceiling(torch.float32)
    customers = 12 if options.quick else 24 if is_slow else 128
    tokens = 64 if is_slow else 256
    names = material.titles(options.data)
    ids = [f"{n:05d}" for n in range(len(names))]
    figures: dict[str, Any] = {"customers": customers, "prompt_tokens": tokens}
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = material.save_causal(Path(folder), options.data, ids)
        encoder = PromptEncoder.load(path)
        catalogue = Catalogue.build(ids, names, encoder)
        prompts = [material.prompt(encoder, tokens - n % 5, names, n) for n in range(customers)]
        modes = {
            "float32": (torch.float32, None),
            "bfloat16": (torch.bfloat16, None),
            "bfloat16, fixed shapes": (torch.bfloat16, RowTiles(FIXED_ROWS, FIXED_ROWS)),
        }
        found: dict[str, Lists] = {}
        for name, (dtype, tiles) in modes.items():
            engine = GPT2Engine(load_gpt2(path, dtype=dtype), tiles)
            in_company, found[name], seconds = companies(Recommender(engine, encoder, catalogue), prompts)
            against = np.mean([differs(a, b) for a, b in zip(found[name], found["float32"], strict=True)])
            figures[name.replace(", ", "_").replace(" ", "_")] = {
                "share_of_lists_changed_by_company": in_company["bits"],
                "share_of_products_changed_by_company": in_company["products"],
                "share_of_lists_unlike_float32": float(against),
                "seconds": seconds,
            }
            rows[name] = {
                "lists changed by company": f"{in_company['bits']:.0%}",
                "other products or order": f"{in_company['products']:.0%}",
                "other products than in float32": f"{against:.0%}",
                "seconds": f"{seconds:.1f}",
            }
    cost = figures["bfloat16_fixed_shapes"]["seconds"] / figures["bfloat16"]["seconds"]
    figures["fixed_shapes_cost"] = cost
    report(f"Lists in different company, {customers} customers, {tokens}-token prompts", rows, figures, options.json)


def companies(model: Recommender, prompts: list[str]) -> tuple[dict[str, float], Lists, float]:
    """Shares of customers whose list changes with its company, the lists among all, and the seconds of those."""
    order = np.random.default_rng(0).permutation(len(prompts)).tolist()
    model.recommend(prompts[:1], [[]], K)
    started = time.perf_counter()
    together = ask(model, prompts)
    seconds = time.perf_counter() - started
    shuffled = ask(model, [prompts[i] for i in order])
    others = [
        [one for prompt in prompts for one in ask(model, [prompt])],
        [one for n in range(0, len(prompts), 8) for one in ask(model, prompts[n : n + 8])],
        [shuffled[order.index(i)] for i in range(len(prompts))],
    ]
    bits = [any(other[i] != together[i] for other in others) for i in range(len(prompts))]
    products = [any(differs(other[i], together[i]) for other in others) for i in range(len(prompts))]
    return {"bits": float(np.mean(bits)), "products": float(np.mean(products))}, together, seconds


def ask(model: Recommender, prompts: list[str]) -> Lists:
    return [list(map(tuple, found)) for found in model.recommend(prompts, [[]] * len(prompts), K)]


def differs(one: list[tuple[str, float]], other: list[tuple[str, float]]) -> bool:
    """Whether products or their order differ."""
    return [item for item, _ in one] != [item for item, _ in other]


if __name__ == "__main__":
    main()
