"""The parts of a GPT-2 124M pass on one processor core, each beside its alternatives: products, int8, attention.

    python -m tests.bench.products [--quick] [--json]

Figures are of one thread, by the processor seconds of this process, the best of several turns: they hold on a machine
that does other work. Products have 48 to 1,024 rows. Per-row int8 rounds each row of the activations to its own scale,
so that no customer's answer depends on the others in the batch; its time includes that rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lm.engine.attention import AttentionRule, Heads, attend, attend_causally
from tests.bench.measure import arguments, report

WIDTH, HEADS, VOCABULARY = 768, Heads(12, 12, 64), 50257
Work = Callable[[], Any]


@torch.inference_mode()
def main() -> None:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    turns = 3 if options.quick else 12
    figures: dict[str, dict[str, float]] = {}
    for rows in (48, 160, 1024):
        for inner, outer in ((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)):
            gflop = 2 * rows * inner * outer / 1e9
            work = {name: gflop / s for name, s in best(products(rows, inner, outer), turns).items()}
            figures[f"GFLOP/s, {rows} x {inner} by {inner} x {outer}"] = work
    for rows in (96, 320):
        gflop = 2 * rows * WIDTH * VOCABULARY / 1e9
        figures[f"GFLOP/s, head of {rows} rows"] = {
            name: gflop / s for name, s in best(heads(rows), turns // 3).items()
        }
    for tokens, prompts in ((64, 16), (256, 4), (512, 2)):
        figures[f"ms a prompt and layer, causal attention of {tokens} tokens"] = {
            name: 1e3 * s / prompts for name, s in best(causal(tokens, prompts), turns).items()
        }
    for rows in (8, 16):
        figures[f"ms a prompt and layer, attention of {rows} new rows to 320 keys"] = {
            name: 1e3 * s / 24 for name, s in best(decode(rows, 24, 320), turns).items()
        }
    cells = {name: ", ".join(f"{key} {value:.3g}" for key, value in of.items()) for name, of in figures.items()}
    rows_of_table = {name: {"figures": cell} for name, cell in cells.items()}
    report("Parts of a pass, one core", rows_of_table, figures, options.json)


def best(works: Mapping[str, Work], turns: int) -> dict[str, float]:
    """The fewest processor seconds of each work; all works take turns."""
    seconds: dict[str, float] = dict.fromkeys(works, float("inf"))
    for _ in range(max(turns, 1)):
        for name, work in works.items():
            started = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - started)
    return seconds


def products(rows: int, inner: int, outer: int) -> dict[str, Work]:
    """A linear layer in each format."""
    x, weight = torch.randn(rows, inner), torch.randn(outer, inner) * 0.02
    half, half_weight, bias = x.bfloat16(), weight.bfloat16(), torch.zeros(outer).bfloat16()
    packed = torch.ops.mkldnn._reorder_linear_weight(half_weight, rows)
    scale = weight.abs().amax(dim=1) / 127
    whole = (weight / scale[:, None]).round().to(torch.int8)
    packed_whole = torch.ops.onednn.qlinear_prepack(whole, [rows, inner])
    zeros, middle = torch.zeros(outer, dtype=torch.int64), torch.tensor(128.5)

    def product(levels: Tensor) -> Tensor:
        given = (levels, 1.0, 128, packed_whole, scale, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")
        found: Tensor = torch.ops.onednn.qlinear_pointwise(*given)
        return found

    def by_rows() -> Tensor:
        step = half.abs().amax(dim=1, keepdim=True).float().div_(127).clamp_min_(1e-8)
        levels = torch.addcmul(middle, half, step.reciprocal()).to(torch.uint8)  # cut after a half is added: rounded
        return torch.addcmul(bias, product(levels), step.bfloat16())

    levels = torch.randint(0, 255, (rows, inner), dtype=torch.uint8)
    return {
        "float32": lambda: F.linear(x, weight),
        "bf16": lambda: F.linear(half, half_weight),
        "bf16 packed": lambda: torch.ops.mkldnn._linear_pointwise(half, packed, None, "none", [], ""),
        "int8 alone": lambda: product(levels),
        "int8 by rows": by_rows,
    }


def heads(rows: int) -> dict[str, Work]:
    """The head over the whole vocabulary, in chunks of tokens."""
    x, weight = torch.randn(rows, WIDTH).bfloat16(), torch.randn(VOCABULARY, WIDTH).bfloat16()
    out = torch.empty(rows, VOCABULARY, dtype=torch.bfloat16)

    def chunks(size: int) -> None:
        for start in range(0, VOCABULARY, size):
            torch.mm(x, weight[start : start + size].t(), out=out[:, start : start + size])

    return {f"chunks of {size:,}": lambda size=size: chunks(size) for size in (2048, 8192, VOCABULARY)}


def causal(tokens: int, prompts: int) -> dict[str, Work]:
    """Attention within prompts."""
    qkv = torch.randn(prompts, tokens, 3 * WIDTH).bfloat16()
    q, k, v = qkv.split(WIDTH, dim=2)
    by_heads = [x.unflatten(2, (HEADS.queries, -1)).transpose(1, 2) for x in (q, k, v)]
    return {
        "torch's fused": lambda: F.scaled_dot_product_attention(*by_heads, is_causal=True),
        "ours": lambda: attend_causally(q, k, v, HEADS, AttentionRule(HEADS.width**-0.5)),
    }


def decode(rows: int, prompts: int, keys: int) -> dict[str, Work]:
    """Attention of new rows to a prompt's cache."""
    q = torch.randn(prompts, rows, WIDTH).bfloat16()
    kv = torch.randn(prompts, 2, HEADS.keys, keys, HEADS.width).bfloat16()
    mask = torch.zeros(prompts, rows, keys).bfloat16()
    transposed = kv[:, 0].transpose(2, 3).contiguous()
    by_heads = q.unflatten(2, (HEADS.queries, -1)).transpose(1, 2)

    def products() -> Tensor:
        scores = (by_heads @ transposed).float().mul_(HEADS.width**-0.5).add_(mask[:, None])
        return scores.softmax(dim=3).bfloat16() @ kv[:, 1]

    return {
        "ours": lambda: attend(q, kv, mask, HEADS, AttentionRule(HEADS.width**-0.5)),
        "products, scores rounded": products,
        "copying the keys and values": lambda: kv.clone(),
    }


if __name__ == "__main__":
    main()
