"""GPT-2's forward pass over Hugging Face weights, as small pure functions.

The rows of a matrix (N, E) are the tokens of any number of prompts, concatenated; only attention separates prompts.
Sizes: N rows, B prompts, T tokens of a prompt, E n_embd, H heads, D = E / H.
Weights keep Hugging Face's names and layout, linear layers as (in, out), so that they can stay memory-mapped. On a CPU
`x @ w` is as fast that way as transposed (measured from 16 rows up).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lm.engine.attention import AttentionRule, Heads

PACKED_ROWS = 128
"""The rows of a product for which oneDNN orders packed weights."""


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

    @property
    def heads(self) -> Heads:
        """The attention heads of each layer."""
        return Heads(self.n_head, self.n_head, self.n_embd // self.n_head)

    def attention_rule(self, layer: int) -> AttentionRule:
        """How a layer weighs keys."""
        scale = self.heads.width**-0.5 if self.scale_attn_weights else 1.0
        return AttentionRule(scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale)


def layer_norm(model: GPT2, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise each row: (N, E) -> (N, E)."""
    return F.layer_norm(x, (model.n_embd,), weight, bias, model.layer_norm_epsilon)


def embed(model: GPT2, ids: Tensor, positions: Tensor, out: Tensor) -> Tensor:
    """Token and position embeddings: ids (N,), positions (N,) -> out (N, E)."""
    torch.index_select(model.wte, 0, ids, out=out)
    return out.add_(model.wpe[positions])


def queries_keys_values(model: GPT2, block: Block, x: Tensor, out: Tensor) -> Tensor:
    """Queries, keys and values of each row: x (N, E) -> out (N, 3E)."""
    h = layer_norm(model, x, block.ln_1_weight, block.ln_1_bias)
    if block.c_attn_weight.is_mkldnn:
        return out.copy_(packed_product(h, block.c_attn_weight, block.c_attn_bias))
    return torch.addmm(block.c_attn_bias, h, block.c_attn_weight, out=out)


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


def finish_block(model: GPT2, block: Block, x: Tensor, attended: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """Output projection, MLP and both residual sums, in place: x (N, E), attended (N, E) -> x.

    Overwrites `inner` and `scratch`, both (N, inner).
    """
    if block.attn_c_proj_weight.is_mkldnn:
        x.copy_(packed_sum(x, attended, block.attn_c_proj_weight, block.attn_c_proj_bias))  # (N, E)
    else:
        x.add_(block.attn_c_proj_bias).addmm_(attended, block.attn_c_proj_weight)  # (N, E)
    h = layer_norm(model, x, block.ln_2_weight, block.ln_2_bias)  # (N, E)
    inner = hidden_layer(model, block, h, inner, scratch)
    if block.mlp_c_proj_weight.is_mkldnn:
        return x.copy_(packed_sum(x, inner, block.mlp_c_proj_weight, block.mlp_c_proj_bias))  # (N, E)
    return x.add_(block.mlp_c_proj_bias).addmm_(inner, block.mlp_c_proj_weight)  # (N, E)


def packed(block: Block) -> Block:
    """The block with weights of linear layers in oneDNN's order, (out, in): `packed_product` alone can read them."""
    names = ("c_attn_weight", "attn_c_proj_weight", "c_fc_weight", "mlp_c_proj_weight")
    reorder = torch.ops.mkldnn._reorder_linear_weight
    return block._replace(**{name: reorder(getattr(block, name).t(), PACKED_ROWS) for name in names})


def packed_sum(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (N, out) plus a linear layer of h (N, in) by oneDNN, rounded once: -> (N, out)."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(h, x, weight, bias, "add")
    return found


def packed_product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", form: str = "") -> Tensor:
    """A linear layer by oneDNN: x (…, in), weight (out, in), packed or not, bias (out,) -> (…, out).

    The activation is one of oneDNN's, computed with the product.
    """
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], form)
    return found


def hidden_layer(model: GPT2, block: Block, h: Tensor, inner: Tensor, scratch: Tensor) -> Tensor:
    """The MLP's hidden layer: h (N, E) -> (N, inner), in `inner` or in new memory.

    In bfloat16 on a CPU with AVX512, oneDNN fuses the activation with the product, which saves a sixth of the time.
    """
    algorithm = FUSED.get(model.activation)
    is_packed = block.c_fc_weight.is_mkldnn
    if algorithm and h.dtype == torch.bfloat16 and not h.is_cuda and fuses_bfloat16():
        weight = block.c_fc_weight if is_packed else block.c_fc_weight.t()
        return packed_product(h, weight, block.c_fc_bias, "gelu", algorithm)
    if is_packed:
        inner.copy_(packed_product(h, block.c_fc_weight, block.c_fc_bias))  # (N, inner)
    else:
        torch.addmm(block.c_fc_bias, h, block.c_fc_weight, out=inner)  # (N, inner)
    ACTIVATIONS[model.activation](inner, scratch)
    return inner


@cache
def fuses_bfloat16() -> bool:
    """Whether oneDNN computes bfloat16 on this processor."""
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
