"""Attention over packed prompts and over the cache, for any number of query heads that share a key head.

Sizes: B prompts, T tokens of a prompt, R queries, S keys, H query heads, K key heads (K divides H), D numbers a head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_MULTIPLE = 8
"""Attention queries are padded to a multiple of this many rows, because the result of other row counts depends on the
alignment of memory.
"""


QUERY_BLOCK = 64
"""Queries of a block of causal attention in bfloat16."""
SCORES_AT_ONCE = 1 << 20
"""Scores of a block, in float32 4 MB: with the copies of its keys and queries they stay in the CPU cache."""


class Heads(NamedTuple):
    """The heads of a layer; H / K query heads read the same keys and values (grouped-query attention)."""

    queries: int  # H
    keys: int  # K
    width: int  # D


class AttentionRule(NamedTuple):
    """How a layer weighs keys."""

    scale: float  # factor of the products of queries and keys
    window: int | None = None  # newest positions that a query sees, its own included; None: all
    softcap: float | None = None  # bound of the scaled products, by softcap · tanh(product / softcap)


def attend_causally(q: Tensor, k: Tensor, v: Tensor, heads: Heads, rule: AttentionRule) -> Tensor:
    """Causal self-attention of B prompts of one length: q (B, T, H·D), k and v (B, T, K·D) -> (B, T, H·D)."""
    B, T, _ = q.shape
    H, K, D = heads
    q, k, v = (x.unflatten(2, (n, D)).transpose(1, 2) for x, n in ((q, H), (k, K), (v, K)))  # (B, heads, T, D)
    if K < H:
        k, v = (x.repeat_interleave(H // K, dim=1) for x in (k, v))
    if q.dtype == torch.bfloat16 and not q.is_cuda and T > QUERY_BLOCK:
        return _causal_in_blocks(q, k, v, rule)
    if rule.softcap is None and (rule.window is None or rule.window >= T):
        out = _fused(q, k, v, is_causal=True, scale=rule.scale)  # (B, H, T, D)
    else:
        visible = torch.ones(T, T, dtype=torch.bool, device=q.device).tril_()
        if rule.window is not None:
            visible = visible.triu_(1 - rule.window)
        out = _masked(q, k, v, additive(visible, q.dtype)[None, None], rule)
    return out.transpose(1, 2).reshape(B, T, H * D)


def attend(q: Tensor, kv: Tensor, mask: Tensor, heads: Heads, rule: AttentionRule) -> Tensor:
    """Attention of R queries a prompt to S keys: q (B, R, H·D), kv (B, 2, K, S, D), mask (B, R, S) -> (B, R, H·D).

    `mask` is added to the products: 0 where a query may attend, -inf elsewhere. In float32 R is a multiple of
    QUERY_MULTIPLE.
    """
    B, R, _ = q.shape
    H, K, D = heads
    k, v = kv.unbind(1)  # 2 x (B, K, S, D)
    shared = H // K
    # The query heads of one key head become more queries, so that keys and values are read once and never copied.
    q = q.view(B, R, K, shared, D).permute(0, 2, 3, 1, 4).reshape(B, K, shared * R, D)
    whole = mask[:, None] if shared == 1 else mask[:, None].repeat(1, 1, shared, 1)
    out = _masked(q, k, v, whole, rule)  # (B, K, shared·R, D)
    return out.view(B, K, shared, R, D).permute(0, 3, 1, 2, 4).reshape(B, R, H * D)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask to add to products: 0 where `visible`, -inf elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """cap · tanh(x / cap), in place, in steps that round alike in torch's vector and scalar code."""
    return x.mul_(2 / cap).exp_().add_(1).reciprocal_().mul_(-2 * cap).add_(cap)


def _causal_in_blocks(q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule) -> Tensor:
    """Causal attention (B, H, T, D) in bfloat16 on a CPU, by blocks of queries: (B, T, H·D).

    Each block reads only the keys that it may see. Its scores stay float32, as in torch's fused attention, which takes
    1.4 times as long for 256 tokens and 1.8 times for 512 (`python -m tests.bench.products`).
    """
    B, H, T, D = q.shape
    out = torch.empty(B, T, H, D, dtype=q.dtype)
    visible = torch.ones(T, T, dtype=torch.bool).tril_()
    if rule.window is not None:
        visible = visible.triu_(1 - rule.window)
    hidden = additive(visible, torch.float32)
    together = max(1, SCORES_AT_ONCE // (H * min(T, QUERY_BLOCK) * T))  # prompts
    for first in range(0, B, together):
        some = slice(first, first + together)
        queries = q[some].float().mul_(rule.scale).flatten(0, 1)  # (b·H, T, D)
        keys, values = k[some].float().flatten(0, 1), v[some].flatten(0, 1)
        for start in range(0, T, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, T)
            begin = 0 if rule.window is None else max(0, start + 1 - rule.window)  # first key that the block sees
            scores = queries[:, start:stop] @ keys[:, begin:stop].transpose(1, 2)  # (b·H, block, keys)
            if rule.softcap is not None:
                soft_capped(scores, rule.softcap)
            partly = begin if rule.window is not None else start  # keys before are seen by the whole block
            scores[:, :, partly - begin :] += hidden[start:stop, partly:stop]
            weights = scores.softmax(dim=2).to(v.dtype)
            found = weights @ values[:, begin:stop]  # (b·H, block, D)
            out[some, start:stop] = found.unflatten(0, (-1, H)).transpose(1, 2)
    return out.view(B, T, H * D)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, rule: AttentionRule) -> Tensor:
    if rule.softcap is None:
        return _fused(q, k, v, attn_mask=mask, scale=rule.scale)
    products = soft_capped((q @ k.transpose(2, 3)).float().mul_(rule.scale), rule.softcap)  # torch fuses no cap
    return products.add_(mask).softmax(dim=3).to(v.dtype) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """torch's fused attention (B, heads, R, D), with results that do not depend on the batch.

    Torch splits a single prompt with a single head over its threads and then rounds differently; a copy prevents that.
    """
    if len(q) * q.shape[1] == 1 and not q.is_cuda:
        q, k, v = (t.expand(2, -1, -1, -1) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, **options)[:1]
    return F.scaled_dot_product_attention(q, k, v, **options)
