"""The real engine in Spark's own workers: lists and labels have the same bits over 1, 2 and 7 partitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyspark.sql import functions as F

from jobs.scoring import models
from jobs.tables import recommendations, sentiments
from jobs.tasks import recommend, sentiment
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.sentiment.classifier import SentimentClassifier
from lm.text.prompt import PromptEncoder
from tests.models import LINES, save_causal, save_classifier

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUSTOMERS = 40


@pytest.mark.slow
def test_partitions_change_no_bit(spark: SparkSession, tmp_path: Path) -> None:
    titles = [f"{colour} {thing}" for colour in ("Red", "Blue", "Black") for thing in ("ink", "oil shampoo", "printer")]
    item_ids = [f"i{n}" for n in range(len(titles))]
    causal, classifier = save_causal(tmp_path / "causal"), save_classifier(tmp_path / "classifier")
    Catalogue.build(item_ids, titles, PromptEncoder.load(causal)).save(tmp_path / "catalogue")
    rng = np.random.default_rng(0)
    prompts = ["\n".join(rng.choice(LINES, rng.integers(1, 8))) for _ in range(CUSTOMERS)]
    excluded = [rng.choice(item_ids, rng.integers(0, 4), replace=False).tolist() for _ in range(CUSTOMERS)]
    rows = spark.createDataFrame(
        list(zip(range(CUSTOMERS), prompts, excluded, strict=True)), "n int, prompt string, excluded array<string>"
    ).withColumn("category", F.lit(""))

    alone = Recommender.load(causal, Catalogue.load(tmp_path / "catalogue"), dtype="float32", threads=1)
    expected = [[(one.item_id, one.score) for one in found] for found in alone.recommend(prompts, excluded, 4)]
    labels = SentimentClassifier.load(classifier, dtype="float32", threads=1).classify(prompts, 64)
    assert len({repr(found) for found in expected}) > CUSTOMERS // 2  # they do differ
    for partitions in (1, 2, 7):
        spread = rows.repartition(partitions, "prompt")
        lists = recommendations.score(
            spread,
            recommend.recommender_loader(_in_float32(causal), str(tmp_path / "catalogue"), None),
            4,
        )
        scored = sentiments.score(lists.withColumnRenamed("result", "listed"), _classifier(classifier), 64)
        found = {row["n"]: (row["listed"], row["result"]) for row in scored.collect()}
        assert [[tuple(one)[:2] for one in found[n][0]] for n in range(CUSTOMERS)] == expected
        assert [tuple(found[n][1])[1:4] for n in range(CUSTOMERS)] == list(map(tuple, labels.tolist()))


def _classifier(path: Path) -> object:
    return sentiment.classifier_loader(_in_float32(path))


def _in_float32(path: Path) -> models.Model:
    return models.Model(str(path), "m", dtype="float32")
