"""The keys `train.dp_*` as settings of a training; the answers' model cannot be trained so."""

from __future__ import annotations

from typing import Any

from jobs.config.train_settings import TrainSettings
from lm.train.training_state import TrainingError


def private_settings(train: TrainSettings) -> dict[str, Any]:
    """Return the settings of a training that `train.dp_epsilon` changes; none without it."""
    from lm.train.private_steps import PrivacyBudget

    if train.dp_epsilon is None:
        return {}
    budget = PrivacyBudget(
        epsilon=train.dp_epsilon, delta=train.dp_delta, clip_norm=train.dp_clip_norm, batch=train.dp_batch
    )
    return {"privacy": budget, "pretrain_epochs": 0}


def refuse_private_answers(train: TrainSettings) -> None:
    """Raise TrainingError where differential privacy is configured."""
    if train.dp_epsilon is not None:
        raise TrainingError(
            "train.dp_epsilon: the answers' model has no training with differential privacy. Train it alone: "
            "--task answers --set train.dp_epsilon=null"
        )
