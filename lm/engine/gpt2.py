"""GPT-2's forward over Hugging Face weights, as functions small enough to read in one sitting.

The rows of a matrix here are tokens, of any number of prompts one after the other: (N, E). Only attention
knows which rows belong together. Sizes: N rows, B prompts, T tokens of a prompt, E n_embd, H heads, D = E / H.
Weights keep Hugging Face's names and layout, linear layers as (in, out), so that they can stay mapped from
the safetensors file: on a processor `x @ w` is as fast that way as transposed (measured from 16 rows up).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_MULTIPLE = 8
"""Rows that ask in one call are padded to a multiple of this: with odd numbers the matrix library's result
depends on how memory happens to be aligned.
"""


class Block(NamedTuple):
    """One layer's weights, as in Hugging Face's `h.<i>`."""

    ln_1_weight: Tensor  # (E,)
    ln_1_bias: Tensor  # (E,)
    c_attn_weight: Tensor  # (E, 3E): queries, keys, values
    c_attn_bias: Tensor  # (3E,)
    attn_c_proj_weight: Tensor  # (E, E)
    attn_c_proj_bias: Tensor  # (E,)
    ln_2_weight: Tensor  # (E,)
    ln_2_bias: Tensor  # (E,)
    c_fc_weight: Tensor  # (E, inner)
    c_fc_bias: Tensor  # (inner,)
    mlp_c_proj_weight: Tensor  # (inner, E)
    mlp_c_proj_bias: Tensor  # (E,)


@dataclass(frozen=True)
class GPT2:
    """A GPT-2's weights and the few numbers of its configuration that the forward needs."""

    wte: Tensor  # (vocab, E)
    wpe: Tensor  # (context, E)
    blocks: tuple[Block, ...]
    ln_f_weight: Tensor  # (E,)
    ln_f_bias: Tensor  # (E,)
    head: Tensor  # (vocab, E), wte itself where tied; (labels, E) in a classifier
    n_head: int
    layer_norm_epsilon: float
    activation: str  # a key of ACTIVATIONS
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False

    @property
    def n_embd(self) -> int:
        """E, the width of a token's state."""
        return self.wte.shape[1]

    @property
    def context(self) -> int:
        """How many positions there are."""
        return self.wpe.shape[0]

    @property
    def inner(self) -> int:
        """Width of the hidden layer of each MLP."""
        return self.blocks[0].c_fc_bias.shape[0]

    def attention_scale(self, layer: int) -> float:
        """What queries times keys are multiplied with in a layer."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


def layer_norm(model: GPT2, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise each row: (N, E) -> (N, E)."""
    return F.layer_norm(x, (model.n_embd,), weight, bias, model.layer_norm_epsilon)


def embed(model: GPT2, ids: Tensor, positions: Tensor, out: Tensor) -> Tensor:
    """Token and position embeddings: ids (N,), positions (N,) -> out (N, E)."""
    torch.index_select(model.wte, 0, ids, out=out)
    return out.add_(model.wpe[positions])


def queries_keys_values(model: GPT2, block: Block, x: Tensor, out: Tensor) -> Tensor:
    """x (N, E) -> out (N, 3E): queries, keys and values of each row."""
    return torch.addmm(
        block.c_attn_bias, layer_norm(model, x, block.ln_1_weight, block.ln_1_bias), block.c_attn_weight, out=out
    )


def keys_values(model: GPT2, block: Block, x: Tensor, out: Tensor) -> Tensor:
    """x (N, E) -> out (N, 2E): the same without queries."""
    E = model.n_embd
    h = layer_norm(model, x, block.ln_1_weight, block.ln_1_bias)
    return torch.addmm(block.c_attn_bias[E:], h, block.c_attn_weight[:, E:], out=out)


def queries(model: GPT2, block: Block, x: Tensor) -> Tensor:
    """x (N, E) -> (N, E): queries alone."""
    E = model.n_embd
    h = layer_norm(model, x, block.ln_1_weight, block.ln_1_bias)
    return torch.addmm(block.c_attn_bias[:E], h, block.c_attn_weight[:, :E])


def attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """torch's fused attention, (B, H, R, D), made independent of the company.

    A single prompt with a single head would be computed by all threads together, and rounded differently.
    """
    if len(q) * q.shape[1] == 1 and not q.is_cuda:
        q, k, v = (t.expand(2, -1, -1, -1) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, **options)[:1]
    return F.scaled_dot_product_attention(q, k, v, **options)


def attend_causally(model: GPT2, layer: int, qkv: Tensor) -> Tensor:
    """Prompts of one length among themselves: (B, T, 3E) -> (B, T, E)."""
    B, T, _ = qkv.shape
    q, k, v = qkv.view(B, T, 3, model.n_head, -1).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, D)
    scale = model.attention_scale(layer)
    out = attention(q, k, v, is_causal=True, scale=scale)  # (B, H, T, D)
    return out.transpose(1, 2).reshape(B, T, -1)


