"""Model steps shared by all trainings: initialisation, pre-training on text, the loss, the model folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    PreTrainedModel,
)
from transformers.utils import logging

from lm.checkpoint import checkpoint
from lm.checkpoint.checkpoint import END_OF_TEXT
from lm.checkpoint.manifest import Manifest, write_manifest
from lm.checkpoint.tokenizer import padding_token, save_tokenizer
from lm.engine.device import choose_device
from lm.engine.huggingface_model import ModelKind, load_model
from lm.train.adapters import add_adapters, merged_weights
from lm.train.learning_rate import Schedule
from lm.train.private_steps import PrivacyBudget
from lm.train.training_loop import TrainingTask, length_batches, pad
from lm.train.training_state import TrainingError

Tokens = NDArray[np.int32]

#: Logits computed at once: a GPU needs large products (512 MiB in float32), a CPU ones that fit its cache.
_LOGITS_AT_ONCE = {"cuda": 128 * 1024 * 1024, "cpu": 2 * 1024 * 1024}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """GPT-2's shape and the optimizer; with a checkpoint in `init`, that decides the shape and the tokenizer."""

    init: str | None = None
    n_embd: int = 64
    n_layer: int = 2
    n_head: int = 2
    vocab_size: int = 4000
    max_tokens: int = 256
    dropout: float = 0.2
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    lora_rank: int = 0  # rank of the low-rank updates that are trained instead of all weights; 0: all weights
    gradient_checkpointing: bool = False  # compute activations again in the backward pass instead of keeping them
    weight_decay: float = 0.01
    batch_tokens: int = 8192
    max_epochs: int = 30
    patience: int = 3
    pretrain_epochs: int = 1
    min_customers: int = 5  # a token or an n-gram needs so many customers who wrote it
    privacy: PrivacyBudget | None = None  # of fine-tuning; the other stages learn without noise
    seed: int = 0


def stage_schedule(stage: str, settings: TrainingSettings, epochs: int | None = None) -> Schedule:
    """The schedule of a stage by the settings, with at most `epochs` epochs (default: the settings' max_epochs)."""
    epochs = settings.max_epochs if epochs is None else epochs
    return Schedule(
        stage,
        epochs,
        settings.learning_rate,
        settings.weight_decay,
        settings.patience,
        settings.seed,
        warmup_steps=settings.warmup_steps,
    )


def start_model(
    settings: TrainingSettings,
    tokenizer: Tokenizer,
    kind: ModelKind,
    *,
    positions: int,
    labels: Sequence[str] = (),
    new_tokens: bool = False,
) -> PreTrainedModel:
    """A float32 model to train: a GPT-2 of the settings' shape with random weights, or the model of `settings.init`.

    A classification head that `init` lacks is random; a causal head must be there. Seeded by the settings. With
    `settings.lora_rank` low-rank updates are trained, and with `new_tokens` the embeddings too.
    Raises CheckpointError when `init` cannot be loaded, and TrainingError as `add_adapters`.
    """
    torch.manual_seed(settings.seed)
    # No dropout in attention: CPUs have no fused attention with dropout, and a step would take a third longer.
    dropout = {"resid_pdrop": settings.dropout, "embd_pdrop": settings.dropout, "attn_pdrop": 0.0}
    if settings.init is None:
        end = tokenizer.token_to_id(END_OF_TEXT)
        loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
        names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
        config = GPT2Config(
            vocab_size=tokenizer.get_vocab_size(),
            n_positions=positions,
            n_embd=settings.n_embd,
            n_layer=settings.n_layer,
            n_head=settings.n_head,
            bos_token_id=end,
            eos_token_id=end,
            **dropout,
            **(names if kind == "classifier" else {}),
        )
        model = loader.from_config(config, trust_remote_code=False)
    else:
        model = load_model(checkpoint.resolve(settings.init), kind, new_labels=labels)
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0 if name.endswith("attn_dropout") else settings.dropout
        if tokenizer.get_vocab_size() > model.config.vocab_size:
            model.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
        if settings.lora_rank:
            add_adapters(model, settings.lora_rank, settings.seed, embeddings=new_tokens)
    if settings.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise TrainingError(f"{type(model).__name__} cannot: set gradient_checkpointing to false")
        model.activation_checkpointing_enable()
    model.config.pad_token_id = None  # else Hugging Face warns of padding without a mask, which is correct here
    return _fuse_gelu(model).to(choose_device())


def _fuse_gelu(model: PreTrainedModel) -> PreTrainedModel:
    """Replace GPT-2's `gelu_new` by torch's fused tanh GELU: the same function in a fifth of the time."""
    for module in model.modules():
        if type(getattr(module, "act", None)).__name__ == "NewGELUActivation":
            module.act = nn.GELU(approximate="tanh")
    return model


