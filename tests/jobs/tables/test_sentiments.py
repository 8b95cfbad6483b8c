"""Labels from probabilities, the date's reviews, and stars that contradict the text."""

from __future__ import annotations

from datetime import date, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from jobs.scoring import ledger
from jobs.scoring.models import Model
from jobs.scoring.waves import row_schema
from jobs.store.store import Store
from jobs.tables import sentiments
from jobs.tasks import sentiment
from jobs.tasks.task import TaskContext
from lm.sentiment.classifier import Judged
from tests.rows import frame

STARS = sentiments.StarLabels(negative=[1, 2], positive=[4, 5], confidence=0.8)


class LengthModel:
    """Longer texts are happier, and none about pain is."""

    def judge(self, texts, max_tokens, categories):
        happy = np.array(
            [min(len(text), max_tokens) / 10 * (about != "pain") for text, about in zip(texts, categories, strict=True)]
        )
        p = np.stack([1 - happy, np.zeros(len(texts)), happy], axis=1)
        of_text = np.stack([1 - happy**2, np.zeros(len(texts)), happy**2], axis=1)
        return Judged(p, of_text, p.argmax(axis=1), np.array([len(text) > max_tokens for text in texts]))


def test_score_returns_label_three_probabilities_and_whether_the_text_was_too_long(spark):
    requests = spark.createDataFrame(
        [("k1", "x", ""), ("k2", "xxxxxxxxxxxxxxxx", "joy"), ("k3", "xxxxxxxxxxxxxxxx", "pain")],
        "key string, prompt string, category string",
    )
    rows = {r.key: r.result for r in sentiments.score(requests, LengthModel, 10).collect()}
    assert rows["k1"].p_positive == pytest.approx(0.1)
    assert rows["k1"].p_negative == pytest.approx(0.9)
    assert rows["k1"].says_positive == pytest.approx(0.01)
    assert rows["k1"].says_negative == pytest.approx(0.99)
    assert tuple(rows["k2"]) == ("positive", 0.0, 0.0, 1.0, True, 0.0, 1.0)
    assert tuple(rows["k3"]) == ("negative", 1.0, 0.0, 0.0, True, 1.0, 0.0)
    assert (rows["k1"].label, rows["k1"].shortened) == ("negative", False)


def test_labels_and_disagreement(spark):
    cases = [  # probabilities, what the text says (negative, positive), stars -> label, disagrees
        ("r1", (0.9, 0.05, 0.05), (0.9, 0.05), 5, "negative", True),
        ("r2", (0.7, 0.2, 0.1), (0.75, 0.1), 5, "negative", False),  # not confident enough
        ("r3", (0.05, 0.05, 0.9), (0.05, 0.9), 1, "positive", True),
        ("r4", (0.05, 0.05, 0.9), (0.05, 0.9), None, "positive", False),
        ("r5", (0.9, 0.05, 0.05), (0.9, 0.05), 3, "negative", False),  # three stars contradict nothing
        ("r6", (0.2, 0.6, 0.2), (0.2, 0.2), 4, "neutral", False),
        ("r7", (0.2, 0.3, 0.5), (0.2, 0.5), 5, "neutral", False),  # the model's label, which need not be the likeliest
        ("r8", (0.6, 0.0, 0.4), (0.99, 0.01), 5, "negative", True),  # such texts are often given five stars
        ("r9", (0.85, 0.05, 0.1), (None, None), 5, "negative", True),  # scored before it was asked what texts say
    ]
    reviews = spark.createDataFrame(
        [(i, "u", "i", stars, i) for i, _, _, stars, _, _ in cases],
        "review_id string, user_id string, item_id string, rating int, key string",
    )
    results = spark.createDataFrame(
        [(i, (label, *p, i == "r1", *says), "m", date(2026, 3, 1)) for i, p, says, _, label, _ in cases],
        f"key string, result {sentiments.RESULT}, model_version string, scored_on date",
    )
    found = {r.review_id: (r.label, r.disagrees) for r in sentiments.labels(reviews, results, STARS).collect()}
    assert found == {i: (label, disagrees) for i, *_, label, disagrees in cases}
    likeliest = {r.review_id: r.label for r in sentiments.labels(reviews, results, STARS, likeliest=True).collect()}
    assert likeliest == {i: label for i, *_, label, _ in cases} | {"r7": "positive"}
    wary = sentiments.labels(reviews, results, STARS, min_confidence=0.5).collect()
    assert {r.review_id for r in wary if r.label is None} == {"r7"}
    assert {r.review_id for r in wary if r.shortened} == {"r1"}


