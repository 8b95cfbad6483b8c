"""Llama-, Qwen- and Gemma-shaped models of about 100 million parameters: ours against `generate` in bfloat16.

    python -m tests.bench.families [--data FOLDER] [--quick] [--processor-seconds] [--json]

Prompts have 256 tokens. `titles` are the top 10 of 12,000 titles, against Hugging Face's constrained beams. `texts`
are five samples of 24 tokens. Weights are random. Both compute in bfloat16. One more pass in float32 counts the
customers whose list or texts differ from those of the same customer alone. On a machine that does other work,
`--processor-seconds` with one thread counts seconds of this process alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lm.checkpoint.manifest import Manifest, write_manifest
from lm.engine.device import use_threads
from lm.engine.sampling import Sampler, Sampling
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.huggingface import ConstrainedBeams, load, sample
from tests.bench.measure import arguments, in_turn, report

K, SAMPLES, NEW, TOKENS, TOP_K = 10, 5, 24, 256, 50
SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "max_position_embeddings": 1024, "tie_word_embeddings": True}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 2048, "num_attention_heads": 12, "num_key_value_heads": 12},
    "qwen2": {"intermediate_size": 2560, "num_attention_heads": 12, "num_key_value_heads": 2},
    "gemma3_text": {
        "intermediate_size": 2304,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "sliding_window": 128,
    },
}


def main() -> None:
    options = arguments(__doc__ or "")
    use_threads()
    customers, few = (12, 1) if options.quick else (48, 4)
    names = material.titles(options.data)
    rows: dict[str, dict[str, str]] = {}
    figures: dict[str, Any] = {}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            path = save(Path(folder) / family, family, options.data)
            rates, millions = measure(path, names, customers, few, options.rounds)
            differ = changed(path, names, few)
        ratios = {work: rates[work] / rates[f"{work}, generate"] for work in ("titles", "texts")}
        figures[family] = {"millions": millions, "customers_per_second": rates, "times_generate": ratios, **differ}
        for work, ratio in ratios.items():
            rows[f"{family} ({millions:.0f}M), {work}"] = {
                "customers/s": f"{rates[work]:.3g}",
                "generate bf16": f"{rates[f'{work}, generate']:.3g}",
                "times": f"{ratio:.1f}",
                "differ in float32": f"{differ[f'{work}_that_differ']} of {differ['customers']}",
            }
    report("Other architectures, 256-token prompts", rows, figures, options.json)


def save(folder: Path, family: str, data: Path | None) -> Path:
    """A model of a family with random weights, and GPT-2's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    end = {"pad_token_id": None, "bos_token_id": material.VOCABULARY - 1, "eos_token_id": material.VOCABULARY - 1}
    config = AutoConfig.for_model(family, vocab_size=material.VOCABULARY, **end, **SHAPE, **FAMILIES[family])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    write_manifest(folder, Manifest(task="recommend"))
    return material.save_tokenizer(folder, data)


def works(
    path: Path, names: list[str], dtype: str
) -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any], PromptEncoder, Catalogue]:
    """Our lists and our texts of prompts."""
    encoder = PromptEncoder.load(path)
    catalogue = Catalogue.build([f"{n:05d}" for n in range(len(names))], names, encoder)
    model = Recommender.load(path, catalogue, dtype=dtype)
    sampler = Sampler(model.engine, encoder)
    options: dict[str, Any] = {"max_new_tokens": NEW, "num_return_sequences": SAMPLES}
    return (
        lambda prompts: model.recommend(prompts, [[]] * len(prompts), K),
        lambda prompts: sampler.sample(prompts, Sampling(top_k=TOP_K), **options),
        encoder,
        catalogue,
    )


def measure(path: Path, names: list[str], customers: int, few: int, rounds: int) -> tuple[dict[str, float], float]:
    """Customers a second of each work, ours and theirs, and the millions of parameters."""
    lists, texts, encoder, catalogue = works(path, names, "bfloat16")
    prompts = [material.prompt(encoder, TOKENS, names, n) for n in range(customers)]
    encoded = encoder.encode_many(prompts)[:few]
    peer = load(path, torch.bfloat16)
    beams = ConstrainedBeams(peer, encoder.answers(list(catalogue.titles)))
    contenders: dict[str, tuple[int, Callable[[], Any]]] = {
        "titles": (customers, lambda: lists(prompts)),
        "titles, generate": (few, lambda: beams.scores(encoded, K)),
        "texts": (customers, lambda: texts(prompts)),
        "texts, generate": (few, lambda: sample(peer, encoded, SAMPLES, NEW, TOP_K)),
    }
    lists(prompts[:2]), texts(prompts[:2])  # the first run pages memory in
    seconds = in_turn({name: work for name, (_, work) in contenders.items()}, rounds)
    parameters = sum(parameter.numel() for parameter in peer.parameters())
    return {name: count / seconds[name] for name, (count, _) in contenders.items()}, parameters / 1e6


def changed(path: Path, names: list[str], customers: int) -> dict[str, int]:
    """How many customers' float32 lists and texts differ from those of the customer alone."""
    lists, texts, encoder, _ = works(path, names, "float32")
    prompts = [material.prompt(encoder, TOKENS - n, names, n) for n in range(customers)]
    counts = {}
    for name, work in (("titles", lists), ("texts", texts)):
        together = work(prompts)
        counts[f"{name}_that_differ"] = sum(work([p])[0] != found for p, found in zip(prompts, together, strict=True))
    return {"customers": customers, **counts}


if __name__ == "__main__":
    main()
