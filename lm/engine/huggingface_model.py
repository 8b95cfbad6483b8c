"""A model directory as transformers' own model, for training and for the engine that any model runs on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError

from lm.checkpoint.checkpoint import CheckpointError, weight_files
from lm.checkpoint.manifest import read_manifest

if TYPE_CHECKING:  # seconds, which only a caller pays
    from transformers import PreTrainedModel


def load_model(
    path: Path,
    kind: Literal["causal", "classifier"] = "causal",
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
) -> PreTrainedModel:
    """The Hugging Face model of a directory, in eval mode, its weights read from safetensors only.

    Raises CheckpointError when a weight is missing, such as the classification head of a model that was
    never fine-tuned for sentiment: Hugging Face would fill it with random numbers.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    weight_files(path)
    logging.disable_progress_bar()
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    labels = {} if kind == "causal" else {"num_labels": len(read_manifest(path).labels)}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn about is an error below
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