def test_answers_of_before_it_was_asked_what_texts_say_are_good_still(spark, tmp_path):
    store = Store(str(tmp_path))
    old = "struct<label:string,p_negative:double,p_neutral:double,p_positive:double,shortened:boolean>"
    row = {"key": "k", "result": ("negative", 0.85, 0.05, 0.1, False), "scored_on": date(2026, 3, 1)}
    schema = row_schema(old)
    waves = spark.createDataFrame([tuple(row.get(name) for name in schema.names)], schema)
    waves.write.parquet(f"{store.ledger(sentiment.NAME)}/wave=00000001-n")
    kept = ledger.read(spark, store, sentiment.NAME, sentiments.RESULT)
    reviews = spark.createDataFrame(
        [("r1", "u", "i", 5, "k")], "review_id string, user_id string, item_id string, rating int, key string"
    )
    [found] = sentiments.labels(reviews, kept, STARS).collect()
    assert (found.label, found.p_negative, found.shortened, found.disagrees) == ("negative", 0.85, False, True)


def test_reviews_of_a_date_in_the_shops_time_zone(spark):
    rows = [
        ("before", datetime(2026, 2, 28, 23, 59), "good"),
        ("first", datetime(2026, 3, 1), "good"),
        ("last", datetime(2026, 3, 1, 23, 59), "good"),
        ("stars alone", datetime(2026, 3, 1), None),
        ("blank", datetime(2026, 3, 1), " "),
    ]
    reviews = spark.createDataFrame(rows, "review_id string, reviewed_at timestamp_ntz, text string").selectExpr(
        "review_id", "CAST(reviewed_at AS timestamp) AS reviewed_at", "text"
    )
    day = date(2026, 3, 1)
    assert {r.review_id for r in sentiments.reviews_of(reviews, day, 0).collect()} == {"first", "last"}
    assert {r.review_id for r in sentiments.reviews_of(reviews, day, 1).collect()} == {"before", "first", "last"}


def test_personal_data_is_gone_before_the_model_reads(spark):
    reviews = spark.createDataFrame(
        [("r1", "write to jane.doe@example.com"), ("r2", None)], "review_id string, text string"
    )
    rows = {r.review_id: r.prompt for r in sentiments.with_clean_text(reviews).collect()}
    assert rows == {"r1": "write to [EMAIL]", "r2": None}


def test_of_equal_texts_those_of_one_category_are_one_request(spark):
    items = [("i1", "soup"), ("i2", "soup"), ("i3", "lamps"), ("i4", None)]
    used = {
        "items": frame(spark, "items", [{"item_id": item, "category": category} for item, category in items]),
        "reviews": frame(
            spark,
            "reviews",
            [{"review_id": item, "item_id": item, "text": "cold"} for item in ("i1", "i2", "i3", "i4")],
        ),
    }
    config = SimpleNamespace(sentiment=SimpleNamespace(max_tokens=64, lookback_days=36_500))

    def asked(reads_category):
        model = Model("folder", "m", reads_category=reads_category)
        context = TaskContext(spark, config, None, "run", date(2036, 1, 1), used, model)
        found = sentiment.requests(context).collect()
        return {row.review_id: row.category for row in found}, [row.key for row in sorted(found)]

    categories, keys = asked(reads_category=True)
    assert categories == {"i1": "soup", "i2": "soup", "i3": "lamps", "i4": ""}
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    nothing, same = asked(reads_category=False)
    assert set(nothing.values()) == {""}
    assert set(same) == {keys[3]}  # what the ledger knows of a shop without categories stays known