def hidden_states(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Compute the states after the last LayerNorm: tokens (B, T), padded on the right -> (B, T, n_embd)."""
    # No mask is needed, because no read position can see the padding on its right; without one the kernel is faster.
    return model.base_model(input_ids=tokens, use_cache=False).last_hidden_state


def embedding_matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """The input and the output embeddings, each (vocab, n_embd); one matrix where they are tied."""
    both = model.get_input_embeddings().weight, output_rows(model)
    return list({id(matrix): matrix for matrix in both}.values())


def output_rows(model: PreTrainedModel) -> torch.Tensor:
    """The output embeddings (vocab, n_embd), which GPT-2 ties to the input embeddings."""
    head = model.get_output_embeddings()
    return (model.get_input_embeddings() if head is None else head).weight


class _LinearCrossEntropy(torch.autograd.Function):
    """The cross-entropy of `states @ rows.T + bias` and its gradients, slice by slice, to hold few logits in memory.

    Autograd would keep the logits of every slice until the backward pass. Source: Hsu et al., "Liger Kernel" (2024).
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,  # (P, n_embd)
        rows: torch.Tensor,  # (N, n_embd)
        bias: torch.Tensor | None,  # (N,)
        at: torch.Tensor,  # (L,) index into `states`, ascending
        labels: torch.Tensor,  # (L,) index into `rows`
        weights: torch.Tensor,  # (L,)
    ) -> torch.Tensor:
        total = torch.zeros((), device=states.device)
        d_states = torch.empty_like(states, dtype=torch.float32)
        learns_rows = ctx.needs_input_grad[1]
        d_rows = torch.zeros_like(rows, dtype=torch.float32) if learns_rows else torch.empty(0)
        step = max(1, _LOGITS_AT_ONCE[states.device.type] // len(rows))
        for start in range(0, len(states), step):
            part = states[start : start + step]
            low, high = torch.searchsorted(at, torch.tensor([start, start + step], device=at.device)).tolist()
            here, label, weight = at[low:high] - start, labels[low:high], weights[low:high]
            logits = (part @ rows.T).float()  # (p, N)
            if bias is not None:
                logits += bias
            logits -= logits.amax(dim=1, keepdim=True)
            picked = logits[here, label]
            sums = logits.exp_().sum(dim=1)  # (p,)
            total += (weight * (sums.log()[here] - picked)).sum()
            mass = torch.zeros(len(part), device=states.device).index_add_(0, here, weight)
            gradient = logits.mul_((mass / sums)[:, None])
            gradient.index_put_((here, label), -weight, accumulate=True)
            d_states[start : start + step] = gradient @ rows
            if learns_rows:
                d_rows += gradient.T @ part
        ctx.save_for_backward(d_states.to(states.dtype), d_rows.to(rows.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_states, d_rows = ctx.saved_tensors
        return gradient * d_states, gradient * d_rows if ctx.needs_input_grad[1] else None, None, None, None, None


def cross_entropy_sum(
    states: torch.Tensor,
    rows: torch.Tensor,
    at: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over L pairs of weight * -log softmax(states[at] @ rows.T + bias)[label].

    states (P, n_embd), rows (N, n_embd), at (L,) ascending, labels (L,), weights (L,), bias (N,) -> a scalar.
    """
    return _LinearCrossEntropy.apply(states, rows, bias, at, labels, weights)


def pretraining(
    model: PreTrainedModel, documents: Sequence[Tokens], settings: TrainingSettings
) -> TrainingTask[NDArray[np.int64]]:
    """The task of maximising the log-likelihood of every token of every document, given the tokens before it."""
    kept = [document for document in documents if len(document) > 1]
    lengths = np.array([len(document) for document in kept], dtype=np.int64)
    where = choose_device()

    def loss(batch: NDArray[np.int64]) -> tuple[torch.Tensor, float]:
        tokens = pad([kept[i] for i in batch], where)  # (B, T)
        real = torch.arange(1, tokens.shape[1], device=where) < torch.from_numpy(lengths[batch]).to(where)[:, None]
        states = hidden_states(model, tokens[:, :-1])[real]  # (L, n_embd)
        labels = tokens[:, 1:][real]
        each = torch.arange(len(labels), device=where)
        weights = torch.ones(len(labels), device=where)
        return cross_entropy_sum(states, output_rows(model), each, labels, weights), float(len(labels))

    def batches(epoch: int) -> list[NDArray[np.int64]]:
        return length_batches(lengths, settings.batch_tokens, settings.seed, epoch)

    return TrainingTask(model, batches, loss)


def write_model_folder(model: PreTrainedModel, tokenizer: Tokenizer, manifest: Manifest, new: Path) -> None:
    """Write a Hugging Face model folder with our manifest, low-rank updates merged into the weights.

    An unfinished folder of the same name is deleted.
    """
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(parents=True)
    logging.disable_progress_bar()
    model.config.pad_token_id = tokenizer.token_to_id(padding_token(tokenizer) or "")
    model.save_pretrained(new, state_dict=merged_weights(model))
    for weights in new.glob("*.safetensors"):  # safetensors makes them readable by their owner alone
        weights.chmod((new / "config.json").stat().st_mode)
    save_tokenizer(tokenizer, new, max_tokens=model.config.max_position_embeddings)
    write_manifest(new, manifest)
