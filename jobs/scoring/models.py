"""The models of a night: the driver finds and fingerprints them, and each Python worker loads them once."""

from __future__ import annotations

import functools
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import pandas as pd
from pyspark.sql import SparkSession

from jobs.spark import executor_files
from jobs.spark.errors import ConfigurationError, ModelChanged
from jobs.spark.executor_files import local_folder
from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import HISTORY_EVENTS, MANIFEST_FILE, read_manifest
from lm.text.prompt import PromptEncoder

Language = Literal["en", "zh"]
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Model:
    """A checkpoint, its fingerprint (part of every ledger key), and how it is run."""

    path: str  # a folder of the driver's machine; after `shipped` one that workers can open
    fingerprint: str
    language: Language = "en"  # of the prompt's template
    dtype: Dtype = "auto"  # after `find` in a session: the format that every worker computes in
    reads_category: bool = False  # the category of a review's product, besides its text
    history_events: int = HISTORY_EVENTS  # newest events of a customer that its prompts have
    reads_browsing: bool = True  # its prompts may name views, carts and wishes
    trained_as_of: date | None = None  # the last day whose events its training read; None for a stock model

    def encoder(self) -> PromptEncoder:
        """Load (or take from this process's cache) the prompt encoder."""
        return _encoder(self.path, self.language)

    def encoder_loader(self) -> Callable[[], PromptEncoder]:
        """A picklable loader of the prompt encoder, cached in each Python worker."""
        return functools.partial(_encoder, self.path, self.language)


def find(
    key: str, model: str, config_options: str, language: Language | None = None, *, dtype: Dtype = "auto"
) -> Model:
    """Resolve `models.<key>`; ConfigurationError with the mend where there is no usable checkpoint.

    `config_options` are those of Config.options, for the command that trains a model. `language` is the configured
    template's. A trained model must have been trained with it; a stock model takes any.
    """
    try:
        path = resolve(model)
        fingerprint = model_fingerprint(path)
        reads_category = checkpoint.ngrams_know_categories(path)
        manifest = read_manifest(path)
    except checkpoint.CheckpointError as error:
        raise ConfigurationError(
            f"models.{key}: {error}\nTrain one with: regulars train {config_options} --task {key}"
        ) from None
    is_stock, trained = not (path / MANIFEST_FILE).exists(), manifest.language
    if language and not is_stock and language != trained:
        raise ConfigurationError(
            f"recommend.language is {language}, but models.{key} ({path}) was trained with {trained} prompts: set"
            f" recommend.language: {trained}, or train again with: regulars train {config_options} --task {key}"
        )
    dtype = resolved_dtype(dtype)
    return Model(
        str(path),
        fingerprint,
        language or trained,
        dtype,
        reads_category,
        manifest.history_events,
        manifest.reads_browsing,
        manifest.trained_as_of,
    )


def resolved_dtype(dtype: Dtype) -> Dtype:
    """The number format that `auto` means on the active session's workers; other formats stay as they are.

    One worker decides for all. Machines with other processors compute in the same format, so one night never mixes
    formats. Without a session `auto` stays.
    """
    spark = SparkSession.getActiveSession()
    return dtype if dtype != "auto" or spark is None else _worker_dtype(spark, spark.sparkContext.applicationId)


@functools.lru_cache(maxsize=1)
def _worker_dtype(spark: SparkSession, application_id: str) -> Dtype:
    """Ask a Python worker, once a session: the driver never imports torch and may run on another kind of machine."""
    row = spark.range(1).mapInPandas(_preferred_dtype, "dtype string").first()
    assert row is not None, "one row in, one row out"
    found: Dtype = row["dtype"]
    return found


def _preferred_dtype(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Runs in the Python worker."""
    from lm.engine.device import choose_device, has_fast_bfloat16

    for batch in batches:
        name = "bfloat16" if has_fast_bfloat16(choose_device()) else "float32"
        yield pd.DataFrame({"dtype": [name] * len(batch)})


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
    """The same model as a copy that no training can change, in a place that every executor can open.

    A training that ends during the night swaps the configured folder. The copy keeps the weights that the fingerprint
    names, so no answer is kept under another model's fingerprint. The copy is made once a session. Raises ModelChanged
    where the folder changed since it was found.
    """
    frozen = executor_files.session_folder(f"model-{model.fingerprint}")
    if not frozen.exists():
        writing = frozen.with_name(f"{frozen.name}-{uuid.uuid4().hex[:8]}")
        try:
            _copy_files(Path(model.path), writing)
            changed = model_fingerprint(writing) != model.fingerprint
        except (FileNotFoundError, checkpoint.CheckpointError):
            changed = True  # its folder is being swapped
        if changed:
            shutil.rmtree(writing, ignore_errors=True)
            raise ModelChanged(
                f"the model folder {model.path} changed while the night began, so a training has just ended. Nothing "
                "was scored. Run the same command again."
            )
        writing.rename(frozen)
    return replace(model, path=executor_files.send_folder(spark, frozen, frozen.name))


def _copy_files(folder: Path, copy: Path) -> None:
    """Link the files of a folder into a new one, or copy them where the file systems differ.

    Links are safe: trainings and downloads replace whole files, and never write into an old one.
    """
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            try:
                (copy / file.name).hardlink_to(file.resolve())
            except OSError:
                shutil.copyfile(file, copy / file.name)


@functools.lru_cache(maxsize=2)
def _encoder(path: str, language: Language) -> PromptEncoder:
    return PromptEncoder.load(local_folder(path), language=language)
