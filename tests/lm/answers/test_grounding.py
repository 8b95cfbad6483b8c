"""Which parts of an answer are facts, and whether the prompt supports them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.answers.grounding import atoms, is_chinese, ordinary_words, ungrounded

WORDS = frozenset({"please", "it", "open", "the", "we", "you", "order", "pay"})
PROMPT = (
    "Article: Cancel an order\n  Open Your orders within 14 days. Standard delivery costs 3.99.\n"
    "Order: A0000042-003 | 2026-02-11 | Argan oil shampoo\nQuestion: please cancel A0000042-003\nAnswer:"
)


def found(text: str) -> list[tuple[str, str]]:
    return [(text[a.start : a.end], a.kind) for a in atoms(text) if not a.opens]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pay 3.99 by 2026-02-11 for A0000042-003.", ["3.99", "2026-02-11", "A0000042-003"]),
        ("It is open 24/7, at 15:30 or 3pm, 20% off.", ["24/7", "15:30", "3pm", "20%"]),
        ("It takes two working days, one at most.", ["two"]),
        ("The link is under Your orders, Track Parcel.", ["Your", "Track Parcel"]),
        ("Write to {{Support Team}} or [EMAIL].", ["{{Support Team}}", "[EMAIL]"]),
        ("I think I'm sure that I do.", []),
        ("打开“我的订单”,3个工作日,两天内到账,支持PayPal", ["我的订单", "3", "两", "PayPal"]),
    ],
)
def test_facts_of_a_text(text, expected):
    assert [piece for piece, _ in found(text)] == expected


def test_a_sentence_begins_with_an_ordinary_word_or_a_name():
    assert ungrounded("Please open it. It is yours.", PROMPT, WORDS) == []
    assert ungrounded("Freeman, please open it.", PROMPT, WORDS) == ["Freeman"]
    assert ungrounded("Please ask Freeman.", PROMPT, WORDS) == ["Freeman"]


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Pay 3.99 within 14 days.", []),
        ("Pay 3.9 within 4 days.", ["3.9", "4"]),  # parts of numbers are other numbers
        ("Your order A0000042-003 of 2026-02-11.", []),
        ("Your order A0000042-00 of 2026-02-12.", ["A0000042-00", "2026-02-12"]),
        ("The Argan oil shampoo.", []),
        ("The Argo oil shampoo.", ["Argo"]),
        ("You have two days.", ["two"]),
        ("1. Open it.", ["1."]),
    ],
)
def test_what_the_prompt_lacks(answer, missing):
    assert ungrounded(answer, PROMPT, WORDS | {"your"}) == missing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Track your order of 青禾洗衣液 薰衣草 in the list under Your orders, where the carrier stands too", False),
        ("我们接受Visa、万事达、PayPal、Apple Pay和本店礼品卡", True),
        ("Open it. Wait.", False),
        ("退货", True),
        ("", False),
    ],
)
def test_whether_a_text_is_chinese(text, expected):
    assert is_chinese(text) == expected


def test_what_stands_for_personal_data_is_never_stated():
    prompt = "Article: Ask with {{Order Number}}\nQuestion: where is A[NUMBER], mail [EMAIL]\nAnswer:"
    assert ungrounded("Ask with {{Order Number}}, not [NUMBER] or [EMAIL].", prompt, {"ask"}) == ["[NUMBER]", "[EMAIL]"]


@given(st.integers(0, 10**9))
def test_any_number_that_the_prompt_lacks_is_told(number):
    expected = [] if str(number) in ("14",) else [str(number)]
    assert ungrounded(f"We say {number} here", PROMPT, WORDS) == expected


def test_ordinary_words_are_no_names():
    texts = ["Absolutely! Ask Jones now.", "Absolutely, we can.", "Absolutely. Jones is here.", "Jones called."]
    words = ordinary_words(texts)
    assert "absolutely" in words
    assert "jones" not in words
    assert "called" in words