def by_heads(model: GPT2, kv: Tensor) -> Tensor:
    """Keys and values as a product gives them, (B, T, 2E), to (B, 2, H, T, D)."""
    return kv.unflatten(2, (2, model.n_head, -1)).permute(0, 2, 3, 1, 4)


def attend(model: GPT2, layer: int, q: Tensor, kv: Tensor, mask: Tensor) -> Tensor:
    """R new rows a prompt to its S earlier and own: q (B, R, E), kv (B, 2, H, S, D), mask (B, R, S) -> (B, R, E).

    `mask` is added to the products: 0 where a row may look, -inf elsewhere. R is a multiple of QUERY_MULTIPLE.
    """
    B, R, E = q.shape
    k, v = kv.unbind(1)  # 2 x (B, H, S, D)
    q = q.view(B, R, model.n_head, -1).transpose(1, 2)  # (B, H, R, D)
    scale = model.attention_scale(layer)
    out = attention(q, k, v, attn_mask=mask[:, None], scale=scale)  # (B, H, R, D)
    return out.transpose(1, 2).reshape(B, R, E)


def finish_block(model: GPT2, block: Block, x: Tensor, attended: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """Projection, MLP and both residual sums, in place: x (N, E), attended (N, E) -> x.

    `inner` and `scratch`, both (N, inner), are overwritten.
    """
    x.add_(block.attn_c_proj_bias).addmm_(attended, block.attn_c_proj_weight)  # (N, E)
    h = layer_norm(model, x, block.ln_2_weight, block.ln_2_bias)  # (N, E)
    inner = hidden_layer(model, block, h, inner, scratch)
    return x.add_(block.mlp_c_proj_bias).addmm_(inner, block.mlp_c_proj_weight)  # (N, E)


def hidden_layer(model: GPT2, block: Block, h: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """The MLP's hidden layer: h (N, E) -> (N, inner), in `inner` or in new memory.

    In bfloat16 on a processor the activation is computed as the product leaves the registers, which takes a sixth off
    the layer's time: oneDNN's fusion, which torch.compile uses too. It lacks bfloat16 on processors without AVX512.
    """
    algorithm = FUSED.get(model.activation)
    if algorithm and h.dtype == torch.bfloat16 and not h.is_cuda and _fuses_bfloat16():
        fused = torch.ops.mkldnn._linear_pointwise
        return fused(h, block.c_fc_weight.t(), block.c_fc_bias, "gelu", [], algorithm)
    torch.addmm(block.c_fc_bias, h, block.c_fc_weight, out=inner)  # (N, inner)
    ACTIVATIONS[model.activation](inner, scratch)
    return inner


@cache
def _fuses_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def final_norm(model: GPT2, x: Tensor) -> Tensor:
    """The state that the head reads: (N, E) -> (N, E)."""
    return layer_norm(model, x, model.ln_f_weight, model.ln_f_bias)


def gelu_new_(x: Tensor, scratch: Tensor) -> Tensor:
    """GELU in its tanh form, in place.

    In float32 it is computed as x / (1 + exp(-2u)) with u = sqrt(2/pi)·(x + 0.044715·x³), which equals
    x·(1 + tanh u)/2 and takes less than half the time of torch's own. Its steps round alike in the vector and
    the scalar code of torch, which tanh, sigmoid and gelu do not: results would depend on where a thread ends.
    """
    if x.dtype != torch.float32 or x.is_cuda:
        return torch.ops.aten.gelu.out(x, approximate="tanh", out=x)
    torch.mul(x, x, out=scratch)
    scratch.mul_(-0.0713548162726).sub_(1.5957691216057308).mul_(x).exp_().add_(1)
    return x.div_(scratch)


def gelu_(x: Tensor, scratch: Tensor) -> Tensor:
    """The exact GELU, in place."""
    return torch.ops.aten.gelu.out(x, out=x)


def relu_(x: Tensor, scratch: Tensor) -> Tensor:
    """max(x, 0), in place."""
    return x.relu_()


def silu_(x: Tensor, scratch: Tensor) -> Tensor:
    """x·sigmoid(x), in place."""
    return x.mul_(torch.sigmoid(x, out=scratch))


ACTIVATIONS = {
    "gelu_new": gelu_new_,
    "gelu_pytorch_tanh": gelu_new_,
    "gelu": gelu_,
    "relu": relu_,
    "silu": silu_,
    "swish": silu_,
}
"""GPT2Config.activation_function -> the function, each (x, scratch of x's shape) -> x."""
FUSED = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""The activations that oneDNN fuses with a product, and its name for their form."""
