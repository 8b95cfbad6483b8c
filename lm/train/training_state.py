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
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lm.checkpoint.fingerprint import TASK_FILES
from lm.checkpoint.folder_exchange import exchange_folders
from lm.checkpoint.manifest import MANIFEST_FILE
from lm.train import distributed

#: The picture of the loss by epoch, which the command `train` draws into the finished folder.
CURVES_FILE = "training.svg"
#: The files of a model besides its weights that a training, of this release or an earlier one, may have written.
MODEL_FILES = frozenset(
    {
        MANIFEST_FILE,
        CURVES_FILE,
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        *TASK_FILES,
    }
)
LOCK_FILE = "lock"
KEY_FILE = "fingerprint"
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_KEY = re.compile(r"[0-9a-f]{0,16}")  # shorter where a kill cut the write of the key


class TrainingError(Exception):
    """The training cannot start or continue; the message names the cause and the mend."""


class TooFewExamples(TrainingError):
    """The texts are too few to learn a task from; other tasks may have enough."""


class TrainingBusy(TrainingError):
    """Another process trains into the same folder."""


class FolderTaken(TrainingError):
    """A folder that a training would delete holds files that no training wrote."""


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


def refuse_foreign_files(out: Path) -> None:
    """Raise FolderTaken when `out` holds anything but a model of ours, which a training would delete with it.

    A missing and an empty folder are fine. A model of ours is a folder with a `regulars.json` whose other entries are
    all MODEL_FILES or weights.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise FolderTaken(f"{out} is a {'link' if out.is_symlink() else 'file'}: name the model's folder itself")
    entries = sorted(out.iterdir()) if out.is_dir() else []
    if entries and not (out / MANIFEST_FILE).is_file():
        raise FolderTaken(
            f"{out} holds {entries[0].name} but no {MANIFEST_FILE}: a training replaces the whole folder, so name "
            "an empty or a new one"
        )
    foreign = [entry for entry in entries if entry.is_dir() or not _of_model(entry.name)]
    if foreign:
        raise FolderTaken(
            f"{out} holds {foreign[0].name}, which is no part of a model: a training replaces the whole folder, so "
            f"move {foreign[0].name} elsewhere"
        )


def _of_model(name: str) -> bool:
    return name in MODEL_FILES or _WEIGHTS.fullmatch(name) is not None


def refuse_foreign_work_folder(out: Path) -> None:
    """Raise FolderTaken when `<out>.training` is a link or a file, or holds files but no key of a training.

    A missing folder is fine, and so is one that is empty or holds only the lock.
    """
    work = _work_path(out)
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        kind = "link" if work.is_symlink() else "file"
        raise FolderTaken(f"{work} is a {kind}, but a training makes a folder there: move the {kind} elsewhere")
    if not work.is_dir():
        return
    names = sorted(entry.name for entry in work.iterdir())
    for name in {LOCK_FILE, KEY_FILE}.intersection(names):
        if (work / name).is_symlink() or not (work / name).is_file():
            raise FolderTaken(f"{work / name} is no file of a training: move {work} elsewhere")
    if KEY_FILE in names:
        with (work / KEY_FILE).open("rb") as file:
            key = file.read(100).decode("latin-1")
        if not _KEY.fullmatch(key):
            raise FolderTaken(f"{work / KEY_FILE} was written by no training: move {work} elsewhere")
    elif foreign := [name for name in names if name != LOCK_FILE]:
        raise FolderTaken(f"{work} holds {foreign[0]}, which no training wrote: move it elsewhere, or rename {out}")


def _work_path(out: Path) -> Path:
    return out.with_name(out.name + ".training")


@contextlib.contextmanager
def work_folder(out: Path, key: str) -> Iterator[Path]:
    """Lock and yield the folder `<out>.training` of the training with this `training_key`.

    Files of another training in it are deleted. The folder is deleted at the end, and kept on failure, to resume from.
    Of several processes of one training only process 0 locks and deletes. Raises TrainingBusy while another process
    trains into the same `out`, and FolderTaken when `out` or the work folder holds files of somebody else.
    """
    work = _work_path(out)
    if distributed.rank():
        yield work
        return
    refuse_foreign_files(out)
    refuse_foreign_work_folder(out)
    key_file = work / KEY_FILE
    kept = (LOCK_FILE, KEY_FILE)
    work.mkdir(parents=True, exist_ok=True)
    with (work / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingBusy(f"another training writes {out}: wait for it, or end it and start again") from None
        if not key_file.exists() or key_file.read_text(encoding="utf-8") != key:
            _empty(work, kept)
            key_file.write_text(key, encoding="utf-8")
        yield work
        _empty(work, kept)  # the key goes last: a kill in between must leave a folder that is known as ours
        shutil.rmtree(work)


def _empty(folder: Path, kept: Collection[str]) -> None:
    for entry in folder.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def replace_folder(new: Path, out: Path) -> None:
    """Put the finished folder `new` in the place of `out`, on the same file system.

    The exchange is atomic where Linux offers it; elsewhere `out` is missing for an instant. Raises FolderTaken as
    `refuse_foreign_files`.
    """
    refuse_foreign_files(out)
    if not out.exists():
        new.rename(out)
        return
    if exchange_folders(new, out):
        shutil.rmtree(new)
        return
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.old-", dir=out.parent) as old:
        out.rename(Path(old) / out.name)
        new.rename(out)
