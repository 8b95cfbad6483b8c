"""`regulars evaluate --task answers` judges a trained model by the questions that its training left out."""

from __future__ import annotations

import io
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import load
from jobs.evaluation.held_out_questions import evaluate_answers_holdout
from jobs.sample import write_sample
from jobs.spark.errors import ConfigurationError
from jobs.training.train import train
from lm.checkpoint.manifest import read_manifest

QUICK = [
    "models.answers=models/answers",
    *(f"train.answers.{one}" for one in ("n_embd=16", "n_head=2", "n_layer=1", "vocab_size=500", "max_epochs=1")),
    "train.answers.min_steps=0",
    "answers.prompt_tokens=96",
    "answers.max_answer_tokens=24",
    "answers.candidates=2",
    "answers.min_confidence=0.9",
]


@pytest.mark.slow
def test_held_out_questions_are_answered_or_refused(spark: SparkSession, tmp_path: Path) -> None:
    info = write_sample(tmp_path, customers=300, products=40, days=40, seed=3)
    config = load(info.config, QUICK)
    train(spark, config, info.last_day, ("answers",), Console(file=io.StringIO()))
    trained = read_manifest(tmp_path / "models/answers").metrics

    log = io.StringIO()
    figures = evaluate_answers_holdout(
        spark, config, info.last_day, Console(file=log, width=160), tmp_path / "figures.json"
    )

    assert figures["questions"] == trained["questions"] > 0  # the same questions as at the end of the training
    assert figures["article_top_1"] == pytest.approx(trained["article_top_1"])
    assert figures["questions"] == figures["answered"] + figures["unsure"] + figures["not_grounded"]
    assert figures["unsure"] > 0
    assert figures["ungrounded"] == 0
    noted = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert noted["questions"] == figures["questions"]
    assert "right article first" in log.getvalue()

    earlier: date = info.last_day - timedelta(days=1)
    with pytest.raises(ConfigurationError, match=f"train .*--task answers --as-of {earlier}"):
        evaluate_answers_holdout(spark, config, earlier, Console(file=log))
