"""The engine of GPT-2: packed prompts, one key/value cache, and batched passes over a tree of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm.engine import gpt2, token_count
from lm.engine.batching import LENGTH_MULTIPLE, ROW_MULTIPLE, RowTiles, choose_tiles
from lm.engine.device import Buffers
from lm.engine.gpt2 import GPT2
from lm.engine.kv_tree import SLOT_MULTIPLE, Floats, Ints, KVTree, Placement, TokenRuns
from lm.engine.vocabulary_head import VocabularyHead

ROWS_PER_TILE = 512
"""Rows of a matrix product; the MLP's hidden layer of one tile (6 MB for GPT-2 124M) fits the CPU cache."""
BFLOAT16_ROWS_PER_TILE = 4096
"""In bfloat16 the library reorders the weights for each product, which only pays with many rows."""
MANY_QUERIES = 32
"""More queries of a prompt than this are padded to a multiple of it, so that more prompts share a shape."""


class PromptGroup(NamedTuple):
    """Consecutive prompts that are padded to the same length."""

    start: int  # first prompt
    stop: int
    length: int  # padded tokens T
    row: int  # first row of the packed prompts
    slot: int  # first slot of the cache; each prompt has T + slots of them


class AttentionCall(NamedTuple):
    """Consecutive prompts of one attention call: they share padded length, queries and visible slots."""

    row: int  # first row of the pass's queries
    prompts: int
    rows: int  # queries of each prompt, padded to a multiple of QUERY_MULTIPLE
    slot: int  # first slot of the cache
    stride: int  # slots of each prompt, the prompt's own tokens included
    mask: Tensor  # (prompts, rows, padded length + visible slots)


def _prompts_cache(cache: Tensor, first: int, prompts: int, stride: int, heads: int) -> Tensor:
    """View the cache (..., all, 2E) of consecutive prompts as (..., prompts, 2, H, stride, D).

    The keys of one head are contiguous, which halves the time of attention for a few new rows.
    """
    flat = cache[..., first : first + prompts * stride, :].flatten(-2)
    return flat.unflatten(-1, (prompts, 2, heads, stride, -1))


class GPT2Engine:
    """Implements lm.engine.engine.Engine; only the newest batch of prompts is valid.

    `tiles` are the row counts of the matrix products; the default is chosen for the hardware.
    """

    def __init__(self, model: GPT2, tiles: RowTiles | None = None) -> None:
        self.model = model
        self.context, self.vocabulary = model.context, len(model.head)
        self.device, self.dtype = model.wte.device, model.wte.dtype
        self.row_bytes = 2 * len(model.blocks) * model.n_embd * model.wte.element_size()
        self.buffers = Buffers(self.dtype, self.device)
        self.head = VocabularyHead(model.head, self.buffers)
        self.tiles = tiles or self._choose_tiles()

    def _choose_tiles(self) -> RowTiles:
        if self.device.type != "cpu":  # a GPU computes all rows at once
            return RowTiles(1 << 16, 64)
        if self.dtype != torch.float32:
            return RowTiles(BFLOAT16_ROWS_PER_TILE, 2 * ROW_MULTIPLE)
        model, block = self.model, self.model.blocks[0]
        E, inner = model.n_embd, model.inner
        with torch.inference_mode():
            return choose_tiles(
                [
                    (lambda x: torch.addmm(block.c_attn_bias, x, block.c_attn_weight), E),
                    (lambda x: torch.addmm(block.c_attn_bias[E:], x, block.c_attn_weight[:, E:]), E),
                    (lambda x: x.clone().addmm_(x, block.attn_c_proj_weight), E),
                    (lambda x: torch.addmm(block.c_fc_bias, x, block.c_fc_weight), E),
                    (lambda x: x[:, :E].clone().addmm_(x, block.mlp_c_proj_weight), inner),
                ],
                ROWS_PER_TILE,
            )

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> GPT2Prefilled:
        """Compute prompts, fastest in order of length; with 0 `slots` no keys and values are kept."""
        token_count.count_texts(prompts)
        return GPT2Prefilled(self, prompts, slots)

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """As lm.engine.engine.Engine.logits."""
        return self.head.logits(states, first, count)

    @torch.inference_mode()
    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """As lm.engine.engine.Engine.log_probs."""
        return self.head.log_probs(states, row, token)

    def through_blocks(self, x: Tensor, layer: int, attended: Tensor) -> None:
        """Compute the rest of a layer after attention, tile by tile, in place: x (N, E), attended (N, E) -> x."""
        tile = min(self.tiles.tile, len(x))
        inner = self.buffers.get("inner", tile, self.model.inner)
        scratch = self.buffers.get("scratch", tile, self.model.inner)
        for rows in self.tiles(len(x)):
            n = rows.stop - rows.start
            gpt2.finish_block(self.model, self.model.blocks[layer], x[rows], attended[rows], inner[:n], scratch[:n])


