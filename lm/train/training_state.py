"""Files of a training: its resumable state, its metrics lines, its work folder and the finished model folder.

A state is one safetensors file with the counters as JSON in its header, replaced atomically. Model, optimizer and
counters therefore always agree, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lm.checkpoint.folder_exchange import exchange_folders
from lm.train import distributed


class TrainingError(Exception):
    """The training cannot start or continue; the message names the cause and the mend."""


class TrainingBusy(TrainingError):
    """Another process trains into the same folder."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that determines the rest of a training: tensors by name and counters as JSON values."""

    tensors: Mapping[str, torch.Tensor]
    counters: Mapping[str, Any]


def save_state(path: Path, state: TrainingState) -> None:
    """Write `state` to `path` in one rename; a kill at any moment leaves the old state or the new one."""
    new = path.with_suffix(".new")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, str(new), metadata={"counters": json.dumps(state.counters)})
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)


def load_state(path: Path) -> TrainingState | None:
    """Read the state at `path`; None where there is none."""
    if not path.exists():
        return None
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return TrainingState(tensors, json.loads(file.metadata()["counters"]))


def write_json_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON line per entry, replacing the whole file: a resumed epoch never appears twice."""
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    new.replace(path)


def training_key(settings: Mapping[str, Any], data: Iterable[bytes]) -> str:
    """16 hex digits of a hash of settings and data: a state is resumed only by the training that wrote it."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for chunk in data:
        digest.update(len(chunk).to_bytes(8, "big"))
        digest.update(chunk)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def work_folder(out: Path, key: str) -> Iterator[Path]:
    """Lock and yield the folder `<out>.training` of the training with this `training_key`.

    Files of another training in it are deleted. The folder is deleted at the end, and kept on failure, to resume from.
    Of several processes of one training only process 0 locks and deletes. Raises TrainingBusy while another process
    trains into the same `out`.
    """
    work = out.with_name(out.name + ".training")
    if distributed.rank():
        yield work
        return
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingBusy(f"another training writes {out}: wait for it, or end it and start again") from None
        key_file = work / "fingerprint"
        if not key_file.exists() or key_file.read_text(encoding="utf-8") != key:
            for leftover in work.iterdir():
                if leftover.name != "lock":
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            key_file.write_text(key, encoding="utf-8")
        yield work
        shutil.rmtree(work)


def replace_folder(new: Path, out: Path) -> None:
    """Put the finished folder `new` in the place of `out`, on the same file system.

    The exchange is atomic where Linux offers it; elsewhere `out` is missing for an instant.
    """
    if not out.exists():
        new.rename(out)
        return
    if exchange_folders(new, out):
        shutil.rmtree(new)
        return
    old = out.with_name(out.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    out.rename(old)
    new.rename(out)
    shutil.rmtree(old)
