"""Drawing among the k likeliest tokens without touching the rest of the vocabulary more than once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lm.engine.kv_tree import Floats, Ints

BLOCK = 256


def draw_top_k(logits: Tensor, k: Ints, top_p: Sequence[float], uniform: Floats) -> Ints:
    """One token a row from the k[i] likeliest tokens and their ties, of those the fewest with the share top_p[i].

    logits (n, vocabulary) float32, k (n,) at least 1, uniform (n,) in [0, 1) -> (n,). Tokens are laid out by rising
    id and summed up one by one, so that a row's draw does not depend on how many candidates the others have.
    """
    value, token = candidates(logits, k)
    weight = np.exp(value - value.max(axis=1, keepdims=True))  # of padding 0
    for n in np.flatnonzero(np.asarray(top_p) < 1).tolist():
        order = np.argsort(-weight[n], kind="stable")
        share = weight[n, order].cumsum()
        weight[n, order[np.searchsorted(share, top_p[n] * share[-1]) + 1 :]] = 0
    mass = weight.cumsum(axis=1)
    total = mass[:, -1:]
    place = (mass <= uniform[:, None] * total).sum(axis=1)
    last = (mass < total).sum(axis=1)  # rounding never leads past the last one with mass
    return token[np.arange(len(token)), np.minimum(place, last)]


def candidates(logits: Tensor, k: Ints) -> tuple[Floats, Ints]:
    """The k[i] highest logits of each row with all that tie with the lowest of them, and their tokens: (n, most).

    Rows are padded with -inf. The k-th highest maximum of a block of tokens bounds the k-th highest logit from
    below, and few tokens lie above it: a row is read twice and never sorted.
    """
    n, vocabulary = logits.shape
    whole = vocabulary // BLOCK * BLOCK
    peaks = logits[:, :whole].reshape(n, -1, BLOCK).amax(dim=2)  # (n, blocks)
    k = np.minimum(k, vocabulary)
    bound = torch.full((n, 1), -torch.inf, device=logits.device)
    if peaks.shape[1] >= k.max(initial=1):
        falling = peaks.topk(int(k.max(initial=1)), dim=1).values
        bound = falling.gather(1, torch.from_numpy(k - 1).to(logits.device)[:, None])
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
