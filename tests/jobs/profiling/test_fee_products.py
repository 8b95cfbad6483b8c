"""Products that look like fees, such as postage."""

from __future__ import annotations

import yaml

from jobs.config.rule_settings import RuleSettings
from jobs.profiling.fee_products import find_fees

CARDS = {f"{number}": f"card {number}" for number in range(100)}


def test_titles_of_fees_are_found_in_any_case_and_language() -> None:
    titles = {"1": "POSTAGE", "2": " Manual ", "3": "运费", "4": "DOTCOM POSTAGE", "5": "Versandkosten"}
    (fees,) = find_fees(CARDS | titles)
    assert fees.products == 5
    assert fees.rule.count("'") == 2 * 4 + 2


def test_products_with_a_word_of_a_fee_are_none() -> None:
    titles = {
        "1": "RED RETROSPOT GIFT WRAP",
        "2": "postage stamp album",
        "3": "delivery van, toy",
        "4": "manual juicer",
    }
    assert find_fees(CARDS | titles) == []


def test_the_rule_is_one_that_the_configuration_takes() -> None:
    (fees,) = find_fees({"1": "Postage", "2": "Bank Charges", "3": "CRUK Commission"})
    rule = RuleSettings.model_validate(yaml.safe_load(fees.rule))
    assert rule.kind == "deny"
    assert rule.items == (
        "lower(trim(title)) IN ('bank charges', 'postage') OR lower(trim(title)) RLIKE '^[^ ]+ +(commission)$'"
    )


def test_ids_without_a_digit_are_named_apart_where_nearly_all_have_one() -> None:
    by_title, by_id = find_fees(CARDS | {"POST": "Postage", "PADS": "Pads to match all cushions"})
    assert (by_title.products, by_id.products) == (1, 1)
    assert "item_id NOT RLIKE '[0-9]'" in by_id.rule


def test_ids_without_a_digit_are_no_fees_where_many_have_none() -> None:
    assert find_fees(CARDS | {f"card {'x' * n}": "a card" for n in range(1, 9)}) == []


def test_a_small_catalogue_is_not_judged_by_its_ids() -> None:
    assert find_fees({"1": "card", "2": "pen", "PADS": "Pads"}) == []
