"""Titles that are the same to a customer: their keys, the products of the catalogue, and lists of the ledger."""

from __future__ import annotations

import pytest

from jobs.tables import recommendations
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.list_rules import NightRules
from jobs.tables.metrics import short_lists
from jobs.tables.same_titles import with_title_keys
from tests.jobs.tables.test_list_rules import DAY
from tests.jobs.tables.test_recommendations import PROMPT_SCHEMA, RESULT_SCHEMA, result

SCHEMA = "item_id string, title string, available boolean"


def products(spark, titles, gone=()):
    rows = [(f"{n}", title, True) for n, title in enumerate(titles)]
    rows += [(f"gone {n}", title, False) for n, title in enumerate(gone)]
    return with_title_keys(spark.createDataFrame(rows, SCHEMA))


def keys(spark, *titles):
    return [row.title_key for row in products(spark, titles).orderBy("item_id").collect()]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Red T-Shirt, size M", "RED  t shirt (size M)", True),
        ("Ｒｅｄ\u3000ｔｅａ！", "red tea", True),
        ("黑色 墨盒", "黑色墨盒", True),
        ("Größe 1,5 m", "größe 1.5 m", True),
        ("1.5 m cable", "15 m cable", False),
        ("C++ for beginners", "C for beginners", False),
        ("Red T-Shirt, size M", "Red T-Shirt, size L", False),
        ("N/A", "n/a", False),  # a missing title names no product
        ("***", "---", False),
    ],
)
def test_titles_that_are_the_same(spark, one, other, same):
    first, second = keys(spark, one, other)
    assert (first == second) == same


def test_a_title_that_most_products_share_names_none(spark):
    many = keys(spark, *["Our product"] * 30, "Red tea", "red tea")
    assert len(set(many)) == 31
    few = keys(spark, *["Our product"] * 3, "Red tea")  # variants of one product
    assert len(set(few)) == 2


def test_the_catalogue_knows_products_of_one_title_on_sale_or_not(spark):
    night = NightRules([], 5, DAY)
    same = SellableCatalogue(products(spark, ["Red tea", "Gin", "red tea"], ["GIN", "Rum"]), night).same_titles
    assert same.group.tolist() == [0, 1, 0] or same.group.tolist() == [1, 0, 1]
    assert same.of_others == {"gone 0": same.group[1]}
    assert SellableCatalogue(products(spark, ["Red tea", "Gin"], ["Rum"]), night).same_titles is None


def test_a_known_list_shows_a_title_once_while_enough_products_remain(spark):
    items = with_title_keys(
        spark.createDataFrame([(i, "Tea" if i in "abd" else f"Title {i}", True) for i in "abcdef"], SCHEMA)
    )
    prompts = spark.createDataFrame([("u1", "k1", "h", []), ("u2", "k2", "h", [])], PROMPT_SCHEMA)
    results = spark.createDataFrame([result(spark, "k1", "abcdef"), result(spark, "k2", "abcd")], RESULT_SCHEMA)
    found = recommendations.lists(prompts, results, items, 3, titles_differ=False).orderBy("user_id", "rank").collect()
    assert [(row.user_id, row["rank"], row.item_id) for row in found] == [
        ("u1", 1, "a"),
        ("u1", 2, "c"),
        ("u1", 3, "e"),
        ("u2", 1, "a"),
        ("u2", 2, "b"),  # nothing else is left
        ("u2", 3, "c"),
    ]


def test_a_list_is_right_where_fewer_titles_are_left(spark):
    items = products(spark, ["Red tea", "red tea", "Gin", "Rum"], ["GIN"])
    prompts = spark.createDataFrame([("all", "k", "h", []), ("bought", "k", "h", ["gone 0", "0"])], PROMPT_SCHEMA)
    rows = [("all", 1), ("all", 2), ("all", 3), ("bought", 1)]
    published = spark.createDataFrame(rows, "user_id string, rank int")
    reasons = {row.reason: row.customers for row in short_lists(prompts, published, items, 4).collect()}
    assert reasons == {"catalogue_smaller_than_k": 2}
