"""What the searches need of a language model: prompts computed once, and answers that follow them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm.checkpoint import read_json
from lm.device import choose_device, choose_dtype, keep_freed_memory, use_threads
from lm.tree import Chains, Ints, Tree

Floats = NDArray[np.float64]


class Prefilled(Protocol):
    """A batch of prompts whose keys and values are computed; it lives until the engine's next prefill."""

    states: Tensor  # (B, E) the state after each prompt
    tree: Tree

    def extend(self, chains: Chains) -> tuple[Tensor, Ints]:
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


def load_engine(path: Path, *, dtype: str = "auto", threads: int | None = None, device: str = "auto") -> Engine:
    """The causal model of a directory: GPT-2 by lm.gpt2, any other by transformers."""
    from lm.gpt2_engine import GPT2Engine
    from lm.weights import is_plain_gpt2, load_gpt2

    keep_freed_memory()
    use_threads(threads)
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    if is_plain_gpt2(read_json(path / "config.json")):
        return GPT2Engine(load_gpt2(path, dtype=number, device=place))
    from lm.huggingface_engine import load_huggingface_engine

    return load_huggingface_engine(path, number, place)


def log_probs(engine: Engine, states: Tensor, row: Ints, token: Ints) -> Floats:
    """log p(token[i] | state row[i]) over the whole vocabulary, for `row` ascending: (M,), natural log."""
    found = np.empty(len(row), np.float64)
    scratch: Tensor | None = None
    for start, logits in engine.logits(states):
        here = slice(*np.searchsorted(row, (start, start + len(logits))))
        if here.start == here.stop:
            continue
        if scratch is None:
            scratch = torch.empty_like(logits)  # the first tile is the largest
        normalised = log_softmax(logits, scratch[: len(logits)])
        at = (torch.from_numpy(row[here] - start), torch.from_numpy(token[here]))
        found[here] = normalised[at[0].to(logits.device), at[1].to(logits.device)].cpu().numpy()
    return found


def log_softmax(logits: Tensor, out: Tensor) -> Tensor:
    """Row-wise log-softmax of (n, vocabulary) float32 into `out`."""
    return torch.ops.aten._log_softmax.out(logits, -1, False, out=out)
