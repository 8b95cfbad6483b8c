"""Loads a model directory as a transformers model, for training and for the engine of other architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError

from lm.checkpoint.checkpoint import CheckpointError, weight_files
from lm.checkpoint.manifest import read_manifest

if TYPE_CHECKING:  # importing transformers takes seconds
    from transformers import PreTrainedModel

ModelKind = Literal["causal", "classifier"]


def load_model(
    path: Path,
    kind: ModelKind = "causal",
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
) -> PreTrainedModel:
    """The Hugging Face model of a directory, in eval mode, with weights from safetensors files only.

    Raises CheckpointError when the model cannot be loaded or lacks a weight, such as the classification head of a
    model that was never fine-tuned for sentiment. Hugging Face would fill that with random numbers.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    weight_files(path)
    logging.disable_progress_bar()
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    labels = {} if kind == "causal" else {"num_labels": len(read_manifest(path).labels)}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings are errors below
    try:
        model, info = loader.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **labels,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"model {path} cannot be loaded as a {kind} model: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    wrong = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise CheckpointError(
            f"model {path} has no usable {wrong[0]} for a {kind} model: "
            f"train it with `regulars train --task {'recommend' if kind == 'causal' else 'sentiment'}`"
        )
    return model.to(device).eval()
