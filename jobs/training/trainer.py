"""What a task's training module has: the tables that it reads, the training, and how its figures are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pyspark.sql import DataFrame
from rich.console import Console

from jobs.config.config import Config
from lm.checkpoint import checkpoint
from lm.checkpoint.manifest import read_manifest

if TYPE_CHECKING:
    from lm.train.canaries import Audit
    from lm.train.training_loop import ProgressCallback

Figures = dict[str, float]


@dataclass(frozen=True)
class TrainingOptions:
    """How models are judged and kept: the recommender's protocol, whether it must beat the present model, the audit."""

    protocol: str = "time-split"
    refit: bool = False
    promote: bool = False
    audit: bool = False


@dataclass(frozen=True)
class TrainingContext:
    """What a training gets: `used` are the input tables as of `as_of`, `out` is the folder to write.

    `scratch` is a folder for files that the command deletes at its end.
    """

    used: Mapping[str, DataFrame]
    config: Config
    as_of: date
    out: Path
    report: ProgressCallback
    options: TrainingOptions
    console: Console
    scratch: str

    def last_day_known(self, init: str | None) -> str:
        """Return the later of `as_of` and the last day that trained the checkpoint `init`, for the manifest."""
        known = None if init is None else read_manifest(checkpoint.resolve(init)).trained_as_of
        return max(self.as_of, known or self.as_of).isoformat()


@dataclass(frozen=True)
class FiguresTable:
    """How figures are shown: `contenders` and `metrics` map what is printed to a prefix and a key of the figures."""

    title: str
    contenders: Mapping[str, str]
    metrics: Mapping[str, str]


class Trainer(Protocol):
    """The names that a task's training module has."""

    #: Input tables without which it cannot train, and the sentence that says so.
    NEEDED: Sequence[str]
    LEARNS_FROM: str
    #: Whether `--task all` leaves the model out where a needed table is not configured.
    OPTIONAL: bool

    def tables(self, config: Config) -> Sequence[str]:
        """The input tables that the training reads."""

    def train(self, context: TrainingContext) -> Figures:
        """Train and write the folder; returns the held-out figures."""

    def audit(self, context: TrainingContext, folder: Path) -> Audit:
        """Train into `folder` on a copy of the data with canaries; returns what the model remembers."""

    def figures_table(self, figures: Figures) -> FiguresTable:
        """How the figures are shown."""