class GPT2Prefilled:
    """Implements lm.engine.engine.Prefilled."""

    def __init__(self, engine: GPT2Engine, prompts: Sequence[Sequence[int]], slots: int) -> None:
        self.engine, self.model = engine, engine.model
        self.tree = KVTree(len(prompts), slots)
        self.lengths: Ints = np.array([len(prompt) for prompt in prompts], np.int64)
        self._padded = -(-self.lengths // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        self._lay_out()
        self._cache = engine.buffers.get("cache", *self._cache_shape(), zero=True)
        self.states = self._prefill(prompts)

    def _lay_out(self) -> None:
        """Assign each prompt its part of the cache: the prompt's tokens, then the tree's slots."""
        self._slots = self.tree.slots
        self._stride = self._padded + self._slots  # cache slots of each prompt
        self._base: Ints = np.cumsum(self._stride) - self._stride  # the first of them
        self._groups = self._prompt_groups()

    def _cache_shape(self) -> tuple[int, int, int]:
        total = int(self._stride.sum()) if self._slots else 0
        return len(self.model.blocks), total, 2 * self.model.n_embd

    def _make_room(self) -> None:
        """Copy the cache into a larger one, with the tree's present number of slots for every prompt."""
        if not self._slots:
            raise ValueError("prompts computed with 0 slots keep no keys and values, and cannot be extended")
        old_groups, old_cache, old_slots = self._groups, self._cache, self._slots
        self._lay_out()
        self._cache = self.engine.buffers.replace("cache", *self._cache_shape(), zero=True)
        for old, new in zip(old_groups, self._groups, strict=True):
            source = self._group_cache(old_cache, old, old_slots)
            target = self._group_cache(self._cache, new, self._slots)
            target[..., : new.length + old_slots, :] = source

    def _group_cache(self, cache: Tensor, group: PromptGroup, slots: int) -> Tensor:
        """View a group's part of a cache (..., all, 2E) as (..., prompts, 2, H, T + slots, D)."""
        return _prompts_cache(cache, group.slot, group.stop - group.start, group.length + slots, self.model.n_head)

    def _prompt_groups(self) -> list[PromptGroup]:
        change = np.flatnonzero(np.diff(self._padded)) + 1
        first_row = np.cumsum(self._padded) - self._padded
        return [
            PromptGroup(start, stop, int(self._padded[start]), int(first_row[start]), int(self._base[start]))
            for start, stop in pairwise([0, *change.tolist(), len(self._padded)])
            if start < stop
        ]

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The state after each prompt: (B, E). The last layer computes all keys and values, but only the last row."""
        engine, model, buffers = self.engine, self.model, self.engine.buffers
        if not prompts:
            return torch.empty(0, model.n_embd, dtype=engine.dtype, device=engine.device)
        x = self._embed_prompts(prompts)  # (N, E)
        qkv = buffers.get("qkv", len(x), 3 * model.n_embd)
        attended = buffers.get("attended", len(x), model.n_embd)
        for layer, block in enumerate(model.blocks[:-1]):
            for rows in engine.tiles(len(x)):
                gpt2.queries_keys_values(model, block, x[rows], qkv[rows])
            for group in self._groups:
                rows = slice(group.row, group.row + (group.stop - group.start) * group.length)
                whole = qkv[rows].view(-1, group.length, 3 * model.n_embd)  # (b, T, 3E)
                attended[rows].view(len(whole), group.length, -1).copy_(gpt2.attend_causally(model, layer, whole))
                self._store(layer, group, whole[:, :, model.n_embd :])
            engine.through_blocks(x, layer, attended)
        return self._last_layer(x)

    def _embed_prompts(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The embeddings of all prompts, concatenated, each padded at its end to LENGTH_MULTIPLE: (N, E)."""
        model = self.model
        N = self.engine.tiles.padded(int(self._padded.sum()))
        ids, positions = np.zeros(N, np.int64), np.zeros(N, np.int64)
        start = 0
        for prompt, padded in zip(prompts, self._padded.tolist(), strict=True):
            ids[start : start + len(prompt)] = prompt
            positions[start : start + len(prompt)] = np.arange(len(prompt))
            start += padded
        x = self.engine.buffers.get("x", N, model.n_embd)
        return gpt2.embed(model, self._tensor(ids), self._tensor(positions), x)

    def _last_layer(self, x: Tensor) -> Tensor:
        engine, model, E = self.engine, self.model, self.model.n_embd
        layer, block, B = len(model.blocks) - 1, model.blocks[-1], len(self.lengths)
        kv = engine.buffers.get("qkv", len(x), 2 * E)
        for rows in engine.tiles(len(x)):
            gpt2.keys_values(model, block, x[rows], kv[rows])
        ends = np.cumsum(self._padded) - self._padded + self.lengths - 1  # (B,) row of each prompt's last token
        last = torch.zeros(engine.tiles.padded(B), E, dtype=engine.dtype, device=engine.device)
        last[:B] = x[self._tensor(ends)]
        q = torch.cat([gpt2.queries(model, block, last[rows]) for rows in engine.tiles(len(last))])
        attended = torch.zeros_like(last)
        for group in self._groups:
            n = group.stop - group.start
            keys = kv[group.row : group.row + n * group.length].view(n, group.length, 2 * E)
            self._store(layer, group, keys)
            within = np.arange(group.length) < self.lengths[group.start : group.stop, None]  # (b, T)
            within = np.repeat(within[:, None], gpt2.QUERY_MULTIPLE, axis=1)  # (b, R, T)
            repeated = q[group.start : group.stop, None].expand(-1, gpt2.QUERY_MULTIPLE, -1)  # (b, R, E)
            keys = gpt2.by_heads(model, keys)
            attended[group.start : group.stop] = gpt2.attend(model, layer, repeated, keys, self._mask(within))[:, 0]
        engine.through_blocks(last, layer, attended)
        return gpt2.final_norm(model, last)[:B]

    def _store(self, layer: int, group: PromptGroup, kv: Tensor) -> None:
        """Store the keys and values (b, T, 2E) of a group's prompts in the cache."""
        if self._slots:
            stored = self._group_cache(self._cache[layer], group, self._slots)
            stored[..., : group.length, :] = gpt2.by_heads(self.model, kv)

    @torch.inference_mode()
    def extend(self, runs: TokenRuns) -> tuple[Tensor, Ints]:
        """As lm.engine.engine.Prefilled.extend."""
        token_count.count(len(runs.token))
        engine, model, E = self.engine, self.model, self.model.n_embd
        placement = self.tree.place(runs)
        if self.tree.slots != self._slots:
            self._make_room()
        n = len(runs.token)
        N = engine.tiles.padded(n)
        ids, positions = np.zeros(N, np.int64), np.zeros(N, np.int64)
        ids[:n] = runs.token
        positions[:n] = self.lengths[placement.prompt] - placement.cut + placement.depth
        x = gpt2.embed(model, self._tensor(ids), self._tensor(positions), engine.buffers.get("x", N, E))
        qkv = engine.buffers.get("qkv", N, 3 * E)
        attended = engine.buffers.get("attended", N, E).zero_()
        slots = self._tensor(self._cache_rows(placement))
        calls, queries, back = self._attention_calls(placement)
        q = engine.buffers.get("queries", len(queries), E)
        answers = engine.buffers.get("answers", len(queries), E)
        for layer, block in enumerate(model.blocks):
            for rows in engine.tiles(N):
                gpt2.queries_keys_values(model, block, x[rows], qkv[rows])
            new = qkv[:n, E:].reshape(len(slots), -1)  # one row for each head's key and each head's value
            self._cache[layer].view(-1, new.shape[1]).index_copy_(0, slots, new)
            torch.index_select(qkv[:, :E], 0, queries, out=q)
            for call in calls:
                rows = slice(call.row, call.row + call.prompts * call.rows)
                kv = _prompts_cache(self._cache[layer], call.slot, call.prompts, call.stride, model.n_head)
                kv = kv[..., : call.mask.shape[2], :]
                asked = q[rows].view(call.prompts, call.rows, E)
                answers[rows] = gpt2.attend(model, layer, asked, kv, call.mask).reshape(-1, E)
            torch.index_select(answers, 0, back, out=attended[:n])
            engine.through_blocks(x, layer, attended)
        return gpt2.final_norm(model, x)[:n], placement.last

    def _cache_rows(self, placement: Placement) -> Ints:
        """The rows of a layer's cache, seen as rows of D numbers, for the new keys and values: (n * 2H,)."""
        parts = 2 * self.model.n_head
        first = self._base * parts + self._padded  # of a prompt's first part, after the prompt's own tokens
        start = first[placement.prompt] + placement.slot
        return (start[:, None] + np.arange(parts) * self._stride[placement.prompt, None]).ravel()

    def _attention_calls(self, placement: Placement) -> tuple[list[AttentionCall], Tensor, Tensor]:
        """Group neighbouring prompts of the same shape into attention calls.

        A prompt's shape depends on its own length and rows, never on its neighbours'. Returns the calls, the index of
        the row of each query, and the index of the query of each row.
        """
        rows = np.bincount(placement.prompt, minlength=len(self.lengths))
        members = np.flatnonzero(rows)
        rows = rows[members]
        first_row = np.cumsum(rows) - rows
        multiple = np.where(rows > MANY_QUERIES, MANY_QUERIES, gpt2.QUERY_MULTIPLE)
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
            calls.append(AttentionCall(query, n, R, int(self._base[first]), T + self._slots, self._mask(visible)))
            queries.append(each.ravel())
            back.append((query + place + R * np.arange(n)[:, None])[place < rows[start:stop, None]])
            query += n * R
        return calls, self._tensor(np.concatenate(queries)), self._tensor(np.concatenate(back))

    def _mask(self, visible: NDArray[np.bool_]) -> Tensor:
        mask = np.where(visible, np.float32(0), np.float32(-np.inf))
        return torch.from_numpy(mask).to(device=self.engine.device, dtype=self.engine.dtype)

    def _tensor(self, numbers: Ints) -> Tensor:
        return torch.from_numpy(numbers).to(self.engine.device)
