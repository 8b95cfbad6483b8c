"""The examples of the page on rules, each run for customers of a small shop with a tiny model."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from jobs.config.rule_settings import RuleSettings, contradiction
from jobs.config.settings import RecommendSettings
from jobs.tables import customer_rules, list_rules
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.list_rules import NightRules
from jobs.tables.recommendations import _rules_and_facts
from lm.recommend.catalogue import Catalogue
from lm.recommend.list_rules import RuleTable
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.models import save_causal
from tests.rows import frame

PAGE = Path(__file__).parents[3] / "jobs" / "tables" / "README.md"
DAY = date(2026, 3, 15)
K = 10
CATEGORIES = ["spirits", "garden", "shoes", "razors", "coats", "toys"]
ITEMS = [
    {
        "item_id": f"i{n:02d}",
        "title": f"{'Regula' if n % 4 == 0 else 'Acme'} {CATEGORIES[n % 6]} {n}",
        "category": CATEGORIES[n % 6],
        "price": Decimal(n % 9 + 1),
    }
    for n in range(48)
]
BY_ID = {item["item_id"]: item for item in ITEMS}
CUSTOMERS = [(f"u{n}", "north" if n % 2 else "south", 16 if n % 3 else 40) for n in range(30)]
PROMPT, DISLIKED = "Customer history\n", "i24"


def examples() -> list[RuleSettings]:
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("\n## Rules\n") :]
    (block,) = re.findall(r"```yaml\n(rules:.*?)```", section, re.DOTALL)[:1]
    return [RuleSettings.model_validate(rule) for rule in yaml.safe_load(block)["rules"]]


@pytest.fixture(scope="module")
def used(spark):
    def bought(user: str, item: str, days: int, price: int) -> dict[str, object]:
        at = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC) - timedelta(days=days)
        return {"user_id": user, "item_id": item, "purchased_at": at, "unit_price": Decimal(price)}

    shoes = [bought(user, "i02", 90, 2) for user, _, _ in CUSTOMERS]
    razors = [bought(user, "i03", 40 if n % 2 else 5, 4) for n, (user, _, _) in enumerate(CUSTOMERS)]
    rated = [
        {"user_id": user, "item_id": DISLIKED, "rating": 1, "review_id": user, "reviewed_at": datetime(2026, 1, 1)}
        for user, _, _ in CUSTOMERS[::4]
    ]
    return {
        "items": frame(spark, "items", ITEMS),
        "purchases": frame(spark, "purchases", shoes + razors),
        "reviews": frame(spark, "reviews", rated),
        "customers": spark.createDataFrame(CUSTOMERS, "user_id string, region string, age int"),
    }


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("model") / "m", item_ids=sorted(BY_ID), spread=0.15, seed=7)


@pytest.fixture
def lists_under(spark, used, model_folder, tmp_path):
    """Makes the list of each customer under some rules; gives user_id -> [(item_id, names of rules)]."""

    def lists(*rules: RuleSettings) -> dict[str, list[tuple[str, str | None]]]:
        night = NightRules(rules, K, DAY)
        products = list_rules.with_products(used["items"], night)
        folder = SellableCatalogue(products, night).write(tmp_path / "catalogue", PromptEncoder.load(model_folder))
        catalogue = Catalogue.load(folder)
        table = RuleTable.load(folder, catalogue)
        model = Recommender.load(model_folder, catalogue, rules=table, dtype="float32", threads=1)
        repeated = customer_rules.repeated_purchases(used, night, products)
        bought = [(user, PROMPT, ["i02", "i03"]) for user, _, _ in CUSTOMERS]
        rendered = spark.createDataFrame(bought, "user_id string, prompt string, purchased array<string>")
        if repeated is not None:
            rendered = customer_rules.with_exclusions(rendered, {}, repeated, RecommendSettings())
        rows = customer_rules.with_rules(rendered, used, night, products, repeated).collect()
        texts = [row.rules for row in rows]
        found = model.recommend([PROMPT] * len(rows), [row.purchased for row in rows], K, texts)
        for row, one in zip(rows, found, strict=True):
            assert len(one) == K or len(rules) > 1
            assert not set(row.purchased) & {product.item_id for product in one}
        return {
            row.user_id: [
                (product.item_id, names)
                for product, (names, _) in zip(one, _rules_and_facts(model, one, row.rules), strict=True)
            ]
            for row, one in zip(rows, found, strict=True)
        }

    return lists


def of_category(listed, category: str) -> list[int]:
    """The ranks of the products of a category."""
    return [rank for rank, (item, _) in enumerate(listed, start=1) if BY_ID[item]["category"] == category]


def test_each_example_does_what_the_page_says(lists_under):
    rules = {rule.kind: rule for rule in examples()}
    assert set(rules) == set(RuleSettings.model_fields["kind"].annotation.__args__)
    assert contradiction(list(rules.values()), K) is None
    plain = lists_under()
    ages, regions = ({user: row[n] for user, *row in CUSTOMERS} for n in (1, 0))

    young = lists_under(rules["deny"])
    assert {user for user in plain if of_category(plain[user], "spirits")} == set(plain)
    assert all(bool(of_category(young[user], "spirits")) == (ages[user] >= 18) for user in plain)
    north = lists_under(rules["allow"])
    assert {user for user in plain if of_category(north[user], "garden")} == {u for u in plain if regions[u] == "south"}
    capped = lists_under(rules["cap"])
    most = max(max(Counter(BY_ID[item]["category"] for item, _ in listed).values()) for listed in plain.values())
    assert most > 2
    assert all(len(of_category(one, name)) <= 2 for one in capped.values() for name in CATEGORIES)
    before = [item for item, _ in plain["u0"]]
    cheap = lists_under(rules["price"].model_copy(update={"at_most_times": 1.0}))  # everybody paid 2 for shoes
    assert any(BY_ID[item]["price"] > 2 for item in before if BY_ID[item]["category"] == "shoes")
    listed = [item for one in cheap.values() for item, _ in one]
    assert all(BY_ID[item]["price"] <= 2 for item in listed if BY_ID[item]["category"] == "shoes")
    ours = lists_under(rules["boost"].model_copy(update={"weight": 2.0}))
    assert sum(BY_ID[item]["title"].startswith("Regula") for item, _ in ours["u0"]) > sum(
        BY_ID[item]["title"].startswith("Regula") for item in before
    )
    assert all((name == "own brand") == BY_ID[item]["title"].startswith("Regula") for item, name in ours["u0"])
    coats = lists_under(rules["bury"])
    assert len(of_category(coats["u0"], "coats")) < len(of_category(plain["u0"], "coats"))
    pinned = lists_under(rules["pin"])
    assert 5 < sum(pinned[user] != plain[user] for user in plain) < 25
    assert all(3 in of_category(listed, "garden") for user, listed in pinned.items() if listed != plain[user])
    shared = lists_under(rules["share"].model_copy(update={"products": 8}))
    assert sum(BY_ID[item]["price"] < 5 for item in before) < 8
    assert all(sum(BY_ID[item]["price"] < 5 for item, _ in listed) >= 8 for listed in shared.values())
    varied = lists_under(rules["diversity"].model_copy(update={"strength": 0.9}))
    assert varied["u0"][0][0] == before[0]
    assert [item for item, _ in varied["u0"]] != before
    liked = lists_under(rules["disliked"])
    assert DISLIKED in before
    assert all(DISLIKED not in [item for item, _ in liked[user]] for user, _, _ in CUSTOMERS[::4])
    assert liked["u1"] == plain["u1"]


def test_razors_return_after_their_days(lists_under, used):
    rule = next(rule for rule in examples() if rule.kind == "repeat")
    night = NightRules([rule], K, DAY)
    products = list_rules.with_products(used["items"], night)
    rows = customer_rules.repeated_purchases(used, night, products).collect()
    assert {row.user_id for row in rows if row.again == ["i03"]} == {user for user, _, _ in CUSTOMERS[1::2]}
    assert lists_under(rule)  # with the assertion that no list has an excluded product


def test_all_examples_hold_together(lists_under):
    rules = examples()
    listed = lists_under(*rules)
    for user, region, age in CUSTOMERS:
        categories = [BY_ID[item]["category"] for item, _ in listed[user]]
        assert not (age < 18 and "spirits" in categories)
        assert not (region == "north" and "garden" in categories)
        assert max(Counter(categories).values()) <= 2
        assert sum(BY_ID[item]["price"] < 5 for item, _ in listed[user]) >= 2
