"""Sampling without leaving the device: one transfer of the drawn tokens a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lm.engine.kv_tree import Floats, Ints


def draw_on_device(logits: Tensor, k: Ints, top_p: Sequence[float], uniform: Floats) -> Ints:
    """Draw a token a row from the k[i] likeliest tokens and their ties, cut to the fewest with the share top_p[i].

    logits (n, vocabulary) float32, k (n,) with 0 for all tokens, uniform (n,) in [0, 1) -> (n,). The weights are
    cumulated by ascending id, as lm.engine.sampling does on a CPU, so that both draw the same tokens up to rounding.
    """
    device, vocabulary = logits.device, logits.shape[1]
    k = np.where(k > 0, np.minimum(k, vocabulary), vocabulary)
    if k.min(initial=vocabulary) < vocabulary:
        most = int(np.where(k < vocabulary, k, 1).max())
        place = torch.from_numpy(np.minimum(k, most) - 1).to(device)
        kth = logits.topk(most, dim=1).values.gather(1, place[:, None])
        has_all = torch.from_numpy(k == vocabulary).to(device)
        logits = logits.masked_fill((logits < kth) & ~has_all[:, None], -torch.inf)
    weight = logits.double().softmax(dim=1)  # (n, vocabulary)
    if min(top_p, default=1.0) < 1:
        share = torch.tensor(list(top_p), dtype=torch.float64, device=device)[:, None]
        ordered, token = weight.sort(dim=1, descending=True, stable=True)
        before = ordered.cumsum(dim=1) - ordered  # the share of likelier tokens
        ordered = ordered.masked_fill((before >= share) & (share < 1), 0.0)
        weight = torch.zeros_like(weight).scatter_(1, token, ordered)
    mass = weight.cumsum(dim=1)
    wanted = torch.from_numpy(uniform).to(device)[:, None] * mass[:, -1:]
    place = torch.searchsorted(mass, wanted, right=True)
    last = (mass < mass[:, -1:]).sum(dim=1, keepdim=True)  # rounding must not pass the last token with a weight
    drawn: Ints = torch.minimum(place, last)[:, 0].cpu().numpy()
    return drawn
