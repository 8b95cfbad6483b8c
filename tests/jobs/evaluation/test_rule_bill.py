"""The bill of a rule against figures that a reader can work out by hand."""

from __future__ import annotations

import pytest

from jobs.commands.rules import _named
from jobs.evaluation.rule_bill import rule_bill

WITH = {"u1": ["a", "b"], "u2": ["a", "c"], "u3": ["b", "c"]}
WITHOUT = {"u1": ["d", "b"], "u2": ["c", "a"]}


def test_a_rule_is_charged_with_what_it_changes() -> None:
    bill = rule_bill("own brand", WITH, WITHOUT, {"u1": {"d"}, "u2": {"c"}, "u3": set()}, sellable=8, k=2)
    assert (bill.customers, bill.rows) == (2, 3)  # one row of u1, both of u2
    assert (bill.listed, bill.displaced) == ([("a", 1)], [("d", 1)])
    assert [figure.value for figure in bill.coverage] == [3 / 8, 4 / 8]
    assert bill.buyers == 2
    second = 1 / 1.584962500721156  # 1 / log2(3)
    assert bill.ndcg is not None
    assert [figure.value for figure in bill.ndcg] == pytest.approx([second / 2, 1.0, second / 2 - 1])
    assert bill.worst[0] == ("u1", 1, pytest.approx(1 / (1 + second)))
    assert bill.worst[1] == ("u2", 0, 0.0)


def test_without_later_purchases_there_is_no_ndcg() -> None:
    bill = rule_bill("own brand", WITH, {}, {}, sellable=8, k=2)
    assert bill.ndcg is None
    assert (bill.customers, bill.rows, bill.worst) == (0, 0, [])


def test_products_that_share_a_title_are_named_with_their_ids() -> None:
    titles = {"a": "tea", "b": "tea", "c": "mug"}
    assert _named([("a", 3), ("c", 2), ("b", 1)], titles) == "tea [a] (3), mug (2), tea [b] (1)"
    assert _named([("a", 3), ("gone", 1)], titles) == "tea (3), gone (1)"
