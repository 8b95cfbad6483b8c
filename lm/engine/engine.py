"""The interface of a language model for search and sampling: prompts are computed once and then extended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lm.checkpoint.checkpoint import read_config
from lm.engine.device import choose_device, choose_dtype, keep_freed_memory, use_threads
from lm.engine.kv_tree import Floats, Ints, KVTree, TokenRuns


class Prefilled(Protocol):
    """A batch of prompts with computed keys and values; valid until the engine's next prefill."""

    states: Tensor  # (B, E) the state after each prompt
    tree: KVTree

    def extend(self, runs: TokenRuns) -> tuple[Tensor, Ints]:
        """Compute M runs of N answer tokens: the state after each token (N, E), the slot of each run's last (M,)."""


class Engine(Protocol):
    """A causal language model."""

    context: int  # positions, for a prompt and its answer together
    vocabulary: int
    row_bytes: int  # bytes of one token's keys and values
    device: torch.device

    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> Prefilled:
        """Compute B prompts (token ids, none empty), each with room for `slots` answer tokens."""

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Logits of `states` (N, E) over `count` tokens from id `first` on (default: all).

        Yields (first row, logits (n, count) float32) for consecutive rows; the next yield overwrites the tensor.
        """

    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """log p(token[i] | states[row[i]]) over the whole vocabulary, natural log, <= 0: (M,); `row` is ascending."""


def load_engine(path: Path, *, dtype: str = "auto", threads: int | None = None, device: str = "auto") -> Engine:
    """The engine of a causal model directory: lm.engine.gpt2 for GPT-2, transformers' code for other architectures.

    `dtype`, `threads` and `device` as in lm.engine.device. Raises CheckpointError when the model cannot be loaded.
    """
    from lm.engine.gpt2_engine import GPT2Engine
    from lm.engine.weights import is_plain_gpt2, load_gpt2

    keep_freed_memory()
    use_threads(threads)
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    if is_plain_gpt2(read_config(path)):
        return GPT2Engine(load_gpt2(path, dtype=torch_dtype, device=torch_device))
    from lm.engine.huggingface_engine import load_huggingface_engine

    return load_huggingface_engine(path, torch_dtype, torch_device)
