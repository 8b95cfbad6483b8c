"""The engine of GPT-2: packed prompts, one key/value cache, and batched passes over a tree of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lm.engine import gpt2, token_count
from lm.engine.batching import BFLOAT16_ROW_MULTIPLE, RowTiles, choose_tiles
from lm.engine.device import Buffers
from lm.engine.gpt2 import GPT2, Block
from lm.engine.kv_tree import Floats, Ints, TokenRuns
from lm.engine.prompt_cache import PromptCache
from lm.engine.vocabulary_head import VocabularyHead

ROWS_PER_TILE = 512
"""Rows of a matrix product; the MLP's hidden layer of one tile (6 MB for GPT-2 124M) fits the CPU cache."""
BFLOAT16_ROWS_PER_TILE = 4096
"""In bfloat16 the library reorders the weights for each product, which only pays with many rows."""

MOST_PACKED_ROWS = 1024
"""Passes of more rows read the mapped weights: ordering them anew takes a small part of their time."""


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
        self._packed: Sequence[Block] | None = None

    def _choose_tiles(self) -> RowTiles:
        if self.device.type != "cpu":  # a GPU computes all rows at once
            return RowTiles(1 << 16, 64)
        if self.dtype != torch.float32:
            return RowTiles(BFLOAT16_ROWS_PER_TILE, BFLOAT16_ROW_MULTIPLE)
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

    def blocks_for(self, rows: int) -> Sequence[Block]:
        """The blocks for a pass of so many rows: for few rows in bfloat16 on a CPU, with weights in oneDNN's order.

        The copy is made for the first such pass. 40 rows take two thirds of the time, 160 rows four fifths.
        """
        fuses = self.dtype == torch.bfloat16 and self.device.type == "cpu" and gpt2.fuses_bfloat16()
        if not fuses or rows > MOST_PACKED_ROWS:
            return self.model.blocks
        if self._packed is None:
            self._packed = tuple(map(gpt2.packed, self.model.blocks))
        return self._packed

    def through_block(self, x: Tensor, block: Block, attended: Tensor) -> None:
        """Compute the rest of a layer after attention, tile by tile, in place: x (N, E), attended (N, E) -> x."""
        tile = min(self.tiles.tile, len(x))
        inner = self.buffers.get("inner", tile, self.model.inner)
        scratch = self.buffers.get("scratch", tile, self.model.inner)
        for rows in self.tiles(len(x)):
            n = rows.stop - rows.start
            gpt2.finish_block(self.model, block, x[rows], attended[rows], inner[:n], scratch[:n])


class GPT2Prefilled:
    """Implements lm.engine.engine.Prefilled."""

    def __init__(self, engine: GPT2Engine, prompts: Sequence[Sequence[int]], slots: int) -> None:
        self.engine, self.model = engine, engine.model
        lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        self._cache = PromptCache(lengths, slots, len(self.model.blocks), self.model.heads, engine.buffers)
        self.tree = self._cache.tree
        self.states = self._prefill(prompts)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The state after each prompt: (B, E). The last layer computes all keys and values, but only the last row."""
        engine, model, E, buffers = self.engine, self.model, self.model.n_embd, self.engine.buffers
        if not prompts:
            return torch.empty(0, E, dtype=engine.dtype, device=engine.device)
        N = engine.tiles.padded(self._cache.rows)
        ids, positions = self._cache.pack(prompts, N)
        x = gpt2.embed(model, ids, positions, buffers.get("x", N, E))
        qkv = buffers.get("qkv", N, 3 * E)
        attended = buffers.get("attended", N, E)
        for layer, block in enumerate(model.blocks[:-1]):
            for rows in engine.tiles(N):
                gpt2.queries_keys_values(model, block, x[rows], qkv[rows])
            self._cache.attend_prompts(layer, qkv[:, :E], qkv[:, E:], attended, model.attention_rule(layer))
            engine.through_block(x, block, attended)
        return self._last_layer(x)

    def _last_layer(self, x: Tensor) -> Tensor:
        engine, model, E = self.engine, self.model, self.model.n_embd
        layer, block, B = len(model.blocks) - 1, model.blocks[-1], len(self._cache.lengths)
        kv = engine.buffers.get("qkv", len(x), 2 * E)
        for rows in engine.tiles(len(x)):
            gpt2.keys_values(model, block, x[rows], kv[rows])
        last = torch.zeros(engine.tiles.padded(B), E, dtype=engine.dtype, device=engine.device)
        last[:B] = x[self._cache.last_rows()]
        q = torch.cat([gpt2.queries(model, block, last[rows]) for rows in engine.tiles(len(last))])
        attended = torch.zeros_like(last)
        self._cache.attend_last(layer, q, kv, attended, model.attention_rule(layer))
        engine.through_block(last, block, attended)
        return gpt2.final_norm(model, last)[:B]

    @torch.inference_mode()
    def extend(self, runs: TokenRuns) -> tuple[Tensor, Ints]:
        """As lm.engine.engine.Prefilled.extend."""
        token_count.count(len(runs.token))
        engine, model, E, buffers = self.engine, self.model, self.model.n_embd, self.engine.buffers
        new = self._cache.place(runs)
        n = len(runs.token)
        N = engine.tiles.padded(n)
        ids, positions = np.zeros(N, np.int64), np.zeros(N, np.int64)
        ids[:n], positions[:n] = runs.token, new.position
        x = gpt2.embed(model, self._cache.tensor(ids), self._cache.tensor(positions), buffers.get("x", N, E))
        qkv = buffers.get("qkv", N, 3 * E)
        attended = buffers.get("attended", N, E).zero_()
        for layer, block in enumerate(engine.blocks_for(N)):
            for rows in engine.tiles(N):
                gpt2.queries_keys_values(model, block, x[rows], qkv[rows])
            rule = model.attention_rule(layer)
            self._cache.attend_runs(layer, new, qkv[:, :E], qkv[:n, E:], attended[:n], rule)
            engine.through_block(x, block, attended)
        return gpt2.final_norm(model, x)[:n], new.placement.last
