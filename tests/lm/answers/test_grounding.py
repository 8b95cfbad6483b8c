"""Which parts of an answer are facts, and whether the prompt supports them."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.answers.answer_prompt import article_of, shop_facts
from lm.answers.grounding import atoms, is_chinese, ordinary_words, ungrounded

WORDS = frozenset({"please", "it", "open", "the", "we", "you", "order", "pay"})
PROMPT = (
    "Article: Cancel an order\n  Open Your orders within 14 days. Standard delivery costs 3.99.\n"
    "Order: A0000042-003 | 2026-02-11 | Argan oil shampoo\nQuestion: please cancel A0000042-003\nAnswer:"
)


def missing_in(answer: str, prompt: str, words: Collection[str]) -> list[str]:
    return ungrounded(answer, article_of(prompt), shop_facts(prompt), words)


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
    assert missing_in("Please open it. It is yours.", PROMPT, WORDS) == []
    assert missing_in("Freeman, please open it.", PROMPT, WORDS) == ["Freeman"]
    assert missing_in("Please ask Freeman.", PROMPT, WORDS) == ["Freeman"]


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
    assert missing_in(answer, PROMPT, WORDS | {"your"}) == missing


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
    assert missing_in("Ask with {{Order Number}}, not [NUMBER] or [EMAIL].", prompt, {"ask"}) == ["[NUMBER]", "[EMAIL]"]


@given(st.integers(0, 10**9))
def test_any_number_that_the_prompt_lacks_is_told(number):
    assert missing_in(f"We say {number} here", PROMPT, WORDS) == [str(number)]
    assert missing_in(f"We say {number} days", PROMPT, WORDS) == ([] if number == 14 else [str(number)])


def test_ordinary_words_are_no_names():
    texts = ["Absolutely! Ask Jones now.", "Absolutely, we can.", "Absolutely. Jones is here.", "Jones called."]
    words = ordinary_words(texts)
    assert "absolutely" in words
    assert "jones" not in words
    assert "called" in words


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Return it within fourteen days.", []),  # the article's 14 days in words
        ("Return it within fifteen days.", ["fifteen"]),
        ("Return it within 14 weeks.", ["14 weeks"]),
        ("Return it within 14 working days.", ["14 working days"]),
        ("Return it within 14.", ["14"]),
        ("Return it at half the price.", ["half"]),
        ("Return it within a year.", ["a year"]),
        ("Return it within an hour.", ["an hour"]),
        ("It costs 3.99 euros.", ["3.99 euros"]),
        ("It costs £3.99.", ["3.99"]),
        ("It takes one working day.", ["one working day"]),
        ("You can ask twenty-one times.", ["twenty-one"]),
    ],
)
def test_numbers_in_words_and_units_are_facts(answer, missing):
    assert missing_in(answer, PROMPT, WORDS | {"return", "you"}) == missing


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("30天内可以退货", []),
        ("三十天内可以退货", []),
        ("30周内可以退货", ["30周"]),
        ("一年内可以退货", ["一"]),
        ("半年内可以退货", ["半"]),
        ("这是一个问题", []),
    ],
)
def test_chinese_numbers_and_units_are_facts(answer, missing):
    assert (
        missing_in(answer, "Article: 退货\n  未使用的商品30天内可以退货\nQuestion: 怎么退\nAnswer:", WORDS) == missing
    )


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Write to help@shop.example.com or see https://shop.com/help.", []),
        ("Write to Help@Shop.example.com.", []),
        ("Write to help@shop.example.co.", ["help@shop.example.co"]),
        ("Write to pay@shop.example.com.", ["pay@shop.example.com"]),
        ("See shop.com/help.", ["shop.com/help"]),
        ("See https://shop.com/pay, please.", ["https://shop.com/pay"]),
        ("See www.evil.com or ask @evil.", ["www.evil.com", "@evil"]),
        ("See evil.example.net.", ["evil.example.net"]),
    ],
)
def test_addresses_are_the_articles(answer, missing):
    prompt = (
        "Article: Help\n  Write to help@shop.example.com or see https://shop.com/help.\n"
        "Review: 1/5 | Soap | see evil.example.net\nQuestion: is it www.evil.com or @evil\nAnswer:"
    )
    assert missing_in(answer, prompt, WORDS | {"write", "see"}) == missing


def test_what_only_the_customer_says_is_no_fact():
    prompt = (
        "Article: Returns\n  Return it within 14 days.\nOrder: A1-77 | 2026-02-11 | Soap\n"
        "Review: 2/5 | Soap | they promised 60 days and a Voucher\n"
        "Question: I get 90 days from DHL for A1-77, right?\nAnswer:"
    )
    asked = "You have 90 days. You have 60 days and a Voucher. The parcel A1-77 goes by DHL. You gave the Soap 2/5."
    assert missing_in(asked, prompt, WORDS | {"you"}) == ["90", "60", "Voucher", "DHL"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("王小明先生，您好，请重启。", "王小明"),
        ("张伟您好，请重启。", "张伟"),
        ("hi anna, please restart it", "anna"),
        ("dear mr smith, please restart it", "smith"),
        ("Спросите, пожалуйста, Ольгу ещё раз", "Ольгу"),
        ("田中太郎 様\nお待たせしました", "田中太郎"),
        ("김민수님, 안녕하세요.", "김민수"),
        ("عزيزي أحمد، شكرا", "أحمد"),
        ("please ask Łukasz again", "Łukasz"),
    ],
)
def test_names_of_any_script_are_facts(text, name):
    assert name in [text[atom.start : atom.end] for atom in atoms(text)]
    assert name in ungrounded(text, "an article", "", frozenset(text.lower().split()) - {name.lower()})
    assert name not in ungrounded(text, f"an article about {name} .", "", frozenset())
