"""A training in two processes through Spark has the loss curve of one, and reports its failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.training.train_recommend import _in_processes
from lm.checkpoint.manifest import read_manifest
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.train.training_state import TrainingError
from tests.lm.recommend_training.test_train_recommender import ITEMS, TINY, shop

# Without dropout: its draws are each process's own.
SETTINGS = RecommendTrainSettings(
    **(vars(TINY) | {"dropout": 0.0, "max_epochs": 3, "refit": True, "batch_tokens": 500})
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Spark's server of the processes' progress lines looks for a free port and binds it a moment later, on more
    # addresses; where something else is there by then, its thread ends and the training goes on without the lines.
    pytest.mark.filterwarnings(r"ignore:.*\(serve_task\):pytest.PytestUnhandledThreadExceptionWarning"),
]


def losses(model: Path) -> list[float]:
    return [line["loss"] for line in read_manifest(model).training["lines"]]


def test_two_processes_have_the_loss_curve_of_one(spark: SparkSession, tmp_path: Path) -> None:
    customers = shop(61)  # an odd one, so that shares are of unequal size
    alone = train_recommend(customers, ITEMS, SETTINGS, tmp_path / "one")
    both = _in_processes(2, customers, ITEMS, SETTINGS, tmp_path / "two", {"as_of": "2026-01-01"})
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert both == pytest.approx(alone, abs=0.02)
    assert read_manifest(tmp_path / "two").training["window"] == {"as_of": "2026-01-01"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]  # no work left beside them


@pytest.mark.slow  # a second start of two torch processes in the executors
def test_what_a_process_says_is_what_is_told(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no customer has bought anything"):
        _in_processes(2, [], ITEMS, SETTINGS, tmp_path / "none", {})
