"""The output head: logits and log-probabilities of states over a large vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lm.engine.attention import soft_capped
from lm.engine.batching import BFLOAT16_ROW_MULTIPLE, FIXED_TILE, ROW_MULTIPLE, RowTiles, choose_tiles, round_up
from lm.engine.device import Buffers
from lm.engine.kv_tree import Floats, Ints

STATES_PER_TILE = 512
"""States that are multiplied at once."""
TOKENS_PER_CHUNK = 512
"""Tokens that are multiplied at once. The logits of a chunk (1 MB) stay in the CPU cache; one product with the whole
vocabulary takes half as long again (measured with MKL in float32).
"""
BFLOAT16_TOKENS_PER_CHUNK = 8192
"""The same in bfloat16, whose products are so short that more calls would cost more."""
LOGITS_AT_ONCE = 1 << 23
"""Logits yielded at once (32 MB in float32), where this is no less than a tile of FIXED_TILE rows."""
MOST_LOGITS = 1 << 25
"""Most logits yielded at once (128 MB in float32); for more than 262,144 tokens the tiles have fewer rows."""


class VocabularyHead:
    """The output embeddings: weight (vocabulary, E). With a `softcap` a logit is softcap · tanh(product / softcap)."""

    def __init__(self, weight: Tensor, buffers: Buffers, softcap: float | None = None) -> None:
        self.weight, self.buffers, self._softcap = weight, buffers, softcap
        self._is_exact = weight.dtype == torch.float32 and not weight.is_cuda
        other_chunk = len(weight) if weight.is_cuda else BFLOAT16_TOKENS_PER_CHUNK
        self._chunk = TOKENS_PER_CHUNK if self._is_exact else other_chunk
        self._checked: dict[tuple[int, int], RowTiles] = {}

    @torch.inference_mode()
    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """As lm.engine.engine.Engine.logits."""
        weight = self.weight[first : len(self.weight) if count is None else first + count]  # (count, E)
        tiles = self._tiles(first, len(weight), LOGITS_AT_ONCE // max(len(weight), 1))
        padded = self._padded(states, tiles)
        for rows in tiles(len(padded)):
            out = self.buffers.get("logits", rows.stop - rows.start, len(weight))
            for start in range(0, len(weight), self._chunk):
                chunk = weight[start : start + self._chunk]
                torch.mm(padded[rows], chunk.t(), out=out[:, start : start + len(chunk)])
            yield rows.start, self._float32(out)[: len(states) - rows.start]

    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """As lm.engine.engine.Engine.log_probs; never holds the logits of the whole vocabulary."""
        found = np.empty(len(row), np.float64)
        tiles = self._tiles(0, len(self.weight), STATES_PER_TILE)
        padded = self._padded(states, tiles)
        for rows in tiles(len(padded)):
            here = slice(*np.searchsorted(row, (rows.start, rows.stop)))
            if here.start < here.stop:
                found[here] = self._log_probs(padded[rows], row[here] - rows.start, token[here])
        return found

    def _log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """log_probs of one tile of states (n, E), by a running log-sum-exp over chunks of the vocabulary."""
        n, device = len(states), states.device
        order = np.argsort(token, kind="stable")  # makes the tokens of a chunk contiguous
        row, token = row[order], token[order]
        rows, tokens = (torch.from_numpy(index).to(device) for index in (row, token))
        wanted = torch.empty(len(row), device=device)  # logits
        peak = torch.full((n, 1), -torch.inf, device=device)
        total = torch.zeros(n, 1, device=device)  # of exp(logit - peak)
        for start in range(0, len(self.weight), self._chunk):
            chunk = self.weight[start : start + self._chunk]
            out = self.buffers.get("chunk", n, len(chunk))
            logits = self._float32(torch.mm(states, chunk.t(), out=out))  # (n, chunk)
            here = slice(*np.searchsorted(token, (start, start + len(chunk))))
            wanted[here] = logits[rows[here], tokens[here] - start]
            before, peak = peak, torch.maximum(peak, logits.amax(dim=1, keepdim=True))
            total.mul_((before - peak).exp_()).add_(logits.sub_(peak).exp_().sum(dim=1, keepdim=True))
        normaliser = peak.double() + total.double().log()  # (n, 1)
        logp = np.empty(len(row), np.float64)
        logp[order] = (wanted.double() - normaliser[rows, 0]).cpu().numpy()
        return logp

    def _padded(self, states: Tensor, tiles: RowTiles) -> Tensor:
        padded = self.buffers.get("states", tiles.padded(len(states)), states.shape[1])
        padded[: len(states)] = states
        padded[len(states) :] = 0
        return padded

    def _float32(self, logits: Tensor) -> Tensor:
        if logits.dtype != torch.float32:
            logits = self.buffers.get("float32", *logits.shape, dtype=torch.float32).copy_(logits)
        return logits if self._softcap is None else soft_capped(logits, self._softcap)

    def _tiles(self, first: int, count: int, most: int) -> RowTiles:
        """Tiles of about `most` rows; fixed ones where the rounding of these tokens' products depends on the rows."""
        fixed = max(ROW_MULTIPLE, min(FIXED_TILE, MOST_LOGITS // max(count, 1) // ROW_MULTIPLE * ROW_MULTIPLE))
        tile = round_up(min(max(most, fixed), STATES_PER_TILE), fixed)
        if not self._is_exact:
            return RowTiles(tile, min(fixed, BFLOAT16_ROW_MULTIPLE))
        if (first, count) not in self._checked:
            last = first + count // self._chunk * self._chunk  # an incomplete chunk has a shape of its own
            parts = (self.weight[first : first + min(count, self._chunk)], self.weight[last : first + count])
            width = self.weight.shape[1]
            products = [(lambda x, part=part: torch.mm(x, part.t()), width) for part in parts if len(part)]
            with torch.inference_mode():
                self._checked[first, count] = choose_tiles(products, STATES_PER_TILE)
        checked = self._checked[first, count]
        return RowTiles(min(tile, checked.tile), min(fixed, checked.multiple))
