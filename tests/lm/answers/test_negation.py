"""Clauses of an answer that negate a clause of its article, or drop its negation."""

from __future__ import annotations

import pytest

from lm.answers.negation import _stem, contradictions

ARTICLE = (
    "You can return unused items within 30 days. Opened cosmetics cannot be returned. There is no fee above 20."
    " If an order is packed, you cannot cancel it. You cannot cancel, change or return gift cards. "
    "Refunds are sent to your card at no extra cost. Please do not send items without a receipt."
)
CHINESE = "未使用的商品30天内可以退货，请点击“退货”。已拆封的商品不能退货。定制商品不支持退换。"


@pytest.mark.parametrize(
    "answer",
    [
        "You can not return unused items within 30 days.",
        "Within 30 days unused items can't be returned.",
        "You can never return unused items within 30 days.",
        "Opened cosmetics can be returned.",
        "There is a fee above 20.",
        "You can return gift cards.",
        "Used items can be returned within 30 days.",
        "Refunds are not sent to your card.",
        "Please send items without a receipt.",
        "未使用的商品30天内不可以退货",
        "已拆封的商品可以退货",
        "定制商品支持退换",
        "请不要点击“退货”",
    ],
)
def test_an_inserted_or_dropped_negation_is_found(answer):
    assert contradictions(f"Thank you. {answer}", f"{ARTICLE}\n{CHINESE}")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        ARTICLE,
        CHINESE,
        "You can return items within 30 days.",
        "You cannot return opened cosmetics.",
        "There is no fee.",
        "You cannot return gift cards.",
        "Refunds are sent to your card.",
        "Do not hesitate to return unused items within 30 days.",
        "I am sorry that it did not arrive. No problem!",
        "已拆封的商品不能退货，没关系。",
    ],
)
def test_what_the_article_says_is_no_contradiction(answer):
    assert contradictions(answer, f"{ARTICLE}\n{CHINESE}") == []


def test_the_clause_is_named():
    answer = "We help you; you can not return unused items within 30 days, but thank you for asking."
    assert contradictions(answer, ARTICLE) == ["you can not return unused items within 30 days"]


def test_the_forms_of_a_word_have_one_stem_and_other_words_have_others():
    forms = [["ship", "ships", "shipped", "shipping"], ["return", "returns", "returned"], ["use", "used", "using"]]
    stems = [{_stem(word) for word in of} for of in forms]
    assert [len(of) for of in stems] == [1, 1, 1]
    assert len({_stem(word) for word in ("order", "ordeal", "orde", "cost", "cosy", "stay", "stap")}) == 7
