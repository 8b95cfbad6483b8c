"""The process function of a recommender's distributed training (lm.train.distributed)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.checkpoint.checkpoint import CheckpointError
from lm.recommend_training.further_customers import FurtherCustomers
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import CustomerEvents
from lm.train.distributed import process_group, rank
from lm.train.training_loop import TrainingProgress
from lm.train.training_state import TrainingError


def train_one_of_many(
    customers: Sequence[CustomerEvents],
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    out: str,
    window: Mapping[str, Any],
    further: FurtherCustomers | None = None,
) -> dict[str, float] | Exception:
    """Train one recommender together with other processes; `out` is on a file system that all of them mount.

    Returns the held-out figures, or a user's error for the caller to raise. Only the first process raises other
    errors: the others print theirs, and the first then fails too.
    """
    reported: dict[str, int] = {}  # stage -> newest epoch

    def report(now: TrainingProgress) -> None:
        if reported.get(now.stage) != now.epoch:  # one line an epoch: each travels from the executor to the driver
            reported[now.stage] = now.epoch
            told = [f"epoch {now.epoch + 1}", *(f"{name} {value:.3f}" for name, value in now.metrics.items())]
            if not math.isnan(now.seconds_left):
                told.append(f"at most {now.seconds_left / 60:.1f} minutes left")
            print(f"  recommend {now.stage}: {', '.join(told)}", flush=True)

    with process_group():
        first = rank() == 0
        on_progress = report if first else None
        try:
            return train_recommend(
                customers, items, settings, Path(out), report=on_progress, window=dict(window), further=further
            )
        except (TrainingError, CheckpointError) as error:
            return error
        except RuntimeError as error:
            if first:
                raise
            print(f"  process {rank()} of the training ends: {error}", flush=True)
            return error
