"""What `regulars explain` prints about the rules that a list names."""

from __future__ import annotations

import io
from datetime import date
from typing import get_args

from rich.console import Console

from jobs.commands.explain import ExplainedList, _effects, _no_rank, _print
from jobs.config.rule_settings import _KEYS, Kind, RuleSettings
from jobs.tables.list_rules import NightRules

DAY = date(2026, 3, 1)


def test_each_rule_that_a_product_names_says_once_what_it_does() -> None:
    rules = [
        RuleSettings.model_validate({"name": "own [brand]", "kind": "boost", "weight": 0.5}),
        RuleSettings.model_validate({"name": "unused", "kind": "bury", "weight": 1}),
    ]
    names = [[], ["own [brand]", "same_title"], ["same_title"]]
    products = [{"title": "Tea", "score": -1.0, "parts": {"gpt2": -1.0}, "rules": one} for one in names]
    effects = _effects(products, NightRules(rules, 10, DAY))
    log = io.StringIO()
    _print(Console(file=log, width=160), ExplainedList(products, [], None, True, None, effects), DAY, 1)
    said = [line for line in log.getvalue().splitlines() if line.startswith("rule ")]
    assert said == [
        "rule own [brand]: adds 0.5 to the score of its products.",
        "rule same_title: leaves out products whose title the list or the customer has already; the next ones move up "
        "(recommend.same_title).",
    ]


def test_a_smaller_rank_is_asked_for_where_there_is_one() -> None:
    assert _no_rank(3) == "the customer's list has no rank 3: give a smaller --rank"
    assert "--rank" not in _no_rank(1)


def test_every_kind_of_rule_has_an_effect() -> None:
    values = {"weight": 1, "most": 2, "of": "brand", "products": 1, "within": 3, "strength": 0.5, "at_least": 1}
    for kind in get_args(Kind):
        needed, possible = _KEYS[kind]
        given = {key: values[key] for key in (*needed, *possible) if key in values}
        rule = RuleSettings.model_validate(
            {"name": "r", "kind": kind} | ({"items": "x"} if "items" in needed else {}) | given
        )
        assert "None" not in rule.effect, rule
