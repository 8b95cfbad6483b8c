"""Keys and values of a batch of prompts and of the trees of answers after them, and the attention that reads them.

Sizes: N rows of the packed prompts, B prompts, n new rows of a pass, H query heads, K key heads, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm.engine.attention import QUERY_MULTIPLE, AttentionRule, Heads, additive, attend, attend_causally
from lm.engine.batching import LENGTH_MULTIPLE
from lm.engine.device import Buffers
from lm.engine.kv_tree import SLOT_MULTIPLE, Bools, Ints, KVTree, Placement, TokenRuns

MANY_QUERIES = 32
"""More queries of a prompt than this are padded to a multiple of it, so that more prompts share a shape."""
BFLOAT16_MULTIPLES = 2, 8
"""Multiples for few and many queries in bfloat16 on a CPU, where a row costs more than a call of its own."""


class PromptGroup(NamedTuple):
    """Consecutive prompts that are padded to the same length."""

    start: int  # first prompt
    stop: int
    length: int  # padded tokens T
    row: int  # first row of the packed prompts
    slot: int  # first slot of the cache; each prompt has T + slots of them


@dataclass
class AttentionCall:
    """Consecutive prompts of one attention call: they share padded length, queries and visible slots."""

    row: int  # first row of the pass's queries
    prompts: int
    rows: int  # queries of each prompt, padded
    slot: int  # first slot of the cache
    stride: int  # slots of each prompt, the prompt's own tokens included
    visible: Bools  # (prompts, rows, keys), keys = padded length + visible slots
    query_position: Ints  # (prompts, rows)
    key_position: Ints  # (prompts, keys)
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, buffers: Buffers) -> Tensor:
        """The additive mask of this call; with a window, a query sees only that many newest positions."""
        if window not in self._masks:
            visible = self.visible
            if window is not None:
                visible = visible & (self.query_position[:, :, None] - self.key_position[:, None] < window)
            self._masks[window] = additive(torch.from_numpy(visible).to(buffers.device), buffers.dtype)
        return self._masks[window]


class Pass(NamedTuple):
    """One pass over n new rows."""

    placement: Placement
    position: Ints  # (n,)
    calls: list[AttentionCall]
    queries: Tensor  # the row of each query
    back: Tensor  # (n,) the query of each row
    cache_rows: Tensor  # (n · 2K,) rows of a layer's cache, seen as rows of D numbers, for the new keys and values


def _prompts_cache(cache: Tensor, first: int, prompts: int, stride: int, heads: int) -> Tensor:
    """View the cache (..., all, 2·K·D) of consecutive prompts as (..., prompts, 2, K, stride, D).

    The keys of one head are contiguous, which halves the time of attention for a few new rows.
    """
    flat = cache[..., first : first + prompts * stride, :].flatten(-2)
    return flat.unflatten(-1, (prompts, 2, heads, stride, -1))


class PromptCache:
    """The cache of B prompts of these lengths, each with room for `slots` answer tokens; with 0 it keeps nothing.

    Rows of prompts are packed: each prompt is padded at its end to LENGTH_MULTIPLE, and prompts follow each other.
    """

    def __init__(self, lengths: Ints, slots: int, layers: int, heads: Heads, buffers: Buffers) -> None:
        self.tree = KVTree(len(lengths), slots)
        self.lengths, self._layers, self._heads, self._buffers = lengths, layers, heads, buffers
        self._padded = -(-lengths // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        pads_little = buffers.dtype == torch.bfloat16 and buffers.device.type == "cpu"
        self._multiples = BFLOAT16_MULTIPLES if pads_little else (QUERY_MULTIPLE, MANY_QUERIES)
        self._lay_out()
        self._cache = buffers.get("cache", *self._shape(), zero=True)

    @property
    def rows(self) -> int:
        """N, the rows of the packed prompts."""
        return int(self._padded.sum())

    def pack(self, prompts: Sequence[Sequence[int]], rows: int) -> tuple[Tensor, Tensor]:
        """The token ids and positions of the packed prompts, with zeros up to `rows` rows: both (rows,)."""
        ids, positions = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        start = 0
        for prompt, padded in zip(prompts, self._padded.tolist(), strict=True):
            ids[start : start + len(prompt)] = prompt
            positions[start : start + len(prompt)] = np.arange(len(prompt))
            start += padded
        return self.tensor(ids), self.tensor(positions)

    def last_rows(self) -> Tensor:
        """The packed row of each prompt's last token: (B,)."""
        return self.tensor(np.cumsum(self._padded) - self._padded + self.lengths - 1)

    def attend_prompts(self, layer: int, q: Tensor, kv: Tensor, out: Tensor, rule: AttentionRule) -> None:
        """Causal attention within each prompt: q (N, H·D), kv (N, 2·K·D) -> out (N, H·D); keeps keys and values."""
        half = kv.shape[1] // 2
        for group in self._groups:
            rows = slice(group.row, group.row + (group.stop - group.start) * group.length)
            of_group = kv[rows].unflatten(0, (-1, group.length))  # (b, T, 2·K·D)
            k, v = of_group[..., :half], of_group[..., half:]
            asked = q[rows].unflatten(0, (-1, group.length))
            found = attend_causally(asked, k, v, self._heads, rule)
            out[rows].view(found.shape).copy_(found)
            self._store(layer, group, of_group)

    def attend_last(self, layer: int, q: Tensor, kv: Tensor, out: Tensor, rule: AttentionRule) -> None:
        """Attention of each prompt's last row: q (B, H·D), kv (N, 2·K·D) -> out (B, H·D); keeps keys and values."""
        for group in self._groups:
            n = group.stop - group.start
            of_group = kv[group.row : group.row + n * group.length].view(n, group.length, -1)
            self._store(layer, group, of_group)
            within = np.arange(group.length) < self.lengths[group.start : group.stop, None]  # (b, T)
            mask = additive(self.tensor(within), self._buffers.dtype)[:, None].repeat(1, QUERY_MULTIPLE, 1)
            repeated = q[group.start : group.stop, None].expand(-1, QUERY_MULTIPLE, -1)  # (b, R, H·D)
            keys = self._by_heads(of_group)
            found = attend(repeated.contiguous(), keys, mask, self._heads, rule)
            out[group.start : group.stop] = found[:, 0]

    def place(self, runs: TokenRuns) -> Pass:
        """Assign slots to the n rows of the runs, and group their prompts into attention calls."""
        placement = self.tree.place(runs)
        if self.tree.slots != self._slots:
            self._make_room()
        position = self.lengths[placement.prompt] - placement.cut + placement.depth
        calls, queries, back = self._attention_calls(placement, position)
        return Pass(placement, position, calls, queries, back, self.tensor(self._cache_rows(placement)))

    def attend_runs(self, layer: int, new: Pass, q: Tensor, kv: Tensor, out: Tensor, rule: AttentionRule) -> None:
        """Store the new rows and attend to all that each may see: q (n, H·D), kv (n, 2·K·D) -> out (n, H·D)."""
        parts = kv.reshape(len(new.cache_rows), -1)  # one row for each head's key and each head's value
        self._cache[layer].view(-1, parts.shape[1]).index_copy_(0, new.cache_rows, parts)
        asked = self._buffers.get("queries", len(new.queries), q.shape[1])
        answers = self._buffers.get("answers", len(new.queries), q.shape[1])
        torch.index_select(q, 0, new.queries, out=asked)
        for call in new.calls:
            rows = slice(call.row, call.row + call.prompts * call.rows)
            mask = call.mask(rule.window, self._buffers)
            cached = _prompts_cache(self._cache[layer], call.slot, call.prompts, call.stride, self._heads.keys)
            of_call = asked[rows].view(call.prompts, call.rows, -1)
            found = attend(of_call, cached[..., : mask.shape[2], :], mask, self._heads, rule)
            answers[rows] = found.view(-1, q.shape[1])
        torch.index_select(answers, 0, new.back, out=out)

    def tensor(self, numbers: Ints | Bools) -> Tensor:
        """An array on the cache's device."""
        return torch.from_numpy(numbers).to(self._buffers.device)

    def _lay_out(self) -> None:
        """Assign each prompt its part of the cache: the prompt's tokens, then the tree's slots."""
        self._slots = self.tree.slots
        self._stride = self._padded + self._slots  # cache slots of each prompt
        self._base: Ints = np.cumsum(self._stride) - self._stride  # the first of them
        self._groups = self._prompt_groups()

    def _shape(self) -> tuple[int, int, int]:
        total = int(self._stride.sum()) if self._slots else 0
        return self._layers, total, 2 * self._heads.keys * self._heads.width

    def _make_room(self) -> None:
        """Copy the cache into a larger one, with the tree's present number of slots for every prompt."""
        if not self._slots:
            raise ValueError("prompts computed with 0 slots keep no keys and values, and cannot be extended")
        old_groups, old_cache, old_slots = self._groups, self._cache, self._slots
        self._lay_out()
        self._cache = self._buffers.replace("cache", *self._shape(), zero=True)
        for old, new in zip(old_groups, self._groups, strict=True):
            source = self._group_cache(old_cache, old, old_slots)
            target = self._group_cache(self._cache, new, self._slots)
            target[..., : new.length + old_slots, :] = source

    def _group_cache(self, cache: Tensor, group: PromptGroup, slots: int) -> Tensor:
        """View a group's part of a cache (..., all, 2·K·D) as (..., prompts, 2, K, T + slots, D)."""
        return _prompts_cache(cache, group.slot, group.stop - group.start, group.length + slots, self._heads.keys)

    def _prompt_groups(self) -> list[PromptGroup]:
        change = np.flatnonzero(np.diff(self._padded)) + 1
        first_row = np.cumsum(self._padded) - self._padded
        return [
            PromptGroup(start, stop, int(self._padded[start]), int(first_row[start]), int(self._base[start]))
            for start, stop in pairwise([0, *change.tolist(), len(self._padded)])
            if start < stop
        ]

    def _by_heads(self, kv: Tensor) -> Tensor:
        """Split keys and values by heads: (b, T, 2·K·D) -> (b, 2, K, T, D)."""
        return kv.unflatten(2, (2, self._heads.keys, -1)).permute(0, 2, 3, 1, 4)

    def _store(self, layer: int, group: PromptGroup, kv: Tensor) -> None:
        """Store the keys and values (b, T, 2·K·D) of a group's prompts in the cache."""
        if self._slots:
            stored = self._group_cache(self._cache[layer], group, self._slots)
            stored[..., : group.length, :] = self._by_heads(kv)

    def _cache_rows(self, placement: Placement) -> Ints:
        parts = 2 * self._heads.keys
        first = self._base * parts + self._padded  # of a prompt's first part, after the prompt's own tokens
        start = first[placement.prompt] + placement.slot
        return (start[:, None] + np.arange(parts) * self._stride[placement.prompt, None]).ravel()

    def _attention_calls(self, placement: Placement, position: Ints) -> tuple[list[AttentionCall], Tensor, Tensor]:
        """Group neighbouring prompts of the same shape into attention calls.

        A prompt's shape depends on its own length and rows, never on its neighbours'. Returns the calls, the index of
        the row of each query, and the index of the query of each row.
        """
        rows = np.bincount(placement.prompt, minlength=len(self.lengths))
        members = np.flatnonzero(rows)
        rows = rows[members]
        first_row = np.cumsum(rows) - rows
        few, many = self._multiples
        multiple = np.where(rows > MANY_QUERIES, many, few)
        query_count = -(-rows // multiple) * multiple
        slots = -(-(np.maximum.reduceat(placement.slot, first_row) + 1) // SLOT_MULTIPLE) * SLOT_MULTIPLE
        shape = np.stack([self._padded[members], query_count, slots, members - np.arange(len(members))])
        cuts = np.flatnonzero((np.diff(shape) != 0).any(axis=0)) + 1
        calls, queries, back = [], [], []
        query = 0
        for start, stop in pairwise([0, *cuts.tolist(), len(members)]):
            n, first = stop - start, int(members[start])
            T, R, S = (int(size) for size in shape[:3, start])
            place = np.arange(R)
            each = np.minimum(place, rows[start:stop, None] - 1) + first_row[start:stop, None]  # (n, R) rows
            seen = self.lengths[first : first + n, None] - placement.cut[each]  # (n, R) tokens of the prompt
            visible = np.concatenate([np.arange(T) < seen[:, :, None], placement.sees[each, :S]], axis=2)
            of_slots = self.lengths[first : first + n, None] + self.tree.depth_after_cut(first, first + n, S)
            keys = np.concatenate([np.broadcast_to(np.arange(T), (n, T)), of_slots], axis=1)
            base, stride = int(self._base[first]), T + self._slots
            calls.append(AttentionCall(query, n, R, base, stride, visible, position[each], keys))
            queries.append(each.ravel())
            back.append((query + place + R * np.arange(n)[:, None])[place < rows[start:stop, None]])
            query += n * R
        return calls, self.tensor(np.concatenate(queries)), self.tensor(np.concatenate(back))
