"""The fingerprint of a model: 16 hex digits under which the ledger and every published row name it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lm.checkpoint.checkpoint import (
    CO_PURCHASE_FILE,
    COLD_ITEMS_FILE,
    NGRAMS_FILE,
    read_config,
    stated_special_tokens,
    tokenizer_files,
    weight_files,
)
from lm.checkpoint.item_ids import ITEM_IDS_FILE, ItemIds
from lm.checkpoint.manifest import FORMER_FIELDS, Manifest, read_manifest

#: Files that a task may add: answers and retrieval, n-grams, co-purchase, new items and many item ids.
TASK_FILES = ("answers.json", "ranker.safetensors", NGRAMS_FILE, CO_PURCHASE_FILE, COLD_ITEMS_FILE, ITEM_IDS_FILE)
#: Keys that do not change an answer.
IGNORED_CONFIG_KEYS = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
IGNORED_MANIFEST_KEYS = {"manifest_version", "training", "metrics"}
#: Keys that earlier releases did not have. At its default such a key is left out.
NEWER_KEYS = ("lexicon_weight", "ngram_weight", "history_events")

_digests: dict[tuple[str, int, int], str] = {}


def _digest(file: Path) -> str:
    """The SHA-256 of a file, computed once per process for each (path, modification time, size)."""
    stat = file.stat()
    key = (str(file.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _digests:
        with file.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def _task_files(path: Path) -> list[Path]:
    return [file for name in TASK_FILES if (file := path / name).exists()]


def model_fingerprint(path: Path) -> str:
    """16 hex digits of a hash of everything that can change an answer, and of nothing else.

    These are the configuration, the tokenizer, the weights, the files of the task, and the manifest without
    IGNORED_MANIFEST_KEYS. Raises CheckpointError when a file is missing or broken.
    """
    config = read_config(path)
    for key in IGNORED_CONFIG_KEYS:
        config.pop(key, None)
    found = read_manifest(path)
    ignored = IGNORED_MANIFEST_KEYS | ({"item_ids"} if isinstance(found.item_ids, ItemIds) else set())
    manifest = found.model_dump(mode="json", exclude=ignored)
    # Models that are older than a key, and those of a release with more keys, keep their fingerprints.
    for key in NEWER_KEYS:
        if manifest[key] == Manifest.model_fields[key].default:
            del manifest[key]
    manifest |= FORMER_FIELDS
    files = [*tokenizer_files(path), *weight_files(path), *_task_files(path)]
    digests = {file.name: _digest(file) for file in files}
    parts: dict[str, object] = {"config": config, "manifest": manifest, "files": digests}
    if (stated := stated_special_tokens(path)) is not None:
        parts["special_tokens"] = stated
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
