"""A model's exact state in 16 digits: what the ledger and every published row name it by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lm.checkpoint.checkpoint import (
    CO_PURCHASE_FILE,
    COLD_ITEMS_FILE,
    NGRAMS_FILE,
    read_json,
    tokenizer_files,
    weight_files,
)
from lm.checkpoint.manifest import read_manifest

#: What a model may have besides GPT-2's own files.
FURTHER_FILES = ("answers.json", "ranker.safetensors", NGRAMS_FILE, CO_PURCHASE_FILE, COLD_ITEMS_FILE)
# What of config.json says who wrote it, not what it computes.
CONFIG_NOTES = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
# What of the manifest says how the model came about, not what it answers.
MANIFEST_NOTES = {"manifest_version", "training", "metrics"}

_digests: dict[tuple[str, int, int], str] = {}


def _digest(file: Path) -> str:
    """SHA-256 of a file, computed once per process for each (path, modification time, size)."""
    stat = file.stat()
    key = (str(file.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _digests:
        with file.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def _further(path: Path) -> list[Path]:
    """What an answers model has besides, a classifier (n-grams) and a recommender (neighbours, new items)."""
    return [file for name in FURTHER_FILES if (file := path / name).exists()]


def model_fingerprint(path: Path) -> str:
    """16 hex digits that change with whatever changes an answer, and with nothing else.

    That is the configuration, the tokenizer, the weights, and of the manifest the template version,
    language, task, coding, item codes, labels and temperature.
    """
    config = read_json(path / "config.json")
    for note in CONFIG_NOTES:
        config.pop(note, None)
    manifest = read_manifest(path).model_dump(mode="json", exclude=MANIFEST_NOTES)
    if not manifest["lexicon_weight"]:  # a model of before lexicons is the same model
        del manifest["lexicon_weight"]
    parts = {
        "config": config,
        "manifest": manifest,
        "files": {file.name: _digest(file) for file in [*tokenizer_files(path), *weight_files(path), *_further(path)]},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
