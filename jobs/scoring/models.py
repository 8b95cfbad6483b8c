"""The models of a night: the driver finds and fingerprints them, and each Python worker loads them once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

from pyspark.sql import SparkSession

from jobs.spark import executor_files
from jobs.spark.errors import ConfigurationError
from jobs.spark.executor_files import local_folder
from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import MANIFEST_FILE, read_manifest
from lm.text.prompt import PromptEncoder

Language = Literal["en", "zh"]
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Model:
    """A checkpoint, its fingerprint (part of every ledger key), and how it is run."""

    path: str  # a folder of the driver's machine; after `shipped` one that workers can open
    fingerprint: str
    language: Language = "en"  # of the prompt's template
    dtype: Dtype = "auto"
    reads_category: bool = False  # the category of a review's product, besides its text
    trained_as_of: date | None = None  # the last day whose events its training read; None for a stock model

    def encoder(self) -> PromptEncoder:
        """Load (or take from this process's cache) the prompt encoder."""
        return _encoder(self.path, self.language)

    def encoder_loader(self) -> Callable[[], PromptEncoder]:
        """A picklable loader of the prompt encoder, cached in each Python worker."""
        return functools.partial(_encoder, self.path, self.language)


def find(key: str, model: str, config_file: str, language: Language | None = None, *, dtype: Dtype = "auto") -> Model:
    """Resolve `models.<key>`; ConfigurationError with the mend where there is no usable checkpoint.

    `language` is the configured template's. A trained model must have been trained with it; a stock model takes any.
    """
    try:
        path = resolve(model)
        fingerprint = model_fingerprint(path)
        reads_category = checkpoint.ngrams_know_categories(path)
        manifest = read_manifest(path)
    except checkpoint.CheckpointError as error:
        raise ConfigurationError(
            f"models.{key}: {error}\nTrain one with: regulars train --config {config_file} --task {key} --as-of <date>"
        ) from None
    is_stock, trained = not (path / MANIFEST_FILE).exists(), manifest.language
    if language and not is_stock and language != trained:
        raise ConfigurationError(
            f"recommend.language is {language}, but models.{key} ({path}) was trained with {trained} prompts: set"
            f" recommend.language: {trained} in {config_file}, or train again with: regulars train --config"
            f" {config_file} --task {key} --as-of <date>"
        )
    return Model(str(path), fingerprint, language or trained, dtype, reads_category, manifest.trained_as_of)


def resolve(model: str) -> Path:
    """The folder of a model on this machine, fetched where it lies on a file system that only Hadoop reads.

    Raises CheckpointError, with the mend.
    """
    if not executor_files.is_remote(model):
        return checkpoint.resolve(model)
    spark = SparkSession.getActiveSession()
    assert spark is not None, "a model on a cluster's file system is read by a session"
    try:
        return checkpoint.resolve(str(executor_files.fetch_folder(spark, model)))
    except OSError as error:
        raise checkpoint.CheckpointError(
            f"model {model} cannot be read ({error}): mend the URI, or copy the model to a folder of this machine "
            "and name that"
        ) from None


def shipped(spark: SparkSession, model: Model) -> Model:
    """The same model in a place that every executor can open; on a cluster its folder is sent to them."""
    return replace(model, path=executor_files.send_folder(spark, Path(model.path), f"model-{model.fingerprint}"))


@functools.lru_cache(maxsize=2)
def _encoder(path: str, language: Language) -> PromptEncoder:
    return PromptEncoder.load(local_folder(path), language=language)
