"""Rules of the configuration: each kind takes its own keys, and contradictions end at the start with both names."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from jobs.config.rule_settings import RuleSettings, contradiction


def rule(name: str = "r", kind: str = "deny", **keys: object) -> RuleSettings:
    return RuleSettings.model_validate({"name": name, "kind": kind, **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "cap", "most": 2}, "a cap rule needs of"),
        ({"kind": "boost", "items": "true"}, "a boost rule needs weight"),
        ({"kind": "price"}, "a price rule needs one of at_least"),
        ({"kind": "pin", "items": "true"}, "a pin has either rank or within"),
        ({"kind": "pin", "items": "true", "rank": 1, "within": 3}, "a pin has either rank or within"),
        ({"kind": "deny", "weight": 2.0}, "a deny rule has no weight"),
        ({"kind": "diversity", "strength": 0.5, "items": "true"}, "a diversity rule has no items"),
        ({"kind": "price", "at_least": 5.0, "at_most": 4.0}, "at_least 5.0 is above at_most 4.0"),
        ({"kind": "pin", "items": "true", "within": 2, "products": 3}, "3 products do not fit within the first 2"),
        ({"kind": "deny", "from": date(2026, 3, 2), "to": date(2026, 3, 1)}, "from 2026-03-02 is after to 2026-03-01"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(**keys)


def test_a_rule_holds_from_its_first_to_its_last_day() -> None:
    spring = rule(**{"from": date(2026, 3, 1), "to": date(2026, 3, 31)})
    days = [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 31), date(2026, 4, 1)]
    assert [spring.is_active(day) for day in days] == [False, True, True, False]
    assert rule().is_active(days[0])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([rule("a"), rule("a", "cap", most=1, of="brand")], "two rules are called a"),
        ([rule("a", "deny", items="x"), rule("b", "allow", items="x")], "a and b contradict each other"),
        ([rule("a", "deny", items="x"), rule("b", "pin", items="x", rank=1)], "a and b contradict each other"),
        ([rule("a", "pin", items="x", rank=1), rule("b", "pin", items="y", rank=1)], "both pin rank 1"),
        (
            [rule("a", "share", items="x", products=3), rule("b", "share", items="y", products=3)],
            "together they want 6 of the 5 products",
        ),
        ([rule("a", "price", at_least=9.0), rule("b", "price", at_most=5.0)], "no price passes both"),
        ([rule("a", "pin", items="x", rank=9)], "a: rank is 9, and a list has recommend.k = 5"),
    ],
)
def test_contradictions_are_named(rules: list[RuleSettings], message: str) -> None:
    assert message in str(contradiction(rules, k=5))


def test_rules_for_other_dates_or_customers_do_not_contradict() -> None:
    early = rule("a", "deny", items="x", to=date(2026, 3, 1))
    late = rule("b", "allow", items="x", **{"from": date(2026, 3, 2)})
    assert contradiction([early, late], k=5) is None
    north, south = rule("a", items="x", when="region = 1"), rule("b", "allow", items="x", when="region = 2")
    assert contradiction([north, south], k=5) is None


def test_a_price_may_be_a_share_of_what_the_customer_paid():
    assert rule(kind="price", at_least_times=0.25, at_most_times=0.5).at_most_times == 0.5
