"""GPT-2 for OpenVINO GenAI: its graph with a cache as inputs and outputs, made stateful as optimum-intel does it.

optimum-intel itself cannot be installed beside this transformers. OpenVINO GenAI turns the graph into one with
paged attention, in which the samples of a prompt share its keys and values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lm.engine.device import has_fast_bfloat16

CACHE_GB = 2


class WithCache(nn.Module):
    """(ids, mask, positions, beams, past keys and values) -> (logits, all keys and values): (B, H, T, D) each."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, beam_idx: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        body = self.model.transformer
        B, T = input_ids.shape
        x = body.wte(input_ids) + body.wpe(position_ids)
        present = []
        for layer, block in enumerate(body.h):
            q, k, v = (
                part.view(B, T, block.attn.num_heads, block.attn.head_dim).transpose(1, 2)
                for part in block.attn.c_attn(block.ln_1(x)).split(block.attn.embed_dim, dim=2)
            )
            k = torch.cat([past[2 * layer].index_select(0, beam_idx), k], dim=2)
            v = torch.cat([past[2 * layer + 1].index_select(0, beam_idx), v], dim=2)
            if layer == 0:
                S = k.shape[2]
                after = torch.arange(S)[None, :] > torch.arange(S - T, S)[:, None]  # (T, S)
                hidden = after[None, None] | (attention_mask[:, None, None, :] == 0)
                mask = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)
            attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + block.attn.c_proj(attended.transpose(1, 2).reshape(B, T, block.attn.embed_dim))
            x = x + block.mlp(block.ln_2(x))
            present += [k, v]
        return self.model.lm_head(body.ln_f(x)), *present


def convert(model: Any) -> Any:
    """The stateful OpenVINO model of a GPT2LMHeadModel in float32."""
    import openvino as ov
    from openvino._offline_transformations import apply_make_stateful_transformation

    config = model.config
    B, T, P, H, D = 2, 3, 4, config.n_head, config.n_embd // config.n_head
    past = [torch.zeros(B, H, P, D) for _ in range(2 * config.n_layer)]
    ids, mask = torch.zeros(B, T, dtype=torch.long), torch.ones(B, P + T, dtype=torch.long)
    positions = torch.arange(P, P + T).expand(B, T)
    beams = torch.arange(B, dtype=torch.int32)
    with torch.no_grad():
        converted = ov.convert_model(WithCache(model), example_input=(ids, mask, positions, beams, *past))
    kinds = [f"{layer}.{kind}" for layer in range(config.n_layer) for kind in ("key", "value")]
    names = ["input_ids", "attention_mask", "position_ids", "beam_idx", *(f"past_key_values.{kind}" for kind in kinds)]
    for port, name in zip(converted.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        shape = [-1, H, -1, D] if name.startswith("past") else [-1] if name == "beam_idx" else [-1, -1]
        port.get_node().set_partial_shape(ov.PartialShape(shape))
        port.get_node().set_friendly_name(name)
    for port, name in zip(converted.outputs, ["logits", *(f"present.{kind}" for kind in kinds)], strict=True):
        port.get_tensor().set_names({name})
    converted.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(converted, {f"past_key_values.{kind}": f"present.{kind}" for kind in kinds})
    _begin_empty(converted)
    return converted


def _begin_empty(converted: Any) -> None:
    """Let every state begin as (B, H, 0, D): paged attention takes only states that say how they begin."""
    from openvino import opset13 as ops

    first = ops.constant(np.array([0]))
    rows = ops.gather(ops.shape_of(converted.input("input_ids")), first, ops.constant(0))
    for node in converted.get_ops():
        if node.get_type_name() == "ReadValue":
            _, H, _, D = node.get_output_partial_shape(0)
            rest = ops.constant(np.array([H.get_length(), 0, D.get_length()]))
            shape = ops.concat([rows, rest], axis=0)
            node.set_arguments([ops.broadcast(ops.constant(np.float32(0)), shape)])
    converted.validate_nodes_and_infer_types()


class Samples:
    """OpenVINO GenAI's continuous batching over GPT-2; bfloat16 where the processor has it, else float32."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path, threads: int) -> None:
        import openvino as ov
        import openvino_genai as genai
        import openvino_tokenizers

        ov.save_model(convert(model), folder / "openvino_model.xml", compress_to_fp16=False)
        both = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
        for name, converted in zip(("tokenizer", "detokenizer"), both, strict=True):
            ov.save_model(converted, folder / f"openvino_{name}.xml")
        self.dtype = "bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32"
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)

    def sample(self, prompts: list[list[int]], samples: int, tokens: int, top_k: int) -> int:
        """So many continuations of each prompt, none ending early; returns the number of new tokens."""
        import openvino as ov
        import openvino_genai as genai

        rule = genai.GenerationConfig()
        rule.do_sample, rule.top_k, rule.num_return_sequences = True, top_k, samples
        rule.max_new_tokens, rule.ignore_eos = tokens, True
        inputs = [ov.Tensor(np.array([ids], np.int64)) for ids in prompts]
        results = self.pipeline.generate(inputs, [rule] * len(prompts))
        return sum(len(ids) for result in results for ids in result.m_generation_ids)
