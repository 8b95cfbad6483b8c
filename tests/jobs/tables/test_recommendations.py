"""Lists from model results: ranked, sellable, k rows or a reason; the model enters as a three-line fake."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from jobs.tables import recommendations
from jobs.tables.metrics import short_lists

RESULT_SCHEMA = (
    f"key string, prompt_hash string, result {recommendations.RESULT}, model_version string,"
    " catalogue_version string, scored_on date, why_scored string"
)
PROMPT_SCHEMA = "user_id string, key string, prompt_hash string, excluded array<string>"
ITEM_SCHEMA = "item_id string, title string, available boolean"


class AlphabetModel:
    """Recommends letters in order, leaving out the excluded ones: score -1, -2, ..."""

    def recommend(self, prompts, excluded, k):
        kept = [[c for c in "abcdefgh" if c not in set(ids)][:k] for _, ids in zip(prompts, excluded, strict=True)]
        return [[SimpleNamespace(item_id=c, score=-1.0 - n, rules=()) for n, c in enumerate(row)] for row in kept]


def result(spark, key, letters):
    ranked = [(letter, -1.0 - n, None, None, None, None) for n, letter in enumerate(letters)]
    return (key, "of-ledger", ranked, "model", "catalogue", date(2026, 3, 1), "new")


def items(spark, sellable="abcdefgh", sold_out=""):
    rows = [(i, f"Title {i}", True) for i in sellable] + [(i, f"Title {i}", False) for i in sold_out]
    return spark.createDataFrame(rows, ITEM_SCHEMA)


def test_score_gives_each_request_its_own_candidates(spark):
    requests = spark.createDataFrame(
        [("k1", "p1", ["a", "c"]), ("k2", "p2", []), ("k3", "p3", list("abcdefgh"))],
        "key string, prompt string, excluded array<string>",
    )
    rows = {r.key: r.result for r in recommendations.score(requests, AlphabetModel, 3).collect()}
    assert [c.item_id for c in rows["k1"]] == ["b", "d", "e"]
    assert [(c.item_id, c.score) for c in rows["k2"]] == [("a", -1.0), ("b", -2.0), ("c", -3.0)]
    assert rows["k3"] == []


@pytest.mark.parametrize("partitions", [1, 5])
def test_lists_keep_the_best_k_that_are_sellable_today(spark, partitions):
    prompts = spark.createDataFrame(
        [("u1", "k1", "h1", []), ("u2", "k1", "h1", []), ("u3", "k2", "h2", [])], PROMPT_SCHEMA
    ).repartition(partitions)
    results = spark.createDataFrame([result(spark, "k1", "abcd"), result(spark, "k2", "hg")], RESULT_SCHEMA)
    found = recommendations.lists(prompts, results, items(spark, "acdfgh", "b"), 2).orderBy("user_id", "rank")
    assert [(r.user_id, r["rank"], r.item_id, r.title, r.score, r.prompt_hash) for r in found.collect()] == [
        ("u1", 1, "a", "Title a", -1.0, "h1"),
        ("u1", 2, "c", "Title c", -3.0, "h1"),
        ("u2", 1, "a", "Title a", -1.0, "h1"),
        ("u2", 2, "c", "Title c", -3.0, "h1"),
        ("u3", 1, "h", "Title h", -1.0, "h2"),
        ("u3", 2, "g", "Title g", -2.0, "h2"),
    ]


def test_a_product_of_which_a_rule_now_knows_something_else_is_dropped(spark):
    """Rule 1 binds for u1; it knew the fact `old` of both products. No rule binds for u2."""
    schema = "user_id string, key string, prompt_hash string, rules string"
    prompts = spark.createDataFrame([("u1", "k1", "h", '{"rules":[1]}'), ("u2", "k2", "h", None)], schema)
    listed = [("a", -1.0, None, None, "cap", "old"), ("b", 1.0, None, None, None, "old")]
    ruled = ("k1", "h", listed, "m", "c", date(2026, 3, 1), "new")
    results = spark.createDataFrame([ruled, result(spark, "k2", "ab")], RESULT_SCHEMA)
    facts = "item_id string, title string, available boolean, facts array<string>"
    today = spark.createDataFrame([("a", "A", True, ["x", "old"]), ("b", "B", True, ["x", "new"])], facts)
    rows = recommendations.lists(prompts, results, today, 2).orderBy("user_id", "rank").collect()
    assert [(r.user_id, r.item_id, r.rule) for r in rows] == [("u1", "a", "cap"), ("u2", "a", None), ("u2", "b", None)]
    asked = prompts.withColumn("excluded", F.array().cast("array<string>"))
    published = spark.createDataFrame([(r.user_id, r["rank"]) for r in rows], "user_id string, rank int")
    short = short_lists(asked, published, today, 2)
    assert {r.reason: r.customers for r in short.collect()} == {"fewer_than_k_allowed_by_rules": 1}


def test_short_lists_are_counted_by_reason(spark):
    bought = list("abcdefg")
    prompts = spark.createDataFrame(
        [("full", "k1", "h", []), ("bought", "k2", "h", bought), ("lost", "k3", "h", [])], PROMPT_SCHEMA
    )
    published = spark.createDataFrame(
        [("full", 1), ("full", 2), ("bought", 1), ("lost", 1)], "user_id string, rank int"
    )
    reasons = short_lists(prompts, published, items(spark), 2)
    assert {r.reason: r.customers for r in reasons.collect()} == {
        "fewer_than_k_not_bought_before": 1,
        "unexplained": 1,
    }


def test_an_empty_catalogue_explains_empty_lists(spark):
    prompts = spark.createDataFrame([("u1", "k1", "h", ["z"]), ("u2", "k2", "h", [])], PROMPT_SCHEMA)
    nothing = spark.createDataFrame([], "user_id string, rank int")
    reasons = short_lists(prompts, nothing, items(spark, "", "ab"), 2)
    assert {r.reason: r.customers for r in reasons.collect()} == {"catalogue_smaller_than_k": 2}
