"""GPT-2's weights out of a Hugging Face directory, mapped rather than read, and without transformers.

Importing transformers and building its model costs a worker seconds and hundreds of megabytes. Here tensors
are views of the mapped safetensors file: the workers of a host share one copy in the page cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lm.checkpoint.checkpoint import CheckpointError, read_json, weight_files
from lm.engine.gpt2 import ACTIVATIONS, GPT2, Block

KEPT_SECONDS = 7 * 24 * 3600


def is_plain_gpt2(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes what lm.engine.gpt2 computes; other models go through transformers."""
    return (
        config.get("model_type") == "gpt2"
        and config.get("activation_function", "gelu_new") in ACTIVATIONS
        and not config.get("add_cross_attention", False)
    )


def load_gpt2(
    path: Path, *, head: str = "lm_head.weight", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> GPT2:
    """The GPT-2 in a directory; `head` is `score.weight` for a classifier.

    On a processor the tensors stay mapped, of a file converted to `dtype` if the directory's own have another.
    Raises CheckpointError when a file cannot be read, or a weight is missing or of another size.
    """
    stored: dict[str, Tensor] = {}
    for file in weight_files(path):
        tensors = _mapped(file)
        others = any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in tensors.values())
        if others and torch.device(device).type == "cpu":
            with contextlib.suppress(OSError):  # no room for a file: each worker converts for itself
                tensors = _mapped(_converted(file, tensors, dtype))
        stored |= tensors
    try:
        return _assemble(read_json(path / "config.json"), stored, head, dtype, device)
    except KeyError as error:
        task = "recommend" if head == "lm_head.weight" else "sentiment"
        raise CheckpointError(
            f"model {path} has no weight {error.args[0]}: "
            f"train it with `regulars train --task {task}`, or copy it again"
        ) from error


def _mapped(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: copy the model directory again") from error


def _converted(file: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Path:
    """A file of the same tensors in another number format, made once a host and user: workers share its pages too.

    It is named after the file's place, size and time; those not opened for a week are removed when one is made.
    """
    stat = file.stat()
    source = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {dtype}"
    folder = Path(tempfile.gettempdir()) / f"regulars-weights-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise CheckpointError(f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own")
    target = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.safetensors"
    if target.exists():
        return target
    # One worker writes and the others wait: two at once would each go on with a copy of its own.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        for old in folder.glob("*.*"):  # also what a killed worker left half written
            if time.time() - max(old.stat().st_atime, old.stat().st_mtime) > KEPT_SECONDS:
                old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".writing", delete=False) as written:
            name = Path(written.name)
        save_file({key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()}, name)
        name.replace(target)  # whole or not there at all, whenever this process dies
    return target


def from_huggingface(model: nn.Module, *, head: str = "lm_head.weight") -> GPT2:
    """The same from a GPT2LMHeadModel or GPT2ForSequenceClassification in memory; weights are shared with it."""
    config: Any = model.config
    wte = next(model.parameters())
    return _assemble(config.to_dict(), dict(model.state_dict()), head, wte.dtype, wte.device)


def _assemble(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], head: str, dtype: torch.dtype, device: torch.device | str
) -> GPT2:
    # The hub's gpt2 was saved from the bare transformer, so its names lack the prefix.
    named = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    tied = head == "lm_head.weight" and (config.get("tie_word_embeddings", True) or head not in named)

    def weight(name: str, *shape: int) -> Tensor:
        tensor = named[name]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"weight {name} has the shape {tuple(tensor.shape)} and config.json says {shape}: copy the model again"
            )
        return tensor.detach().to(device=device, dtype=dtype)

    E, vocab = int(config.get("n_embd", 768)), int(config.get("vocab_size", 50257))
    inner = config.get("n_inner") or 4 * E

    def block(i: int) -> Block:
        h = f"h.{i}."
        return Block(
            weight(h + "ln_1.weight", E),
            weight(h + "ln_1.bias", E),
            weight(h + "attn.c_attn.weight", E, 3 * E),
            weight(h + "attn.c_attn.bias", 3 * E),
            weight(h + "attn.c_proj.weight", E, E),
            weight(h + "attn.c_proj.bias", E),
            weight(h + "ln_2.weight", E),
            weight(h + "ln_2.bias", E),
            weight(h + "mlp.c_fc.weight", E, inner),
            weight(h + "mlp.c_fc.bias", inner),
            weight(h + "mlp.c_proj.weight", inner, E),
            weight(h + "mlp.c_proj.bias", E),
        )

    wte = weight("wte.weight", vocab, E)
    return GPT2(
        wte=wte,
        wpe=weight("wpe.weight", int(config.get("n_positions", 1024)), E),
        blocks=tuple(block(i) for i in range(int(config.get("n_layer", 12)))),
        ln_f_weight=weight("ln_f.weight", E),
        ln_f_bias=weight("ln_f.bias", E),
        head=wte if tied else weight(head, vocab if head == "lm_head.weight" else len(named[head]), E),
        n_head=int(config.get("n_head", 12)),
        layer_norm_epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        activation=str(config.get("activation_function", "gelu_new")),
        scale_attn_weights=bool(config.get("scale_attn_weights", True)),
        scale_attn_by_inverse_layer_idx=bool(config.get("scale_attn_by_inverse_layer_idx", False)),
    )
