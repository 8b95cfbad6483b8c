"""What the searches need of a language model: prompts computed once, and answers that follow them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from lm.checkpoint.checkpoint import read_json
from lm.engine.device import choose_device, choose_dtype, keep_freed_memory, use_threads
from lm.engine.kv_tree import TokenRuns, Floats, Ints, KVTree


class Prefilled(Protocol):
    """A batch of prompts whose keys and values are computed; it lives until the engine's next prefill."""

    states: Tensor  # (B, E) the state after each prompt
    tree: KVTree

    def extend(self, chains: TokenRuns) -> tuple[Tensor, Ints]:
        """Compute runs of answer tokens: (N, E) the state after each token, (M,) slot of each run's last."""


class Engine(Protocol):
    """A causal language model."""

    context: int  # positions: a prompt and its answer must fit
    vocabulary: int
    row_bytes: int  # keys and values of one token

    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> Prefilled:
        """Compute prompts (token ids, none empty), each with room for `slots` answer tokens."""

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Logits of `states` (N, E) over `count` tokens from id `first` on (default: all).

        Yields (row, logits (n, count) float32) for consecutive rows; the tensor is overwritten by the next.
        """

    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """log p(token[i] | states[row[i]]) over the whole vocabulary, `row` ascending: (M,), natural log, <= 0."""


def load_engine(path: Path, *, dtype: str = "auto", threads: int | None = None, device: str = "auto") -> Engine:
    """The causal model of a directory: GPT-2 by lm.engine.gpt2, any other by transformers."""
    from lm.engine.gpt2_engine import GPT2Engine
    from lm.engine.weights import is_plain_gpt2, load_gpt2

    keep_freed_memory()
    use_threads(threads)
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    if is_plain_gpt2(read_json(path / "config.json")):
        return GPT2Engine(load_gpt2(path, dtype=number, device=place))
    from lm.engine.huggingface_engine import load_huggingface_engine

    return load_huggingface_engine(path, number, place)
