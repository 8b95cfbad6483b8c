"""Facts become single tokens and decode to their own text; facts that a prompt lacks are not learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.answers.common_sentences import common_sentences, sentence_key
from lm.answers.fact_slots import PromptPart, Slots, SlotTokenizer, fill_slots, learnable_target
from lm.answers.grounding import ungrounded
from lm.answers.train_answers import slot_tokenizer
from tests.models import LINES

TEXTS = ("Please open Your orders and pay 3.99 for A0000042-003.", "1. Log in.\n2. Press Cancel.", "打开“我的订单”3天")


@pytest.fixture(scope="module")
def tokenizer() -> SlotTokenizer:
    return SlotTokenizer(slot_tokenizer([*LINES, *TEXTS], 500))


def test_facts_are_one_token_each():
    pieces, slots = fill_slots([PromptPart(TEXTS[0], "a")])
    assert pieces == ["Please open", "<|a:1|>", " orders and pay", "<|a:2|>", " for", "<|a:3|>", "."]
    assert slots.texts == {"<|a:1|>": "Your", "<|a:2|>": "3.99", "<|a:3|>": "A0000042-003"}


def test_the_same_fact_in_another_part_is_the_same_slot():
    parts = [
        PromptPart("Order: A0000042-003 | 2026-02-11 | Soft soap\n", "f", ("A0000042-003", "2026-02-11", "Soft soap"))
    ]
    pieces, slots = fill_slots(
        [*parts, PromptPart("where is the Soft soap of A0000042-003 and A9?", "q", ("Soft soap",))]
    )
    assert pieces[-7:] == ["where is the", "<|f:3|>", " of", "<|f:1|>", " and", "<|q:1|>", "?"]
    assert slots.texts["<|q:1|>"] == "A9"


@given(
    st.lists(
        st.sampled_from(["order", " 3.99", "(7)", " Anna", "“我的订单”", "\n2. ", " ", "-", "$5", "的12", " to"]),
        max_size=12,
    )
)
def test_text_with_slots_comes_back(chunks):
    text = "x" + "".join(chunks)
    pieces, slots = fill_slots([PromptPart(text, "a")])
    made = SlotTokenizer(slot_tokenizer(LINES, 500))
    assert made.decode(made.encode_many([pieces])[0], slots) == text


def test_a_typed_slot_is_text(tokenizer):
    pieces, slots = fill_slots([PromptPart("give me <|a:1|> now", "q")])
    assert slots.texts == {"<|q:1|>": "1"}
    ids = tokenizer.encode_many([pieces])[0]
    assert tokenizer.ids["<|a:1|>"] not in ids
    assert tokenizer.decode(ids, slots) == "give me <|a:1|> now"


def test_slots_run_out():
    slots = Slots()
    tokens = [slots.add(str(number), "q") for number in range(10)]
    assert tokens[7] == "<|q:8|>"
    assert tokens[8:] == [None, None]
    assert slots.add("3", "q") == "<|q:4|>"


def test_what_the_prompt_lacks_is_not_learned(tokenizer):
    prompt = "Open Your Orders. It takes 3 days.\n1. Log in.\n2. Wait."
    _, slots = fill_slots([PromptPart(prompt, "a")])
    words = frozenset({"open", "it", "log", "wait", "ask", "we", "call", "live", "chat"})
    answer = "Open Your Orders. We need 9 days. Ask Anna. Ask {{Live Chat}} in 3 days.\n1. Log in.\n3. Wait a while."
    pieces = learnable_target(answer, slots, words)
    text = tokenizer.decode(tokenizer.encode_many([pieces])[0], slots)
    assert text == "Open Your Orders. Ask live chat in 3 days.\n1. Log in."
    assert ungrounded(text, prompt, "", words) == []
    assert learnable_target("We need 9 days.", slots, words) is None


def test_a_name_that_becomes_plain_words_loses_its_quotation_marks():
    _, slots = fill_slots([PromptPart("Open it.", "a")])
    words = frozenset({"please", "open", "live", "chat", "today"})
    pieces = learnable_target("Please open “Live Chat” today.", slots, words)
    assert "".join(pieces) == "Please open live chat today."


def test_what_was_redacted_is_not_learned():
    _, slots = fill_slots([PromptPart("Open it.", "a"), PromptPart("Where is A[NUMBER]?", "q")])
    assert "[NUMBER]" in slots.tokens
    pieces = learnable_target("I have looked at A[NUMBER]. Please open it now.", slots, frozenset({"please", "have"}))
    assert "".join(pieces) == "Please open it now."


def test_lists_without_the_prompts_numbers_have_dashes():
    _, slots = fill_slots([PromptPart("Open it.", "a")])
    pieces = learnable_target("1. Log in here.\n2. Wait a bit.", slots, frozenset({"log", "wait"}))
    assert "".join(pieces) == "- Log in here.\n- Wait a bit."


def test_a_sentence_that_few_customers_received_is_not_learned():
    answers = ["Press the red lever. Your dog may stay outside."] * 4 + ["Press the red lever. It is order A12."] * 2
    common = common_sentences(answers, [f"c{i}" for i in range(6)], ["Wait until it beeps."], 5)
    assert sentence_key("Press the red lever.") in common
    assert sentence_key("Wait until it beeps.") in common  # the shop's own
    assert sentence_key("Your dog may stay outside.") not in common
    assert sentence_key("It is order A12.") == sentence_key("It is order B7.")
    same_customer = common_sentences(["Press the red lever."] * 9, ["c1"] * 9, [], 5)
    assert not same_customer
    words = frozenset(["press", "the", "red", "lever", "your", "dog", "may", "stay", "outside"])
    _, slots = fill_slots([PromptPart("x", "a")])
    assert learnable_target(answers[0], slots, words, common) == ["Press the red lever."]
