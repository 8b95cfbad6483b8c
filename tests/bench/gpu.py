"""Customers a second on a GPU: lists of both codings and five texts, beside `generate` and vLLM; at most 10 minutes.

    python -m tests.bench.gpu [--data FOLDER] [--quick] [--json]

GPT-2 124M in bfloat16 with random weights, prompts of 256 tokens, top 10 of 12,000 products, five texts of 24 tokens.
vLLM is left out where it is not installed; it has no lists over a trie, and no lists of item tokens.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lm.engine.sampling import Sampler, Sampling
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.huggingface import ConstrainedBeams, load, sample
from tests.bench.measure import arguments, console, in_turn, report

K, SAMPLES, NEW, TOKENS, TOP_K = 10, 5, 24, 256, 50
Work = Callable[[], Any]


def main() -> None:
    options = arguments(__doc__ or "")
    if not torch.cuda.is_available():
        console.print(
            "[yellow]this machine has no CUDA device, or torch is the build without CUDA: nothing to measure[/]"
        )
        return
    customers, few = (256, 8) if options.quick else (2048, 64)
    names = material.titles(options.data)
    ids = [f"{n:05d}" for n in range(len(names))]
    with tempfile.TemporaryDirectory() as folder:
        spelled = material.save_causal(Path(folder) / "titles", options.data)
        coded = material.save_causal(Path(folder) / "item_tokens", options.data, ids)
        titles, items = (lists(path, ids, names) for path in (spelled, coded))
        sampler = Sampler(titles.engine, titles.encoder)
        prompts = [material.prompt(titles.encoder, TOKENS, names, n) for n in range(customers)]
        encoded = titles.encoder.encode_many(prompts)
        peer = load(spelled, torch.bfloat16).to("cuda")
        torch.set_default_device("cuda")  # for the tensors that the peers' functions make of token ids
        beams = ConstrainedBeams(peer, titles.encoder.answers(names))
        contenders: dict[str, tuple[int, Work]] = {
            "titles": (customers, on_cpu(lambda: titles.recommend(prompts, [[]] * customers, K))),
            "titles, generate": (few, lambda: beams.scores(encoded[:few], K)),
            "item tokens": (customers, on_cpu(lambda: items.recommend(prompts, [[]] * customers, K))),
            "texts": (customers, on_cpu(lambda: texts(sampler, prompts))),
            "texts, generate": (few * 4, lambda: sample(peer, encoded[: few * 4], SAMPLES, NEW, TOP_K)),
        }
        if importlib.util.find_spec("vllm"):
            contenders["texts, vLLM"] = (customers, vllm_texts(spelled, encoded))
        else:
            console.print("[yellow]vLLM is not installed: left out[/yellow]")
        for _, work in contenders.values():
            work()  # compiles kernels and grows buffers
        seconds = in_turn({name: synchronised(work) for name, (_, work) in contenders.items()}, options.rounds)
    rates = {name: count / seconds[name] for name, (count, _) in contenders.items()}
    rows = {
        name: {"customers": str(contenders[name][0]), "customers/s": f"{rate:.3g}", "times": against(rates, name)}
        for name, rate in rates.items()
    }
    figures = {"customers_per_second": rates, "device": torch.cuda.get_device_name()}
    report("GPT-2 124M on a GPU, 256-token prompts", rows, figures, options.json)


def lists(path: Path, ids: list[str], names: list[str]) -> Recommender:
    """Our lists on the GPU."""
    catalogue = Catalogue.build(ids, names, PromptEncoder.load(path))
    return Recommender.load(path, catalogue, dtype="bfloat16", device="cuda")


def texts(sampler: Sampler, prompts: list[str]) -> Any:
    """Our five texts of each prompt."""
    return sampler.sample(prompts, Sampling(top_k=TOP_K), max_new_tokens=NEW, num_return_sequences=SAMPLES)


def vllm_texts(path: Path, prompts: list[list[int]]) -> Work:
    """vLLM's five texts of each prompt."""
    from vllm import LLM, SamplingParams

    model = LLM(str(path), dtype="bfloat16", gpu_memory_utilization=0.3, seed=0)
    drawn = SamplingParams(n=SAMPLES, top_k=TOP_K, max_tokens=NEW, min_tokens=NEW, ignore_eos=True)
    asked = [{"prompt_token_ids": ids} for ids in prompts]
    return lambda: model.generate(asked, drawn, use_tqdm=False)


def on_cpu(work: Work) -> Work:
    """The same work with torch's usual default device."""

    def run() -> Any:
        with torch.device("cpu"):
            return work()

    return run


def synchronised(work: Work) -> Work:
    """The same work, ended when the device has ended it."""

    def run() -> None:
        work()
        torch.cuda.synchronize()

    return run


def against(rates: dict[str, float], name: str) -> str:
    """How many times the rate of `generate` at the same work."""
    peer = f"{name.split(',')[0]}, generate"
    return f"{rates[name] / rates[peer]:.1f}" if peer in rates else ""


if __name__ == "__main__":
    main()
