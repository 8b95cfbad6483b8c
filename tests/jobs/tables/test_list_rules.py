"""Rules on one run date: their products, the customers for whom they bind, and what a request's key holds."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from jobs.config.config import Config
from jobs.config.rule_settings import RuleSettings
from jobs.config.settings import RecommendSettings
from jobs.spark.errors import ConfigurationError
from jobs.tables import customer_rules, list_rules
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.list_rules import NightRules
from tests.rows import frame

DAY = date(2026, 3, 1)
CUSTOMERS = [("north", "N", 30), ("south", "S", 15), ("nobody", None, None)]


def night(*rules: dict[str, object], k: int = 5, day: date = DAY) -> NightRules:
    return NightRules([RuleSettings.model_validate(rule) for rule in rules], k, day)


@pytest.fixture(scope="module")
def used(spark):
    items = [
        {"item_id": "ink", "category": "ink", "price": Decimal("9.00"), "title": "Acme ink"},
        {"item_id": "gin", "category": "spirits", "price": Decimal("30.00"), "title": "Bolt gin"},
        {"item_id": "rum", "category": "spirits", "price": None, "title": "Bolt rum"},
    ]
    bought = [
        {"user_id": "north", "item_id": "gin", "unit_price": Decimal("20.00"), "purchased_at": at(day)}
        for day in (date(2026, 2, 26), date(2026, 1, 1))
    ]
    bought += [{"user_id": "south", "item_id": "ink", "unit_price": None, "purchased_at": at(date(2026, 2, 20))}]
    rated = [
        {"user_id": "north", "item_id": "rum", "rating": 1, "review_id": "1", "reviewed_at": at(date(2026, 1, 1))},
        {"user_id": "north", "item_id": "gin", "rating": 1, "review_id": "2", "reviewed_at": at(date(2026, 1, 1))},
        {"user_id": "north", "item_id": "gin", "rating": 5, "review_id": "3", "reviewed_at": at(date(2026, 1, 2))},
    ]
    return {
        "items": frame(spark, "items", items),
        "purchases": frame(spark, "purchases", bought),
        "reviews": frame(spark, "reviews", rated),
        "customers": spark.createDataFrame(CUSTOMERS, "user_id string, region string, age int"),
    }


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def told(used, rules: NightRules, users: str = "north south nobody unknown") -> dict[str, object]:
    """The rules that bind for each customer, and their hash."""
    spark = used["items"].sparkSession
    products = list_rules.with_products(used["items"], rules)
    rendered = spark.createDataFrame([(user,) for user in users.split()], "user_id string")
    repeated = customer_rules.repeated_purchases(used, rules, products)
    rows = customer_rules.with_rules(rendered, used, rules, products, repeated).collect()
    return {row.user_id: (row.rules and json.loads(row.rules), row.rules_hash, row.bound) for row in rows}


def test_a_rule_binds_where_its_condition_is_true(used):
    rules = night(
        {"name": "no spirits for the young", "kind": "deny", "items": "category = 'spirits'", "when": "age < 18"},
        {"name": "north", "kind": "boost", "weight": 1.0, "items": "true", "when": "region = 'N'"},
        {"name": "brands", "kind": "cap", "most": 1, "of": "split(title, ' ')[0]"},
    )
    found = told(used, rules)
    assert {user: binding["rules"] for user, (binding, _, _) in found.items()} == {
        "north": [1, 2],
        "south": [0, 2],
        "nobody": [2],
        "unknown": [2],
    }
    assert found["south"][2] == ["no spirits for the young", "brands"]
    (products,) = [
        r.asDict() for r in list_rules.with_products(used["items"], rules).where("item_id = 'gin'").collect()
    ]
    assert products["members"] == [True, True, True]
    assert products["never"] == [True, False, False]
    assert products["values"] == [None, None, "Bolt"]


def test_where_no_rule_binds_nothing_is_told(used):
    rules = night({"name": "young", "kind": "deny", "items": "true", "when": "age < 18"})
    found = told(used, rules)
    assert found["north"] == found["unknown"] == (None, None, [])
    assert found["south"][0] == {"rules": [0]}


def test_the_hash_changes_with_what_a_rule_does_and_not_with_its_customers(used):
    boost = {"name": "own", "kind": "boost", "weight": 1.0, "items": "category = 'ink'"}
    before = told(used, night(boost, {"name": "young", "kind": "deny", "when": "age < 18"}), "north south")
    heavier = told(used, night(boost | {"weight": 2.0}, {"name": "young", "kind": "deny", "when": "age < 18"}))
    assert heavier["north"][1] != before["north"][1]
    longer = told(used, night(boost | {"to": DAY}, {"name": "young", "kind": "deny", "when": "age < 16"}))
    assert longer["north"][1] == before["north"][1]
    without = told(used, night(boost))
    assert without["north"][1] == before["north"][1]
    assert without["south"][1] != before["south"][1]


def test_rules_get_what_they_need_of_the_customer(used):
    rules = night(
        {"name": "disliked", "kind": "disliked", "weight": 2.0},
        {"name": "affordable", "kind": "price", "at_most_times": 1.5},
        {
            "name": "spirits",
            "kind": "repeat",
            "after_days": 30,
            "items": "category = 'spirits'",
            "whole_category": True,
        },
    )
    found = told(used, rules)
    assert found["north"][0] == {
        "rules": [0, 1, 2],
        "disliked": {"0": ["rum"]},  # the newest rating of gin is 5
        "recent": {"2": ["spirits"]},
        "paid": {"spirits": 20.0},
    }
    assert found["south"] == found["unknown"] == (None, None, [])  # no rating, no price, no spirits


def test_bought_products_return_after_their_days(used, spark):
    rules = night(
        {"name": "ink", "kind": "repeat", "after_days": 9, "items": "item_id = 'ink'"},
        {"name": "spirits", "kind": "repeat", "after_days": 30, "items": "category = 'spirits'"},
    )
    products = list_rules.with_products(used["items"], rules)
    repeated = customer_rules.repeated_purchases(used, rules, products)
    events = spark.createDataFrame(
        [("north", ["gin", "old"]), ("south", ["ink"])], "user_id string, purchased array<string>"
    )
    for exclude, expected in ((True, {"north": ["gin", "old"], "south": []}), (False, {"north": ["gin"], "south": []})):
        settings = RecommendSettings(exclude_purchased=exclude, disliked_stars=0)
        rows = customer_rules.with_exclusions(events, used, repeated, settings).collect()
        assert {row.user_id: row.purchased for row in rows} == expected
    assert told(used, rules)["north"][0] is None  # the engine need not know of it


@pytest.mark.parametrize(("stars", "bought"), [(0, True), (2, True), (2, False)])
def test_badly_rated_products_are_never_listed(used, spark, stars, bought):
    """The newest rating counts: north gave the rum one star, and the gin one star first and five later."""
    events = spark.createDataFrame([("north", ["ink"]), ("south", [])], "user_id string, purchased array<string>")
    settings = RecommendSettings(exclude_purchased=bought, disliked_stars=stars)
    rows = customer_rules.with_exclusions(events, used, None, settings).collect()
    expected = (["ink"] if bought else []) + (["rum"] if stars else [])
    assert {row.user_id: row.purchased for row in rows} == {"north": expected, "south": []}


def test_only_the_newest_rating_counts_where_a_rule_says_so(used):
    """North rated the rum badly on the first of January, and the gin well a day later."""
    disliked = {"kind": "disliked", "weight": 1.0}
    rules = night(disliked | {"name": "any"}, disliked | {"name": "last", "of": "brand", "newest_only": True})
    assert told(used, rules)["north"][0]["disliked"] == {"0": ["rum"]}
    before = used | {"reviews": used["reviews"].where("review_id = '1'")}
    assert told(before, rules)["north"][0]["disliked"] == {"0": ["rum"], "1": ["rum"]}


def test_a_bad_review_makes_rules_where_reviews_are_read():
    inputs = {"purchases": {"path": "p"}, "items": {"path": "i"}, "reviews": {"path": "r"}}
    wanted = {"store": "s", "timezone": "UTC", "inputs": inputs, "recommend": {"after_bad_review": 0.5}}
    rules = NightRules.of(Config.model_validate(wanted), DAY).rules
    assert [(rule.name, rule.of, rule.weight) for rule in rules] == [
        ("after_bad_review brand", "brand", 0.5),
        ("after_bad_review category", "category", 0.5),
    ]
    assert [rule.by_value for rule in NightRules(rules, 5, DAY).for_engine()] == [True, True]
    for section in ({"after_bad_review": 0}, {"after_bad_review": 0.5, "disliked_stars": 0}):
        assert not NightRules.of(Config.model_validate(wanted | {"recommend": section}), DAY).rules
    without = wanted | {"inputs": {name: of for name, of in inputs.items() if name != "reviews"}}
    assert not NightRules.of(Config.model_validate(without), DAY).rules


def test_a_share_of_customers_is_drawn_by_a_hash(used):
    pin = {"name": "campaign", "kind": "pin", "rank": 1, "items": "true", "share_of_customers": 0.3}
    users = " ".join(f"u{n}" for n in range(500))
    drawn = {user for user, (binding, _, _) in told(used, night(pin), users).items() if binding}
    assert 0.24 * 500 < len(drawn) < 0.36 * 500
    more = told(used, night(pin | {"share_of_customers": 0.5}), users)
    assert drawn < {user for user, (binding, _, _) in more.items() if binding}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"items": "brnd = 'Acme'"}, "rules: r: items: .*brnd.*The columns are item_id, title, category"),
        ({"when": "regio = 'N'"}, "rules: r: when: .*regio.*The columns are user_id, region, age"),
        ({"items": "reflect('java.lang.System', 'getenv') = 'x'"}, "rules: r: items: .*call Java"),
        ({"items": "category ="}, "rules: r: items: .*Correct the condition"),
    ],
)
def test_sql_that_fits_no_column_is_an_error_with_the_rule(used, rule, message):
    rules = night({"name": "r", "kind": "deny"} | rule)
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        told(used, rules)


RUM = "item_id = 'rum'"


def refuse(used, rules: NightRules) -> None:
    products = list_rules.with_products(used["items"], rules) if rules.rules else used["items"]
    catalogue = SellableCatalogue(products, rules)
    sets = customer_rules.sets_of_rules(used, rules)
    list_rules.refuse_empty_lists(catalogue.members, catalogue.never, sets, rules)


def test_rules_that_leave_nothing_end_with_their_names(used):
    rules = night(
        {"name": "spirits only", "kind": "allow", "items": "category = 'spirits'", "when": "region = 'S'"},
        {"name": "no alcohol", "kind": "deny", "items": "category = 'spirits'", "when": "age < 18"},
    )
    with pytest.raises(ConfigurationError, match="spirits only and no alcohol together leave no product"):
        refuse(used, rules)
    other = night({"name": "toys", "kind": "allow", "items": "category = 'toys'"})
    with pytest.raises(ConfigurationError, match="toys: no product on sale matches its `items`"):
        refuse(used, other)
    cheap = night({"name": "cheap", "kind": "price", "at_most": 5.0}, {"name": "no rum", "kind": "deny", "items": RUM})
    with pytest.raises(ConfigurationError, match="cheap and no rum together leave no product"):
        refuse(used, cheap)
    refuse(used, night())


def test_the_version_of_the_catalogue_is_of_what_hard_rules_know(used, spark):
    plain = SellableCatalogue(used["items"], night()).version
    soft = night({"name": "own", "kind": "boost", "weight": 1.0, "items": "category = 'ink'"})
    assert SellableCatalogue(list_rules.with_products(used["items"], soft), soft).version == plain
    hard = night({"name": "own", "kind": "deny", "items": "category = 'ink'"})
    ruled = SellableCatalogue(list_rules.with_products(used["items"], hard), hard)
    moved = used["items"].replace({"spirits": "ink"}, subset=["category"])
    changed = SellableCatalogue(list_rules.with_products(moved, hard), hard)
    assert len({plain, ruled.version, changed.version}) == 3
    assert {item for item, facts in ruled.facts.items() if facts != changed.facts[item]} == {"gin", "rum"}
