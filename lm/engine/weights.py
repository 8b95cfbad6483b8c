"""Loads GPT-2's weights from a Hugging Face directory as memory-mapped tensors, without transformers.

Importing transformers and building its model takes seconds and hundreds of megabytes a worker. Here tensors are views
of the mapped safetensors file, so that the workers of a host share one copy in the page cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lm.checkpoint.checkpoint import CheckpointError, read_config, weight_files
from lm.engine.gpt2 import ACTIVATIONS, GPT2, Block

UNUSED_SECONDS = 7 * 24 * 3600
"""Converted files that were not read for this long are deleted."""


def is_plain_gpt2(config: Mapping[str, Any]) -> bool:
    """Whether lm.engine.gpt2 can compute the model of a config.json; other models need transformers."""
    return (
        config.get("model_type") == "gpt2"
        and config.get("activation_function", "gelu_new") in ACTIVATIONS
        and not config.get("add_cross_attention", False)
    )


def load_gpt2(
    path: Path, *, head: str = "lm_head.weight", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> GPT2:
    """The GPT-2 of a directory; `head` is `score.weight` for a classifier.

    On a CPU the tensors stay memory-mapped; weights of another number format are first converted into a cached file.
    Raises CheckpointError when a file cannot be read, or a weight is missing or of another shape.
    """
    stored: dict[str, Tensor] = {}
    for file in weight_files(path):
        tensors = _mapped(file)
        differ = any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in tensors.values())
        if differ and torch.device(device).type == "cpu":
            with contextlib.suppress(OSError):  # no space for a file: each worker converts for itself
                tensors = _mapped(_converted(file, tensors, dtype))
        stored |= tensors
    try:
        return _assemble(read_config(path), stored, head, dtype, device)
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
    """A cached file of the same tensors in another number format, written once a host and user.

    Its name is a hash of the source's path, size and time. Writing one deletes those unused for UNUSED_SECONDS.
    """
    source_stat = file.stat()
    source = f"{file.resolve()} {source_stat.st_size} {source_stat.st_mtime_ns} {dtype}"
    folder = _cache_folder()
    target = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.safetensors"
    if _is_own_file(target):
        return target
    # One worker writes and the others wait; otherwise each would map a copy of its own.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_own_file(target):
            return target
        for old in folder.glob("*.*"):  # unfinished files of killed workers included
            used_at = max(old.lstat().st_atime, old.lstat().st_mtime)
            if time.time() - used_at > UNUSED_SECONDS:
                old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".writing", delete=False) as written:
            name = Path(written.name)
        save_file({key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()}, name)
        name.replace(target)  # atomic: a kill at any moment leaves no partial file under this name
    finally:
        os.close(lock)
    return target


def _cache_folder() -> Path:
    """The user's folder of converted files, which nobody else can write or read.

    Raises CheckpointError when another user owns it or it is a link: anybody can make one in a shared TMPDIR.
    """
    folder = Path(tempfile.gettempdir()) / f"regulars-weights-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CheckpointError(f"{folder} is not this user's folder: remove it, or set TMPDIR to a folder of your own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def _is_own_file(path: Path) -> bool:
    """Whether `path` is a regular file of this user that no other user can write; links do not count."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _assemble(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], head: str, dtype: torch.dtype, device: torch.device | str
) -> GPT2:
    # The names of the hub's gpt2 lack the prefix, because it was saved without the head.
    named = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    tied = head == "lm_head.weight" and (config.get("tie_word_embeddings", True) or head not in named)

    def weight(name: str, *shape: int) -> Tensor:
        tensor = named[name]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"weight {name} has the shape {tuple(tensor.shape)}, but config.json says {shape}: copy the model again"
            )
        return tensor.detach().to(device=device, dtype=dtype)

    E, vocab, heads = (
        int(config.get("n_embd", 768)),
        int(config.get("vocab_size", 50257)),
        int(config.get("n_head", 12)),
    )
    if E % heads:
        raise CheckpointError(f"config.json: n_head {heads} does not divide n_embd {E}: copy the model again")
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
        n_head=heads,
        layer_norm_epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        activation=str(config.get("activation_function", "gelu_new")),
        scale_attn_weights=bool(config.get("scale_attn_weights", True)),
        scale_attn_by_inverse_layer_idx=bool(config.get("scale_attn_by_inverse_layer_idx", False)),
    )
