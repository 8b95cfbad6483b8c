"""A word that is bad of one category and good of another, from the catalogue to the night's labels."""

from __future__ import annotations

import io
import random
from datetime import UTC, date, datetime

import pytest
import yaml
from rich.console import Console

from jobs.config.config import load
from jobs.evaluation.label_figures import TFIDF, TFIDF_CATEGORY
from jobs.evaluation.sentiment_figures import evaluate_sentiment_holdout
from jobs.scoring import models
from jobs.store.store import Store
from jobs.tables import sentiments
from jobs.tasks import sentiment
from jobs.tasks.task import TaskContext
from jobs.training import training_data
from lm.sentiment.train_sentiment import SentimentSettings, train_sentiment
from tests.opinions import FILLER
from tests.rows import frame

SETTINGS = SentimentSettings(
    n_embd=16, n_layer=1, vocab_size=300, max_tokens=40, max_epochs=1, min_steps=0, pretrain_epochs=1
)
ITEMS = {"i1": "soup", "i2": "soup", "i3": "beer", "i4": "beer"}
DAY = date(2026, 3, 1)


def opinion(number: int) -> dict[str, object]:
    rng = random.Random(number)
    item, word = rng.choice(list(ITEMS)), rng.choice(("cold", "warm"))
    text = " ".join([str(number), *rng.choices(FILLER, k=6), word])
    good = (word == "warm") == (ITEMS[item] == "soup")
    when = datetime(2026, 2, 1, tzinfo=UTC)
    return {"review_id": f"r{number}", "item_id": item, "text": text, "rating": 5 if good else 1, "reviewed_at": when}


@pytest.mark.usefixtures("one_thread")
def test_from_the_catalogue_to_the_label(spark, tmp_path):
    asked = [
        {
            "review_id": f"new {item} {word}",
            "item_id": item,
            "text": f"it was {word}",
            "reviewed_at": datetime(2026, 3, 1, 12),
        }
        for item in ITEMS
        for word in ("cold", "warm")
    ]
    tables = {
        "purchases": [{"item_id": "i1"}],
        "items": [{"item_id": item, "title": item, "category": category} for item, category in ITEMS.items()],
        "reviews": [*map(opinion, range(600)), *asked],
    }
    used = {name: frame(spark, name, rows) for name, rows in tables.items()}
    for name, rows in used.items():
        rows.write.parquet(str(tmp_path / name))
    content = {"store": "./store", "timezone": "Europe/London", "inputs": {name: {"path": name} for name in tables}}
    (tmp_path / "regulars.yaml").write_text(yaml.safe_dump(content))
    config = load(tmp_path / "regulars.yaml")

    found = training_data.collect_reviews(used, negative=[1, 2], positive=[4, 5])
    train_sentiment(found.texts, found.labels, SETTINGS, tmp_path / "models/sentiment", categories=found.categories)

    log = io.StringIO()
    figures = evaluate_sentiment_holdout(spark, config, DAY, Console(file=log, width=160))
    assert figures["accuracy"] > 0.95
    assert list(figures["baselines"])[:2] == [TFIDF, TFIDF_CATEGORY]
    assert figures["baselines"][TFIDF]["accuracy"] < 0.7
    assert f"The model less {TFIDF_CATEGORY}: accuracy +" in log.getvalue()

    model = models.find("sentiment", config.models.sentiment, "regulars.yaml", dtype="float32")
    due = sentiment.requests(TaskContext(spark, config, Store(config.store), "run", DAY, used, model))
    distinct = due.dropDuplicates(["key"])
    assert distinct.count() == 4  # two words in two categories, whatever the product
    found = sentiments.score(distinct, sentiment.classifier_loader(model), config.sentiment.max_tokens).collect()
    words = {(row.category, row.prompt.split()[-1]): row.result.label for row in found}
    assert words == {
        ("soup", "warm"): "positive",
        ("soup", "cold"): "negative",
        ("beer", "warm"): "negative",
        ("beer", "cold"): "positive",
    }
    assert all(row.failure is None for row in found)
