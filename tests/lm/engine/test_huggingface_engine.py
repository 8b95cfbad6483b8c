"""Architectures that cannot be packed run through transformers and give the answers of one forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lm.engine.engine import load_engine
from lm.engine.huggingface_engine import HuggingFaceEngine
from lm.engine.kv_tree import ROOT
from tests.engines import VOCABULARY, reference, some_prompts, token_runs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", ["gpt_neo", "bloom", "phi", "mamba"])
def test_other_architectures_through_transformers(family: str, tmp_path: Path) -> None:
    """The engine equals one forward pass over prompt and answer, with and without a copyable cache."""
    torch.manual_seed(0)
    shapes = {
        "gpt_neo": {"hidden_size": 32, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 2},
        "phi": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40},
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    }
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, initializer_range=0.2, **shapes[family])
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    engine = load_engine(tmp_path, dtype="float32")
    assert isinstance(engine, HuggingFaceEngine)
    assert engine.row_bytes == 2 * 2 * 32 * 4  # keys and values, layers, width, bytes of a float32
    prompts = some_prompts([9, 4, 1])
    state = engine.prefill(prompts, slots=8)
    for prompt, row in zip(prompts, state.states, strict=True):
        torch.testing.assert_close(row, reference(model, prompt)[-1], atol=1e-4, rtol=1e-4)
    ((first, logits),) = engine.logits(state.states, 3, 5)
    assert first == 0
    assert torch.equal(logits, state.states[:, 3:8])
    _, last = state.extend(token_runs((0, ROOT, [5, 6, 7], True), (2, ROOT, [9], True)))
    hidden, _ = state.extend(
        token_runs((0, int(last[0]), [8], True), (0, 1, [9, 10], False), (2, ROOT, [4], False), (2, 0, [3], True))
    )
    paths = [(0, [5, 6, 7, 8]), (0, [5, 6, 9]), (0, [5, 6, 9, 10]), (2, [4]), (2, [9, 3])]
    for (prompt, path), row in zip(paths, hidden, strict=True):
        torch.testing.assert_close(row, reference(model, prompts[prompt] + path)[-1], atol=1e-4, rtol=1e-4)
