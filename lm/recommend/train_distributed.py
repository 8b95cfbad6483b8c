"""What each of several processes runs to train one recommender together (lm.train.distributed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.checkpoint.checkpoint import CheckpointError
from lm.recommend.settings import RecommendSettings
from lm.recommend.train_recommender import train_recommend
from lm.recommend.training_examples import Customer
from lm.train.distributed import process_group, rank
from lm.train.training_loop import TrainingProgress
from lm.train.training_state import TrainingError


def train_one_of_many(
    customers: Sequence[Customer],
    items: Mapping[str, str],
    settings: RecommendSettings,
    out: str,
    window: Mapping[str, Any],
) -> dict[str, float] | Exception:
    """What each process of a recommender's training runs; `out` is on a file system that all of them mount.

    A mistake of the user's is returned, for whoever started the processes to raise. What the others fail of is only
    printed: the first cannot go on without them, and fails itself.
    """
    heard: dict[str, int] = {}

    def report(now: TrainingProgress) -> None:
        if heard.get(now.stage) != now.epoch:  # a line an epoch: it travels from the executor to the driver
            heard[now.stage] = now.epoch
            told = ", ".join(f"{name} {value:.3f}" for name, value in now.metrics.items() if name != "seconds")
            left = f"at most {now.seconds_left / 60:.1f} minutes left"
            print(f"  recommend {now.stage}: epoch {now.epoch + 1}/{now.epochs} {told}, {left}", flush=True)

    with process_group():
        first = rank() == 0
        heard_by = report if first else None
        try:
            return train_recommend(customers, items, settings, Path(out), report=heard_by, window=dict(window))
        except (TrainingError, CheckpointError) as error:
            return error
        except RuntimeError as error:
            if first:
                raise
            print(f"  process {rank()} of the training ends: {error}", flush=True)
            return error
