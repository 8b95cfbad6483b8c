"""Small random GPT-2s of Hugging Face, prompts and token runs for tests of the engines."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lm.engine.gpt2 import GPT2
from lm.engine.kv_tree import TokenRuns
from lm.engine.weights import load_gpt2

VOCABULARY = 211
SIZES = [
    {"n_embd": 16, "n_layer": 1, "n_head": 1},
    {"n_embd": 48, "n_layer": 2, "n_head": 3, "activation_function": "gelu"},
    {"n_embd": 64, "n_layer": 3, "n_head": 2, "n_inner": 100, "scale_attn_by_inverse_layer_idx": True},
    {"n_embd": 40, "n_layer": 2, "n_head": 5, "activation_function": "relu", "scale_attn_weights": False},
    {"n_embd": 32, "n_layer": 2, "n_head": 2, "activation_function": "silu", "tie_word_embeddings": False},
]


def huggingface(seed: int = 0, **sizes: object) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    values = {"vocab_size": VOCABULARY, "n_positions": 96, "initializer_range": 0.2, **SIZES[1], **sizes}
    return GPT2LMHeadModel(GPT2Config(**values)).eval()


def our_gpt2(model: GPT2LMHeadModel) -> GPT2:
    """The same model as our engine loads it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_gpt2(Path(folder), dtype=model.dtype)


def some_prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, n).tolist() for n in lengths]


def token_runs(*runs: tuple[int, int, list[int], bool]) -> TokenRuns:
    prompt, parent, tokens, keep = zip(*runs, strict=True)
    return TokenRuns(
        np.array(prompt),
        np.array(parent),
        np.array([len(t) for t in tokens]),
        np.concatenate([np.array(t) for t in tokens]),
        np.array(keep),
    )


@torch.inference_mode()
def reference(model: GPT2LMHeadModel, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0]
