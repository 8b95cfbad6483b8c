"""The fast engine of transformers' models: packed prompts, and keys and values that all answers of a prompt share.

A model of transformers calls the attention function that its configuration names. Ours gets the rows of all prompts
in one sequence and separates them in a PromptCache, so each architecture keeps its own code for everything else.
`packed_or_none` first compares the model with its own eager forward pass; one that differs gets no packed engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.pytorch_utils import Conv1D

from lm.engine import token_count
from lm.engine.attention import AttentionRule, Heads
from lm.engine.batching import BFLOAT16_ROW_MULTIPLE, RowTiles, choose_tiles
from lm.engine.device import Buffers
from lm.engine.gpt2 import PACKED_ROWS, fuses_bfloat16, packed_product
from lm.engine.kv_tree import ROOT, Floats, Ints, TokenRuns
from lm.engine.prompt_cache import PromptCache
from lm.engine.vocabulary_head import VocabularyHead

ATTENTION = "regulars_packed"
UNBOUNDED = 1 << 20
"""The context of models without position embeddings."""
ROWS_PER_TILE = 512
"""Rows of a matrix product in float32."""
USUAL_OPTIONS = {"dropout", "is_causal", "use_cache", "position_ids"}
"""Options of attention functions that change nothing here; a model with others gets no packed engine."""
UNSUPPORTED_KINDS = {"chunked_attention", "dynamic", "longrope"}
"""Layers, and rotary embeddings that depend on the longest prompt of a batch."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""The largest relative difference between packed and eager logits."""

Attend = Callable[[int, Tensor, Tensor, Tensor, AttentionRule], None]
"""Attention of one layer: (layer, q (N, H·D), kv (N, 2·K·D), out (N, H·D), rule)."""


class Unsupported(Exception):
    """The model computes something that packed prompts do not allow."""


class PackedLayers(NamedTuple):
    """What all layers of a model share."""

    number: int
    heads: Heads


