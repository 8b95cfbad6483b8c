"""Top-k sampling that reads the whole vocabulary only twice and never sorts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lm.engine.kv_tree import Floats, Ints

BLOCK_TOKENS = 256
"""Tokens whose logits or probabilities are first reduced together."""


def draw_top_k(logits: Tensor, k: Ints, top_p: Sequence[float], uniform: Floats) -> Ints:
    """Draw a token a row from the k[i] likeliest tokens and their ties, cut to the fewest with the share top_p[i].

    logits (n, vocabulary) float32, k (n,) at least 1, uniform (n,) in [0, 1) -> (n,). Weights are summed by ascending
    id, so that a row's draw does not depend on the number of candidates of other rows.
    """
    value, token = candidates(logits, k)
    weight = np.exp(value - value.max(axis=1, keepdims=True))  # 0 for padding
    for n in np.flatnonzero(np.asarray(top_p) < 1).tolist():
        order = np.argsort(-weight[n], kind="stable")
        share = weight[n, order].cumsum()
        weight[n, order[np.searchsorted(share, top_p[n] * share[-1]) + 1 :]] = 0
    mass = weight.cumsum(axis=1)
    total = mass[:, -1:]
    place = (mass <= uniform[:, None] * total).sum(axis=1)
    last = (mass < total).sum(axis=1)  # rounding must not pass the last candidate with a weight
    return token[np.arange(len(token)), np.minimum(place, last)]


def candidates(logits: Tensor, k: Ints) -> tuple[Floats, Ints]:
    """The k[i] highest logits of each row, ties with the lowest included, and their tokens: both (n, most).

    Rows are padded with -inf. The k-th highest block maximum bounds the k-th highest logit from below, and few logits
    exceed it.
    """
    n, vocabulary = logits.shape
    whole = vocabulary // BLOCK_TOKENS * BLOCK_TOKENS
    peaks = logits[:, :whole].reshape(n, -1, BLOCK_TOKENS).amax(dim=2)  # (n, blocks)
    k = np.minimum(k, vocabulary)
    bound = torch.full((n, 1), -torch.inf, device=logits.device)
    if peaks.shape[1] >= k.max(initial=1):
        highest = peaks.topk(int(k.max(initial=1)), dim=1).values
        bound = highest.gather(1, torch.from_numpy(k - 1).to(logits.device)[:, None])
    row, token = np.divmod(np.flatnonzero((logits >= bound).cpu().numpy()), vocabulary)
    count = np.bincount(row, minlength=n)
    place = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    value = np.full((n, max(int(count.max(initial=1)), int(k.max(initial=1)))), -np.inf)
    tokens = np.zeros(value.shape, np.int64)
    index = torch.from_numpy(row).to(logits.device), torch.from_numpy(token).to(logits.device)
    value[row, place] = logits[index].cpu().numpy()
    tokens[row, place] = token
    kth = np.sort(value, axis=1)[np.arange(n), value.shape[1] - k]
    value[value < kth[:, None]] = -np.inf
    return value, tokens
