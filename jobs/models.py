"""The models of a night: resolved and fingerprinted on the driver, loaded once per Python worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import ConfigurationError
from lm import checkpoint
from lm.catalogue import Catalogue
from lm.prompt import PromptEncoder

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.classify import SentimentClassifier
    from lm.generate import Recommender


@dataclass(frozen=True)
class Model:
    """A checkpoint folder and the fingerprint under which the ledger knows its results."""

    path: str
    fingerprint: str

    @property
    def manifest(self) -> checkpoint.Manifest:
        """What regulars.json says of the checkpoint."""
        return checkpoint.read_manifest(Path(self.path))

    def encoder(self, language: str) -> PromptEncoder:
        """Make the prompt encoder on the spot; for one per worker use `encoder_loader`."""
        return _encoder(self.path, language)

    def encoder_loader(self, language: str) -> Callable[[], PromptEncoder]:
        """A picklable loader of the prompt encoder, cached in each Python worker."""
        return functools.partial(_encoder, self.path, language)


def find(key: str, model: str, config_file: str) -> Model:
    """Resolve `models.<key>`; ConfigurationError with the mend where there is no usable checkpoint."""
    try:
        path = checkpoint.resolve(model)
        return Model(str(path), checkpoint.fingerprint(path))
    except checkpoint.CheckpointError as error:
        raise ConfigurationError(
            f"models.{key} ({model}): {error}\nTrain one with: regulars train --config {config_file}"
            f" --as-of <date> --task {key}, or set models.{key} to a Hugging Face folder or hub id."
        ) from None


def recommender_loader(model: Model, catalogue_dir: str) -> Callable[[], Recommender]:
    """A picklable loader of the engine over the memory-mapped catalogue, cached in each Python worker."""
    return functools.partial(_recommender, model.path, catalogue_dir)


def classifier_loader(model: Model) -> Callable[[], SentimentClassifier]:
    """A picklable loader of the sentiment classifier, cached in each Python worker."""
    return functools.partial(_classifier, model.path)


@functools.lru_cache(maxsize=2)
def _encoder(path: str, language: str) -> PromptEncoder:
    return PromptEncoder.load(Path(path), language=language)


@functools.lru_cache(maxsize=1)
def _recommender(path: str, catalogue_dir: str) -> Recommender:
    from lm.generate import Recommender

    return Recommender.load(Path(path), Catalogue.load(Path(catalogue_dir)))


@functools.lru_cache(maxsize=1)
def _classifier(path: str) -> SentimentClassifier:
    from lm.classify import SentimentClassifier

    return SentimentClassifier.load(Path(path))
