"""Refuses to evaluate models on events that their training read, and models that are replaced meanwhile.

A training notes its last day (`as_of`) and its settings in the model's manifest; a night notes the day in `runs`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.scoring import models
from jobs.spark.errors import ConfigurationError, InputError, ModelChanged
from jobs.spark.progress import warn
from jobs.store.dates import published_runs
from jobs.store.store import Store
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest, read_manifest
from schemas import runs

_KEEP = "--set models.{task}=FOLDER on every command keeps the present model"


class OpenedModel(NamedTuple):
    """A model to evaluate: its folder, and the fingerprint and manifest that it had when it was opened."""

    path: Path
    fingerprint: str
    manifest: Manifest


def open_model(task: str, named: str) -> OpenedModel:
    """Open the model that `models.<task>` names. Raises ConfigurationError for one that is missing or broken."""
    try:
        path = models.resolve(named)
        return OpenedModel(path, model_fingerprint(path), read_manifest(path))
    except CheckpointError as error:
        raise ConfigurationError(f"models.{task}: {error}") from None


def open_earlier_model(task: str, config: Config, as_of: date) -> OpenedModel:
    """Open the model `models.<task>` as `open_model`.

    Raises ConfigurationError if its training read events after `as_of` too.
    """
    opened = open_model(task, getattr(config.models, task))
    trained = opened.manifest.trained_as_of
    if trained is not None and trained > as_of:
        raise ConfigurationError(
            f"models.{task} ({opened.path}) was trained on events up to {trained}: it knows events after {as_of}, so "
            "its figures would be too good. Train one with: "
            f"{config.command('train', f'--task {task} --as-of {as_of}')} "
            f"({_KEEP.format(task=task)})"
        )
    return opened


def refuse_other_split(path: Path, manifest: Manifest, config: Config, as_of: date, console: Console) -> None:
    """Raise ConfigurationError unless the training held out every customer's last purchase up to `as_of`.

    A model without notes of a training, such as a stock GPT-2, is accepted with a warning.
    """
    settings = manifest.training.get("settings", {})
    protocol, exclude = settings.get("protocol"), settings.get("exclude_purchased")
    if protocol is None:
        warn(console, f"{path} has no notes of a training: it must not have seen the purchases that judge it.")
        return
    wanted = config.recommend.exclude_purchased
    wrong = None
    if protocol != "leave-one-out":
        wrong = f"was trained with the protocol {protocol}"
    elif exclude != wanted:
        wrong = f"was trained with recommend.exclude_purchased={exclude}, which is {wanted} here"
    elif manifest.trained_as_of is not None and manifest.trained_as_of > as_of:
        wrong = f"was trained as of {manifest.trained_as_of}, after {as_of}"
    if wrong:
        raise ConfigurationError(
            f"models.recommend ({path}) {wrong}: its training read purchases that would judge it. Train one with: "
            f"{config.command('train', f'--task recommend --protocol leave-one-out --as-of {as_of}')} "
            f"({_KEEP.format(task='recommend')})"
        )


def refuse_replaced_model(task: str, path: Path, fingerprint: str) -> None:
    """Raise ModelChanged if the model no longer has the `fingerprint` that it had before it was loaded."""
    if model_fingerprint(path) != fingerprint:
        raise ModelChanged(
            f"models.{task} ({path}) was replaced during its evaluation, so the figures would mix two models. Wait for "
            "the training to end, then run the same command again."
        )


def refuse_lists_of_later_model(spark: SparkSession, config: Config, run_date: date, console: Console) -> None:
    """Raise InputError if the model behind the published lists of `run_date` was trained on later events.

    `runs` has the last day of the training. Dates that were published before it had are compared with the configured
    model; where that is another one, the lists are accepted with a warning.
    """
    run = published_runs(spark, Store(config.store), [run_date]).get(run_date)
    versions = {} if run is None else run.versions
    noted = versions.get(runs.trained_as_of("recommend"))
    trained = None if noted is None else date.fromisoformat(noted)
    if noted is None:
        path = _model_of(config, versions.get("recommend"))
        if path is None:
            warn(console, f"It is unknown up to which day the model of the lists of {run_date} was trained.")
            return
        trained = read_manifest(path).trained_as_of
    if trained is not None and trained > run_date:
        raise InputError(
            f"the lists of {run_date} come from a model that was trained on events up to {trained}: it knows the "
            "purchases that would judge them. Make others with: "
            f"{config.command('train', f'--task recommend --as-of {run_date}')}, then "
            f"{config.command('nightly', f'--run-date {run_date}')} (--set models.recommend=FOLDER --set store=FOLDER "
            "on every command keeps the present model and lists)"
        )


def _model_of(config: Config, fingerprint: str | None) -> Path | None:
    """Return the folder of the configured recommender if it has this fingerprint."""
    try:
        path = models.resolve(config.models.recommend)
        return path if model_fingerprint(path) == fingerprint else None
    except CheckpointError:
        return None
