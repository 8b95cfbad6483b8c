"""GPT-2's forward pass over Hugging Face weights, as small pure functions.

The rows of a matrix (N, E) are the tokens of any number of prompts, concatenated; only attention separates prompts.
Sizes: N rows, B prompts, T tokens of a prompt, E n_embd, H heads, D = E / H.
Weights keep Hugging Face's names and layout, linear layers as (in, out), so that they can stay memory-mapped. On a CPU
`x @ w` is as fast that way as transposed (measured from 16 rows up).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_MULTIPLE = 8
"""Attention queries are padded to a multiple of this many rows, because the result of other row counts depends on the
alignment of memory.
"""


class Block(NamedTuple):
    """The weights of one transformer block, Hugging Face's `h.<i>`."""

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
    """The weights of a GPT-2 and the configuration values of its forward pass."""

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
        """The width E of a token's state."""
        return self.wte.shape[1]

    @property
    def context(self) -> int:
        """The number of positions."""
        return self.wpe.shape[0]

    @property
    def inner(self) -> int:
        """The width of the MLPs' hidden layers."""
        return self.blocks[0].c_fc_bias.shape[0]

    def attention_scale(self, layer: int) -> float:
        """The factor of the products of queries and keys in a layer."""
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
    """Queries, keys and values of each row: x (N, E) -> out (N, 3E)."""
    return torch.addmm(
        block.c_attn_bias, layer_norm(model, x, block.ln_1_weight, block.ln_1_bias), block.c_attn_weight, out=out
    )


def keys_values(model: GPT2, block: Block, x: Tensor, out: Tensor) -> Tensor:
    """Keys and values of each row: x (N, E) -> out (N, 2E)."""
    E = model.n_embd
    h = layer_norm(model, x, block.ln_1_weight, block.ln_1_bias)
    return torch.addmm(block.c_attn_bias[E:], h, block.c_attn_weight[:, E:], out=out)


def queries(model: GPT2, block: Block, x: Tensor) -> Tensor:
    """Queries of each row: x (N, E) -> (N, E)."""
    E = model.n_embd
    h = layer_norm(model, x, block.ln_1_weight, block.ln_1_bias)
    return torch.addmm(block.c_attn_bias[:E], h, block.c_attn_weight[:, :E])


def attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """torch's fused attention (B, H, R, D), with results that do not depend on the batch.

    Torch splits a single prompt with a single head over its threads and then rounds differently; a copy prevents that.
    """
    if len(q) * q.shape[1] == 1 and not q.is_cuda:
        q, k, v = (t.expand(2, -1, -1, -1) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, **options)[:1]
    return F.scaled_dot_product_attention(q, k, v, **options)


def attend_causally(model: GPT2, layer: int, qkv: Tensor) -> Tensor:
    """Causal self-attention of B prompts of one length: (B, T, 3E) -> (B, T, E)."""
    B, T, _ = qkv.shape
    q, k, v = qkv.view(B, T, 3, model.n_head, -1).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, D)
    scale = model.attention_scale(layer)
    out = attention(q, k, v, is_causal=True, scale=scale)  # (B, H, T, D)
    return out.transpose(1, 2).reshape(B, T, -1)


def by_heads(model: GPT2, kv: Tensor) -> Tensor:
    """Split keys and values by heads: (B, T, 2E) -> (B, 2, H, T, D)."""
    return kv.unflatten(2, (2, model.n_head, -1)).permute(0, 2, 3, 1, 4)


def attend(model: GPT2, layer: int, q: Tensor, kv: Tensor, mask: Tensor) -> Tensor:
    """Attention of R queries a prompt to S keys: q (B, R, E), kv (B, 2, H, S, D), mask (B, R, S) -> (B, R, E).

    `mask` is added to the products: 0 where a query may attend, -inf elsewhere. R is a multiple of QUERY_MULTIPLE.
    """
    B, R, E = q.shape
    k, v = kv.unbind(1)  # 2 x (B, H, S, D)
    q = q.view(B, R, model.n_head, -1).transpose(1, 2)  # (B, H, R, D)
    scale = model.attention_scale(layer)
    out = attention(q, k, v, attn_mask=mask[:, None], scale=scale)  # (B, H, R, D)
    return out.transpose(1, 2).reshape(B, R, E)


def finish_block(model: GPT2, block: Block, x: Tensor, attended: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """Output projection, MLP and both residual sums, in place: x (N, E), attended (N, E) -> x.

    Overwrites `inner` and `scratch`, both (N, inner).
    """
    x.add_(block.attn_c_proj_bias).addmm_(attended, block.attn_c_proj_weight)  # (N, E)
    h = layer_norm(model, x, block.ln_2_weight, block.ln_2_bias)  # (N, E)
    inner = hidden_layer(model, block, h, inner, scratch)
    return x.add_(block.mlp_c_proj_bias).addmm_(inner, block.mlp_c_proj_weight)  # (N, E)


def hidden_layer(model: GPT2, block: Block, h: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """The MLP's hidden layer: h (N, E) -> (N, inner), in `inner` or in new memory.

    In bfloat16 on a CPU with AVX512, oneDNN fuses the activation with the product, which saves a sixth of the time.
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
    """The final LayerNorm before the head: (N, E) -> (N, E)."""
    return layer_norm(model, x, model.ln_f_weight, model.ln_f_bias)


def gelu_new_(x: Tensor, scratch: Tensor) -> Tensor:
    """The tanh form of GELU, in place.

    In float32 it is x / (1 + exp(-2u)) with u = sqrt(2/pi)·(x + 0.044715·x³), which equals x·(1 + tanh u)/2 in less
    than half the time of torch's own. Its steps round alike in torch's vector and scalar code. With torch's tanh,
    sigmoid and gelu, results would depend on the split of rows over threads.
    """
    if x.dtype != torch.float32 or x.is_cuda:
        return torch.ops.aten.gelu.out(x, approximate="tanh", out=x)
    torch.mul(x, x, out=scratch)
    scratch.mul_(-0.0713548162726).sub_(1.5957691216057308).mul_(x).exp_().add_(1)
    return x.div_(scratch)


def gelu_(x: Tensor, scratch: Tensor) -> Tensor:
    """The exact form of GELU, in place."""
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
"""Activations that oneDNN fuses with a product -> oneDNN's name of their form."""
