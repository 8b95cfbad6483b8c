"""Loads a model directory as a transformers model, for training and for the engine of other architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from lm.checkpoint.checkpoint import CheckpointError, read_config, weight_files
from lm.checkpoint.manifest import read_manifest

if TYPE_CHECKING:  # importing transformers takes seconds
    from transformers import PreTrainedModel

ModelKind = Literal["causal", "classifier"]
#: What transformers raises for configurations and weights that it cannot use.
LOADING_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # RecursionError and torch's errors of sizes and memory
    MemoryError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)


def load_model(
    path: Path,
    kind: ModelKind = "causal",
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    new_labels: Sequence[str] = (),
) -> PreTrainedModel:
    """The Hugging Face model of a directory, in eval mode, with weights from safetensors files only.

    No code of the directory is run. `new_labels` are those of a classifier to be trained; a head that the directory
    lacks, or has for other labels, is then random. Raises CheckpointError when the model cannot be loaded or lacks
    another weight, which Hugging Face would fill with random numbers.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    _refuse_missing_bytes(path)
    logging.disable_progress_bar()
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    labels: dict[str, Any] = {}
    if kind == "classifier" and new_labels:
        labels = {"id2label": dict(enumerate(new_labels)), "label2id": {name: i for i, name in enumerate(new_labels)}}
    elif kind == "classifier":
        labels = {"num_labels": len(read_manifest(path).labels)}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings are errors below
    try:
        model, info = loader.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **labels,
        )
    except LOADING_ERRORS as error:
        raise CheckpointError(f"model {path} cannot be loaded as a {kind} model: {str(error)[:300]}") from error
    finally:
        logging.set_verbosity(verbosity)
    wrong = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if new_labels:
        wrong = [key for key in wrong if "score." not in key]
    if wrong:
        raise CheckpointError(
            f"model {path} has no usable {wrong[0]} for a {kind} model: "
            f"train it with `regulars train --task {'recommend' if kind == 'causal' else 'sentiment'}`"
        )
    return model.to(device).eval()


def _refuse_missing_bytes(path: Path) -> None:
    """Raise CheckpointError when the weight files are too small for the sizes in config.json.

    Hugging Face would allocate and fill whatever the configuration asks for, up to the end of the memory.
    """
    config, stored = read_config(path), sum(file.stat().st_size for file in weight_files(path))
    width = config.get("n_embd") or config.get("hidden_size")
    if not isinstance(width, int):
        return
    for key in ("vocab_size", "n_positions", "n_inner", "intermediate_size", "n_layer", "num_hidden_layers"):
        size = config.get(key)
        if isinstance(size, int) and size * width > 2 * stored:  # two weights a byte, in the smallest formats
            raise CheckpointError(
                f"{path / 'config.json'}: {key} is {size}, which the {stored:,} bytes of weights cannot hold: "
                "copy the model directory again"
            )
