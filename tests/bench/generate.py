"""Top 10 of 12,000 titles after prompts of 256 tokens, GPT-2 124M: ours against Hugging Face's constrained beams.

    python -m tests.bench.generate [--data FOLDER] [--quick] [--json]

Weights are random (the speed is the same), titles and tokenizer those of FOLDER where it has them. Ours computes in
bfloat16 on a processor with AMX or AVX512-BF16 and in float32 on any other; `titles.dtype` says which. `item_tokens`
answers the same question with one token for each product. Ceilings are those of plain matrix products, measured in
the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm.engine.device import use_threads
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.clocked import Clocked
from tests.bench.huggingface import ConstrainedBeams, load, seconds_of
from tests.bench.measure import arguments, console, in_turn, matrix_ceiling, now, report

K, TOKENS, SHORTEST = 10, 256, 20


def main() -> None:
    options = arguments(__doc__ or "")
    use_threads()
    torch.manual_seed(0)
    customers = 8 if options.quick else 64
    names = material.titles(options.data)
    ids = [f"{n:05d}" for n in range(len(names))]
    ceilings = {name: matrix_ceiling(getattr(torch, name)) for name in ("float32", "bfloat16")}
    with tempfile.TemporaryDirectory() as folder:
        spelled = material.save_causal(Path(folder) / "titles", options.data)
        coded = material.save_causal(Path(folder) / "item_tokens", options.data, ids)
        titles = recommender(spelled, ids, names)
        items = recommender(coded, ids, names)
        uniform = [material.prompt(titles.encoder, TOKENS, names, n) for n in range(customers)]
        lengths = np.random.default_rng(0).integers(SHORTEST, TOKENS + 1, 2 * customers).tolist()
        mixed = [material.prompt(items.encoder, length, names, n) for n, length in enumerate(lengths)]
        peers = {
            dtype: ConstrainedBeams(load(spelled, getattr(torch, dtype)), answers(titles))
            for dtype in ("float32", "bfloat16")
        }
        few = 1 if options.quick else 4
        encoded = titles.encoder.encode_many(uniform)
        for model in (titles, items):  # pages in, chooses tiles
            model.recommend(uniform[:2], [[]] * 2, K)
        contenders = {
            "titles": lambda: titles.recommend(uniform, [[]] * customers, K),
            "item tokens": lambda: items.recommend(uniform, [[]] * customers, K),
            "item tokens, mixed lengths": lambda: items.recommend(mixed, [[]] * len(mixed), K),
            "Hugging Face float32": lambda: peers["float32"].scores(encoded[:few], K),
        }
        seconds = in_turn(contenders, options.rounds)
        counts = {"titles": customers, "item tokens": customers, "item tokens, mixed lengths": len(mixed)}
        counts |= {"Hugging Face float32": few, "Hugging Face bfloat16": 1}
        is_slow = ceilings["bfloat16"] < ceilings["float32"]
        theirs = peers["float32"].scores(encoded[:1], K)  # also tells how many steps one customer takes
        seconds["Hugging Face bfloat16"] = seconds_of(
            lambda tokens, clock: peers["bfloat16"].scores(encoded[:1], K, tokens, clock),
            peers["float32"].steps,
            is_slow,
        )
        rates = {name: counts[name] / seconds[name] for name in seconds}
        figures = {
            "titles": {
                "vs_hf_bf16": rates["titles"] / rates["Hugging Face bfloat16"],
                "vs_hf_float32": rates["titles"] / rates["Hugging Face float32"],
                "customers_per_second": rates["titles"],
                **parts(titles, uniform, ceilings),
                "worst_score_below_hf": below(titles, uniform[:1], theirs),
            },
            "item_tokens": {"customers_per_second": rates["item tokens"], **parts(items, uniform, ceilings)},
            "mixed_lengths": {
                "per_token_vs_uniform": sum(lengths)
                / seconds["item tokens, mixed lengths"]
                / (rates["item tokens"] * TOKENS),
                "customers_per_second": rates["item tokens, mixed lengths"],
                "mean_tokens": sum(lengths) / len(lengths),
            },
            "hugging_face": {
                **{dtype: {"customers_per_second": rates[f"Hugging Face {dtype}"]} for dtype in peers},
                "steps": peers["float32"].steps,
                "bfloat16_extrapolated": is_slow,
            },
            "matrix_ceiling": ceilings,
            "customers": counts,
            "titles_in_catalogue": len(names),
        }
        show(figures, rates, counts, options.json)


def recommender(path: Path, ids: list[str], names: list[str]) -> Recommender:
    """The product's own, timed by parts."""
    catalogue = Catalogue.build(ids, names, PromptEncoder.load(path))
    return Recommender.load(path, catalogue)


def answers(model: Recommender) -> list[list[int]]:
    return model.encoder.answers(list(model.catalogue.titles))


def parts(model: Recommender, prompts: list[str], ceilings: dict[str, float]) -> dict[str, Any]:
    """One more run with a clock in the engine: the fraction of the ceiling in all and by part."""
    plain: Any = model.engine
    clocked = Clocked(plain)
    model.engine = clocked
    started = now()
    model.recommend(prompts, [[]] * len(prompts), K)
    seconds = now() - started
    model.engine = plain
    ceiling = max(ceilings.values())  # of the faster format, whichever ours computes in
    return {
        "ceiling_fraction": sum(clocked.flops.values()) / seconds / ceiling,
        "gflop_per_customer": sum(clocked.flops.values()) / len(prompts) / 1e9,
        "parts": clocked.shares(seconds, ceiling),
        "dtype": str(plain.dtype).removeprefix("torch."),
    }


def below(model: Recommender, prompts: list[str], theirs: Sequence[Sequence[float]]) -> float:
    """How far an i-th score of ours lies below Hugging Face's i-th at worst; 0 where none does."""
    ours = [[one.score for one in found] for found in model.recommend(prompts, [[]] * len(prompts), K)]
    return float(np.maximum(np.array(theirs) - np.array(ours), 0).max())


def show(figures: dict[str, Any], rates: dict[str, float], counts: dict[str, int], as_json: bool) -> None:
    rows = {
        name: {"customers": str(counts[name]), "customers/s": f"{rate:.3g}", "of the ceiling": ""}
        for name, rate in rates.items()
    }
    for name, key in (("titles", "titles"), ("item tokens", "item_tokens")):
        rows[name]["of the ceiling"] = f"{figures[key]['ceiling_fraction']:.0%} ({figures[key]['dtype']})"
        told = ", ".join(
            f"{part} {one['share']:.0%} of the time"
            + (f" at {one['ceiling_fraction']:.0%}" if one["ceiling_fraction"] else "")
            for part, one in figures[key]["parts"].items()
        )
        console.print(f"{name}: {told}", highlight=False)
    report("Top 10 of 12,000 products, 256-token prompts", rows, figures, as_json)


if __name__ == "__main__":
    main()
