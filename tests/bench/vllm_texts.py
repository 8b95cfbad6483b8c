"""Five texts of each prompt by vLLM, run by an interpreter of another environment, which has vLLM.

    PYTHON tests/bench/vllm_texts.py MODEL PROMPTS RESULT SAMPLES NEW TOP_K ROUNDS

PROMPTS is a JSON file of lists of token ids. RESULT gets the seconds of each round as a JSON list. Imports nothing of
this project.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    model, prompts, result = sys.argv[1:4]
    samples, tokens, top_k, rounds = map(int, sys.argv[4:])
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")  # by default it computes on all cores but one
    from vllm import LLM, SamplingParams

    engine = LLM(model, dtype="bfloat16", seed=0, skip_tokenizer_init=True)
    drawn = SamplingParams(n=samples, top_k=top_k, max_tokens=tokens, ignore_eos=True, detokenize=False)
    asked = [{"prompt_token_ids": ids} for ids in json.loads(Path(prompts).read_text())]
    engine.generate(asked, drawn, use_tqdm=False)  # compiles kernels
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        engine.generate(asked, drawn, use_tqdm=False)
        seconds.append(time.perf_counter() - started)
    Path(result).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
