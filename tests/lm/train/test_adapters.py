"""LoRA, gradient checkpointing and warm-up: what learns, what stays, and that a written model is an ordinary one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lm.checkpoint.checkpoint import load_tokenizer
from lm.checkpoint.manifest import Manifest
from lm.train.language_model import (
    TrainingSettings,
    hidden_states,
    output_rows,
    pretraining,
    stage_schedule,
    start_model,
    write_model_folder,
)
from lm.train.learning_rate import Schedule
from lm.train.training_loop import TrainingTask, fit
from lm.train.training_state import TrainingError
from tests.models import save_causal, train_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
DOCUMENTS = [np.array([5, 9, 300, 7, 12, 8], np.int32), np.array([8, 2, 40, 41], np.int32)]


def given_model(folder: Path, family: str) -> Path:
    if family == "gpt2":
        return save_causal(folder)
    tokenizer = train_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def started(folder: Path, **changes: Any) -> tuple[Any, TrainingSettings]:
    values = {"init": str(folder), "dropout": 0.0, "learning_rate": 0.02, "max_epochs": 6, "warmup_steps": 1}
    settings = TrainingSettings(**values | changes)
    new_tokens = settings.vocab_size == 1  # a mark of this test
    return start_model(settings, load_tokenizer(folder), "causal", positions=64, new_tokens=new_tokens), settings


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_low_rank_updates_are_merged_into_the_written_model(family: str, tmp_path: Path) -> None:
    folder = given_model(tmp_path / "given", family)
    model, settings = started(folder, lora_rank=3)
    fit(pretraining(model, DOCUMENTS, settings), stage_schedule("pretrain", settings), tmp_path)
    model.eval()
    write_model_folder(model, load_tokenizer(folder), Manifest(), tmp_path / "out")
    with safe_open(str(tmp_path / "pretrain.safetensors"), framework="pt") as state:
        learned = {name for name in state.keys() if name.startswith("model/")}  # noqa: SIM118 - no dict
    assert learned
    assert all(".lora_" in name for name in learned)  # the state of a resumed training is as small
    before, after = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (folder, tmp_path / "out"))
    assert before.state_dict().keys() == after.state_dict().keys()
    changed = {name for name, one in after.state_dict().items() if not torch.equal(one, before.state_dict()[name])}
    layers = {"gpt2": ("c_attn", "c_proj", "c_fc"), "llama": ("_proj",)}[family]
    assert {name for name in changed if not any(part in name for part in layers)} == set()
    assert len(changed) == {"gpt2": 8, "llama": 14}[family]
    change = (after.state_dict()[min(changed)] - before.state_dict()[min(changed)]).float()
    assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 3
    tokens = torch.tensor([[5, 9, 300, 7]])
    with torch.inference_mode():
        ours = hidden_states(model, tokens) @ output_rows(model).T
        torch.testing.assert_close(after(tokens).logits, ours, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(before(tokens).logits, ours, atol=1e-2)


def test_embeddings_of_new_tokens_learn_beside_the_updates(tmp_path: Path) -> None:
    model, settings = started(save_causal(tmp_path / "given"), lora_rank=2, vocab_size=1)
    before = model.get_input_embeddings().weight.detach().clone()
    fit(pretraining(model, DOCUMENTS, settings), stage_schedule("pretrain", settings), tmp_path)
    assert not torch.equal(model.get_input_embeddings().weight, before)


def test_a_classification_head_learns_beside_the_updates(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "given")
    settings = TrainingSettings(init=str(folder), lora_rank=2)
    model = start_model(settings, load_tokenizer(folder), "classifier", positions=64, labels=("bad", "good"))
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "score.weight" in learns
    assert all(".lora_" in name for name in learns - {"score.weight"})


def test_low_rank_updates_need_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"regulars\[lora\]"):
        started(save_causal(tmp_path / "given"), lora_rank=2)


def test_gradient_checkpointing_keeps_fewer_tensors_and_the_same_gradients(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "given")
    gradients, kept = [], []
    for checkpointing in (False, True):
        model, settings = started(folder, gradient_checkpointing=checkpointing)
        model.train()
        stored = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal stored
            stored += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss, _ = pretraining(model, DOCUMENTS, settings).loss(np.array([0, 1]))
        kept.append(stored)
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < kept[0] / 2
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize(("warmup", "share"), [(4, [0.25, 0.5, 0.75, 1.0, 1.0]), (0, [1.0] * 5)])
def test_the_learning_rate_rises_over_the_first_steps(warmup: int, share: list[float], tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    rates = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", noted)
        task = TrainingTask(model, lambda _: [[0]] * 5, lambda _: (model(torch.ones(1, 1)).square().sum(), 1.0))
        fit(task, Schedule("one", 1, 0.1, warmup_steps=warmup), tmp_path)
    np.testing.assert_allclose(rates, [0.1 * part * (1 - n / 5) for n, part in enumerate(share)])
