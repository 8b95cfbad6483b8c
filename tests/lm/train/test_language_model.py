"""Model steps shared by all trainings: the sliced loss, initialisation, the model folder."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm.checkpoint.checkpoint import END_OF_TEXT, load_tokenizer
from lm.checkpoint.manifest import Manifest, read_manifest
from lm.engine.huggingface_model import load_model
from lm.train.language_model import (
    TrainingSettings,
    cross_entropy_sum,
    hidden_states,
    output_rows,
    start_model,
    write_model_folder,
)
from tests.models import save_causal, train_tokenizer


@pytest.mark.parametrize("slice_size", [1, 7, 10_000])
def test_loss_and_gradients_are_those_of_autograd(monkeypatch, slice_size):
    monkeypatch.setattr("lm.train.language_model._LOGITS_AT_ONCE", {"cpu": slice_size * 11})
    torch.manual_seed(0)
    states, rows = (torch.randn(n, 6, requires_grad=True) for n in (9, 11))
    bias = torch.randn(11)
    at = torch.tensor([0, 0, 2, 3, 8, 8, 8])  # several labels at one state, none at another
    labels = torch.tensor([4, 5, 0, 10, 3, 3, 1])
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.2, 0.3, 0.0])
    ours = cross_entropy_sum(states, rows, at, labels, weights, bias)
    found = torch.autograd.grad(2 * ours, (states, rows))
    log_p = (states @ rows.T + bias).log_softmax(1)
    theirs = -(weights * log_p[at, labels]).sum()
    wanted = torch.autograd.grad(2 * theirs, (states, rows))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, wanted)


def test_starts_a_gpt2_of_the_settings_shape_seeded():
    tokenizer = train_tokenizer()
    models = [
        start_model(TrainingSettings(n_embd=16, n_layer=3, n_head=4, seed=seed), tokenizer, "causal", positions=40)
        for seed in (1, 1, 2)
    ]
    config = models[0].config
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (16, 3, 4, 40)
    assert config.vocab_size == tokenizer.get_vocab_size()
    first, again, other = (output_rows(model) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("stock", [True, False])
def test_starting_from_a_folder_computes_what_hugging_face_does(tmp_path, stock):
    path = save_causal(tmp_path / "model", stock=stock)
    model = start_model(
        TrainingSettings(init=str(path), dropout=0.3), load_tokenizer(path), "causal", positions=999
    ).eval()
    tokens = torch.tensor([[5, 9, 300, 7], [8, 2, 0, 0]])
    reference = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.inference_mode():
        ours = hidden_states(model, tokens) @ output_rows(model).T
        theirs = reference(input_ids=tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert model.base_model.h[0].mlp.dropout.p == 0.3


def test_a_written_folder_is_an_ordinary_hugging_face_one(tmp_path):
    tokenizer = train_tokenizer()
    model = start_model(TrainingSettings(n_embd=16), tokenizer, "causal", positions=40).eval()
    left_over = tmp_path / "model" / "half"
    left_over.mkdir(parents=True)
    write_model_folder(model, tokenizer, Manifest(metrics={"ndcg@10": 0.5}), tmp_path / "model")
    assert not left_over.exists()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "model")("Bought: ink", return_tensors="pt")["input_ids"]
    assert tokens[0].tolist() == tokenizer.encode("Bought: ink").ids
    with torch.inference_mode():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")(input_ids=tokens).logits
        ours = hidden_states(model, tokens) @ output_rows(model).T
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert read_manifest(tmp_path / "model").metrics == {"ndcg@10": 0.5}
    assert load_model(tmp_path / "model").config.pad_token_id == tokenizer.token_to_id(END_OF_TEXT)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mode & 0o444 == 0o444
