"""What a training keeps on disk: a resumable state (one atomically replaced file), metrics lines, the model's folder.

State is safetensors with its counters as JSON in the header: model, optimizer and counters cannot disagree, and
nothing is unpickled.
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
    """The training cannot start or go on; the message says why and what mends it."""


class TrainingBusy(TrainingError):
    """Another process trains into the same folder."""


@dataclass(frozen=True)
class State:
    """Everything that decides how a training goes on: tensors by name, counters as JSON values."""

    tensors: Mapping[str, torch.Tensor]
    counters: Mapping[str, Any]


def save_state(path: Path, state: State) -> None:
    """Replace `path` by `state` in one rename: a kill at any moment leaves the old state or the new one."""
    new = path.with_suffix(".new")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, str(new), metadata={"counters": json.dumps(state.counters)})
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)


def load_state(path: Path) -> State | None:
    """The state at `path`, None where there is none."""
    if not path.exists():
        return None
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return State(tensors, json.loads(file.metadata()["counters"]))


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace `path` by one JSON line per entry; rewritten whole, so that a resumed epoch never appears twice."""
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    new.replace(path)


def fingerprint(settings: Mapping[str, Any], data: Iterable[bytes]) -> str:
    """16 hex digits over settings and data: a state is only resumed by the training that began it."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for chunk in data:
        digest.update(len(chunk).to_bytes(8, "big"))
        digest.update(chunk)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def work_folder(out: Path, of: str) -> Iterator[Path]:
    """The folder `<out>.training` for the training with fingerprint `of`; another training's leftovers are dropped.

    Raises TrainingBusy while another process trains into the same `out`. Left in place on failure, to resume from.
    Of the processes of one training the first alone keeps the folder.
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
        mark = work / "fingerprint"
        if not mark.exists() or mark.read_text(encoding="utf-8") != of:
            for left in work.iterdir():
                if left.name != "lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            mark.write_text(of, encoding="utf-8")
        yield work
        shutil.rmtree(work)


def replace_folder(new: Path, out: Path) -> None:
    """Put the finished folder `new` in the place of `out`; both on one file system.

    Where Linux can exchange two names in one step, no reader ever finds `out` missing.
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
