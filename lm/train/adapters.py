"""Low-rank adapters (LoRA) of a model in training, by the library peft; a written model has them merged.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lm.train.training_state import TrainingError

SCALE = 2
"""The adapters' output is multiplied by this; peft calls scale times rank `lora_alpha`."""
HEAD = "score."
"""The prefix of the parameters of a classification head."""


def add_adapters(model: PreTrainedModel, rank: int, seed: int, *, embeddings: bool) -> None:
    """Give every linear layer before the head a low-rank update, in place, and freeze all weights but those updates.

    A classification head still learns, and with `embeddings` the embeddings too: new tokens need it. Raises
    TrainingError where peft is not installed, and where the model has no linear layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise TrainingError("lora_rank needs peft: pip install 'regulars[lora]', or set lora_rank to 0") from error
    of_base = set(model.base_model.modules())
    layers = {
        name: module
        for name, module in model.named_modules()
        if module in of_base and isinstance(module, nn.Linear | Conv1D)
    }
    if not layers:
        raise TrainingError(f"{type(model).__name__} has no linear layer to adapt: set lora_rank to 0")
    transposed = any(isinstance(module, Conv1D) for module in layers.values())
    torch.manual_seed(seed)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=list(layers), fan_in_fan_out=transposed), model
    )
    for name, parameter in model.named_parameters():
        if name.startswith(HEAD):
            parameter.requires_grad_(True)
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        if embeddings and table is not None:
            table.weight.requires_grad_(True)


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights by the names of the model without adapters, each with its update added."""
    if not getattr(model, "peft_config", None):
        return dict(model.state_dict())
    from peft.tuners.tuners_utils import BaseTunerLayer

    weights = {
        name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items() if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            for adapter in module.active_adapters:
                update = module.get_delta_weight(adapter)  # type: ignore[attr-defined]  # each of its subclasses has it
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + update
    return weights
