"""A night's models are copies that no training changes, and every worker computes in one number format."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.config.settings import RecommendSettings
from jobs.scoring import models
from jobs.spark.errors import ModelChanged
from jobs.tasks import answers, recommend, sentiment
from jobs.tasks.task import TaskContext
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest, write_manifest
from tests.models import save_causal, save_classifier
from tests.rows import frame


def train_again(folder: Path, seed: int) -> None:
    """What the end of a training does: a finished new folder takes the place of the old one."""
    save_classifier(folder.with_name("new"), seed=seed)
    shutil.rmtree(folder)
    folder.with_name("new").rename(folder)


def test_a_training_that_ends_during_a_night_changes_none_of_its_answers(spark: SparkSession, tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "sentiment", seed=1)
    model = models.shipped(spark, models.find("sentiment", str(folder), "regulars.yaml"))
    train_again(folder, seed=2)
    assert model_fingerprint(folder) != model.fingerprint
    assert model_fingerprint(Path(model.path)) == model.fingerprint
    again = models.shipped(spark, models.find("sentiment", str(folder), "regulars.yaml"))
    assert model_fingerprint(Path(again.path)) == again.fingerprint == model_fingerprint(folder)


def test_a_model_that_changes_before_it_is_copied_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "sentiment", seed=3)
    found = models.find("sentiment", str(folder), "regulars.yaml")
    train_again(folder, seed=4)
    with pytest.raises(ModelChanged, match=r"changed while the night began.*Run the same command again"):
        models.shipped(spark, found)
    shutil.rmtree(folder)
    with pytest.raises(ModelChanged):
        models.shipped(spark, found)


def test_auto_is_resolved_once_by_a_worker(spark: SparkSession, tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "sentiment")
    resolved = models.find("sentiment", str(folder), "regulars.yaml").dtype
    assert resolved in ("float32", "bfloat16")
    assert models.resolved_dtype("auto") == resolved
    assert models.find("sentiment", str(folder), "regulars.yaml", dtype="float32").dtype == "float32"


def test_answers_of_another_number_format_or_code_are_other_answers(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"reviews": frame(spark, "reviews", [{"review_id": "r", "text": "good"}])}
    config = SimpleNamespace(sentiment=SimpleNamespace(max_tokens=64, lookback_days=36_500))
    day = used["reviews"].select(F.to_date("reviewed_at")).first()[0]

    def key(dtype: str) -> str:
        model = models.Model("folder", "m", dtype=dtype)
        return sentiment.requests(TaskContext(spark, config, None, "run", day, used, model)).first()["key"]

    before = key("float32")
    assert key("bfloat16") != before == key("float32")
    monkeypatch.setattr(sentiment, "CODE_VERSION", sentiment.CODE_VERSION + 1)
    assert key("float32") != before


def test_prompts_have_as_many_events_as_the_training_chose(spark: SparkSession, tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "m")
    write_manifest(folder, Manifest(history_events=2))
    model = models.find("recommend", str(folder), "regulars.yaml")
    days = [datetime(2036, 1, day, tzinfo=UTC) for day in range(1, 6)]
    bought = [{"user_id": "u", "item_id": f"i{day.day}", "purchased_at": day} for day in days]
    used = {"purchases": frame(spark, "purchases", bought), "items": frame(spark, "items", [])}

    def events(configured: int | None) -> list[str]:
        config = SimpleNamespace(recommend=RecommendSettings(history_events=configured, all_customers=False))
        context = TaskContext(spark, config, None, "run", days[-1].date(), used, model)
        return [event.item_id for event in recommend.customer_events(context).first()["events"]]

    assert events(None) == ["i4", "i5"]
    assert events(3) == ["i3", "i4", "i5"]


def test_every_task_says_what_decides_its_answers(tmp_path: Path) -> None:
    from jobs.tasks.versions import task_versions

    save_causal(tmp_path / "m")
    model = models.Model(str(tmp_path / "m"), "0123", dtype="float32")
    for task in (recommend, sentiment, answers):
        assert task_versions(task, model) == {
            task.NAME: "0123",
            f"{task.NAME}.code": str(task.CODE_VERSION),
            "dtype": "float32",
        }
