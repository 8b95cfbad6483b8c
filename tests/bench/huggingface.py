"""What one writes with Hugging Face alone: constrained beams over titles, and free samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.bench.measure import now


def load(path: Path, dtype: torch.dtype) -> Any:
    """The causal model of a folder."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


class ConstrainedBeams:
    """`generate` with `prefix_allowed_tokens_fn` over a trie of nested dicts; all prompts are of one length."""

    def __init__(self, model: Any, answers: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.end = answers[0][-1]
        self.longest = max(map(len, answers))
        self.steps = 0  # of the latest call
        self.trie: dict[int, Any] = {}
        for answer in answers:
            node = self.trie
            for token in answer:
                node = node.setdefault(token, {})

    @torch.inference_mode()
    def scores(
        self, prompts: Sequence[Sequence[int]], k: int, tokens: int | None = None, clock: Clock | None = None
    ) -> list[list[float]]:
        """The log-probabilities of each prompt's k best titles, best first; with `tokens`, of their beginnings."""
        ids = torch.tensor(prompts)
        length = ids.shape[1]
        self.steps = 0

        def allowed(_: int, path: torch.Tensor) -> list[int]:
            self.steps = max(self.steps, len(path) - length + 1)
            node = self.trie
            for token in path[length:].tolist():
                node = node.get(token, {})
            return list(node) or [self.end]  # a finished beam goes on with padding

        found = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens or self.longest,
            num_beams=k,
            num_return_sequences=k,
            do_sample=False,
            length_penalty=0.0,  # titles are compared by the sum of their tokens' log-probabilities
            eos_token_id=self.end,
            pad_token_id=self.end,
            prefix_allowed_tokens_fn=allowed,
            logits_processor=[clock] if clock else None,
            return_dict_in_generate=True,
            output_scores=True,
        )
        return found.sequences_scores.float().view(len(prompts), k).tolist()


@torch.inference_mode()
def sample(
    model: Any, prompts: Sequence[Sequence[int]], samples: int, tokens: int, top_k: int, clock: Clock | None = None
) -> int:
    """So many continuations of each prompt, none of them ending early; returns the number of new tokens."""
    ids = torch.tensor(prompts)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=top_k,
        num_return_sequences=samples,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        logits_processor=[clock] if clock else None,
        pad_token_id=model.config.eos_token_id,
    )
    return found[:, ids.shape[1] :].numel()


class Clock:
    """A logits processor that notes when each step's logits were there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.times.append(now())
        return logits


def seconds_of(work: Callable[[int, Clock], Any], tokens: int, is_slow: bool) -> float:
    """Seconds of an answer of so many tokens; where the work `is_slow`, of three of them, extended to all.

    A processor without bfloat16 emulates it: a whole answer would take minutes, and its steps are all alike.
    """
    if not is_slow:
        work(1, Clock())
    clock = Clock()
    started = now()
    work(3 if is_slow else tokens, clock)
    seconds = now() - started
    if is_slow:
        first, *_, third = clock.times
        seconds += (third - first) / 2 * (tokens - 3)
    return seconds