def _attention(
    module: nn.Module,
    query: Tensor,  # (1, H, N, D)
    key: Tensor,  # (1, K, N, D)
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed_attention: Attend,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in each layer; returns (1, N, H, D)."""
    others = {name for name, given in options.items() if given is not None} - USUAL_OPTIONS
    if others or key.shape != value.shape or getattr(module, "layer_idx", None) is None:
        raise Unsupported(f"attention with {', '.join(sorted(others)) or 'unusual keys'}")
    _, H, N, D = query.shape
    q = query[0].transpose(0, 1).reshape(N, H * D)
    kv = torch.cat([x[0].transpose(0, 1).reshape(N, -1) for x in (key, value)], dim=1)
    out = torch.zeros_like(q)
    rule = AttentionRule(D**-0.5 if scaling is None else scaling, sliding_window, softcap)
    packed_attention(int(module.layer_idx), q, kv, out, rule)  # type: ignore[arg-type]  # an int, not a parameter
    return out.view(1, N, H, D), None


def packed_or_none(model: Any) -> PackedEngine | None:
    """The packed engine of a causal model of transformers, or None where its architecture does not allow one.

    Changes the attention function of a model that it takes; any other model answers as before.
    """
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type")} | {one.get("rope_type") for one in rope.values() if isinstance(one, dict)}
    kinds |= set(getattr(config, "layer_types", None) or [])
    has_bias = getattr(model.get_output_embeddings(), "bias", None) is not None
    if has_bias or kinds & UNSUPPORTED_KINDS or not getattr(model, "_supports_attention_backend", False):
        return None
    before = model.config._attn_implementation
    unpacked: dict[nn.Linear, nn.Parameter | None] = {}
    AttentionInterface.register(ATTENTION, _attention)
    try:
        model.set_attn_implementation(ATTENTION)
        engine = PackedEngine(model, _layers(model))
        if engine.dtype == torch.bfloat16 and engine.device.type == "cpu" and fuses_bfloat16():
            _pack_weights(model, unpacked)
        if _equals_eager(engine):
            return engine
    except (Unsupported, TypeError, ValueError, RuntimeError, LookupError, AttributeError):
        pass  # whatever an architecture does otherwise than expected, the plain engine computes it
    for module, weight in unpacked.items():
        del module.__dict__["forward"]
        module.register_parameter("weight", weight)
    model.set_attn_implementation(before)
    return None


@torch.inference_mode()
def _pack_weights(model: Any, unpacked: dict[nn.Linear, nn.Parameter | None]) -> None:
    """Replace the weights of linear layers by copies in oneDNN's order, and note the weights in `unpacked`.

    Texts of 12 customers take a tenth less time. transformers gives each worker a copy anyway, so none is lost.
    """
    for module in model.base_model.modules():
        if type(module) is nn.Linear:
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), PACKED_ROWS)
            unpacked[module] = module._parameters["weight"]
            module.register_parameter("weight", None)
            module.__dict__["forward"] = partial(packed_product, weight=packed, bias=module.bias)


def _run(model: Any, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
    """The states of packed rows: ids and positions (N,) -> (N, E)."""
    out = model.base_model(
        input_ids=ids[None], position_ids=positions[None], use_cache=False, packed_attention=attend, return_dict=True
    )
    return out.last_hidden_state[0]


@torch.inference_mode()
def _layers(model: Any) -> PackedLayers:
    """Run one token through the model and note the heads of each layer; raises Unsupported where they differ."""
    found: dict[int, tuple[Heads, int | None]] = {}

    def note(layer: int, q: Tensor, kv: Tensor, out: Tensor, rule: AttentionRule) -> None:
        heads, width = int(config.num_attention_heads), q.shape[1] // int(config.num_attention_heads)
        found[layer] = Heads(heads, kv.shape[1] // (2 * width), width), rule.window

    config = model.config.get_text_config()
    one = torch.zeros(1, dtype=torch.int64, device=model.device)
    _run(model, one, one, note)
    count = int(config.num_hidden_layers)
    if sorted(found) != list(range(count)) or len({heads for heads, _ in found.values()}) != 1:
        raise Unsupported("layers of several kinds")
    has_window = bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
    kinds = getattr(config, "layer_types", None) or [("full", "sliding")[has_window] + "_attention"] * count
    if any((kind == "sliding_attention") != (found[n][1] is not None) for n, kind in enumerate(kinds)):
        raise Unsupported("windows that the attention function does not get")
    return PackedLayers(count, found[0][0])


@torch.inference_mode()
def _equals_eager(engine: PackedEngine) -> bool:
    """Whether two packed prompts, and a tree of answers after them, have the logits of the model's own forward pass."""
    model, ids = engine.model, np.random.default_rng(0).integers(0, engine.vocabulary, 16).tolist()
    prompts, answer = [ids[:9], ids[9:14]], ids[14:]
    prefilled = engine.prefill(prompts, 2)
    first = torch.cat([logits.clone() for _, logits in engine.logits(prefilled.states)])
    runs = TokenRuns(np.arange(2), np.array([ROOT, ROOT]), np.full(2, 2), np.array(answer * 2), np.ones(2, np.bool_))
    states, _ = prefilled.extend(runs)
    second = torch.cat([logits.clone() for _, logits in engine.logits(states)])
    model.set_attn_implementation("eager")
    try:
        for number, prompt in enumerate(prompts):
            expected = model(input_ids=torch.tensor([prompt + answer], device=model.device), use_cache=False)
            rows = expected.logits[0, -3:].float()  # after the prompt and after each token of the answer
            found = torch.cat([first[number : number + 1], second[2 * number : 2 * number + 2]])
            spread = (rows - rows.mean(dim=1, keepdim=True)).norm()
            if not (found - rows).norm() <= TOLERANCE.get(engine.dtype, 0.1) * spread:
                return False
    finally:
        model.set_attn_implementation(ATTENTION)
    return True


class PackedEngine:
    """Implements lm.engine.engine.Engine; only the newest batch of prompts is valid."""

    def __init__(self, model: Any, layers: PackedLayers) -> None:
        self.model, self.layers = model, layers
        config = model.config.get_text_config()
        weight = model.get_output_embeddings().weight.detach()
        self.vocabulary = len(weight)
        self.context = int(getattr(config, "max_position_embeddings", None) or UNBOUNDED)
        self.device, self.dtype = weight.device, weight.dtype
        self.row_bytes = 2 * layers.number * layers.heads.keys * layers.heads.width * weight.element_size()
        self.buffers = Buffers(self.dtype, self.device)
        self.head = VocabularyHead(weight, self.buffers, getattr(config, "final_logit_softcapping", None))
        # Cohere multiplies its logits, Granite divides them.
        self._logit_scale = (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
        self.tiles = self._tile_products()

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> PackedPrefilled:
        """Compute prompts, fastest in order of length; with 0 `slots` no keys and values are kept."""
        token_count.count_texts(prompts)
        return PackedPrefilled(self, prompts, slots)

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """As lm.engine.engine.Engine.logits."""
        return self.head.logits(states, first, count)

    @torch.inference_mode()
    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """As lm.engine.engine.Engine.log_probs."""
        return self.head.log_probs(states, row, token)

    def states(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The states of packed rows, ready for the head: ids and positions (N,) -> (N, E)."""
        states = _run(self.model, ids, positions, attend)
        return states if self._logit_scale == 1 else states * self._logit_scale

    def _tile_products(self) -> RowTiles:
        """Choose row counts; in float32 on a CPU also split every product, so that its rows keep their bits."""
        if self.device.type != "cpu":
            return RowTiles(1 << 16, 64)
        if self.dtype != torch.float32:
            return RowTiles(1 << 16, BFLOAT16_ROW_MULTIPLE)
        products = {
            module.weight.shape: module
            for module in self.model.base_model.modules()
            if isinstance(module, nn.Linear | Conv1D)
        }
        width = {Conv1D: 0, nn.Linear: 1}
        with torch.inference_mode():
            of_products = [(one.forward, shape[width.get(type(one), 1)]) for shape, one in products.items()]
            tiles = choose_tiles(of_products, ROWS_PER_TILE)
        for module in self.model.base_model.modules():
            if isinstance(module, nn.Linear | Conv1D):
                module.__dict__["forward"] = partial(_in_tiles, module.forward, tiles)
        return tiles


def _in_tiles(product: Callable[[Tensor], Tensor], tiles: RowTiles, x: Tensor) -> Tensor:
    """A product (…, in) -> (…, out), tile by tile; row counts that are no multiple of the tiles' are computed whole."""
    rows = x.numel() // x.shape[-1]
    if rows <= tiles.tile or rows % tiles.multiple:
        return product(x)
    flat = x.reshape(rows, -1)
    return torch.cat([product(flat[part]) for part in tiles(rows)]).view(*x.shape[:-1], -1)


class PackedPrefilled:
    """Implements lm.engine.engine.Prefilled."""

    def __init__(self, engine: PackedEngine, prompts: Sequence[Sequence[int]], slots: int) -> None:
        self.engine = engine
        lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        self._cache = PromptCache(lengths, slots, engine.layers.number, engine.layers.heads, engine.buffers)
        self.tree = self._cache.tree
        ids, positions = self._cache.pack(prompts, engine.tiles.padded(max(self._cache.rows, 1)))
        states = engine.states(ids, positions, self._cache.attend_prompts)
        self.states = states[self._cache.last_rows()]

    @torch.inference_mode()
    def extend(self, runs: TokenRuns) -> tuple[Tensor, Ints]:
        """As lm.engine.engine.Prefilled.extend."""
        token_count.count(len(runs.token))
        new = self._cache.place(runs)
        n = len(runs.token)
        N = self.engine.tiles.padded(n)
        ids, positions = np.zeros(N, np.int64), np.zeros(N, np.int64)
        ids[:n], positions[:n] = runs.token, new.position

        def attend(layer: int, q: Tensor, kv: Tensor, out: Tensor, rule: AttentionRule) -> None:
            self._cache.attend_runs(layer, new, q, kv[:n], out[:n], rule)

        states = self.engine.states(self._cache.tensor(ids), self._cache.tensor(positions), attend)
        return states[:n], new.placement.last
