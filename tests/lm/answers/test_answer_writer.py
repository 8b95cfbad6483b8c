"""Answers of a tiny model state only facts of the prompt and do not depend on the batch."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.answers.answer_check import unsupported
from lm.answers.answer_overlap import agreements, bigrams, overlap_words, repeats_itself, without_repeats
from lm.answers.answer_prompt import Article, CustomerFacts, Order, encode
from lm.answers.answer_writer import (
    KEEPS,
    REPEAT,
    AnswerWriter,
    GroundedConstraint,
    _after,
    _after_slot,
    repeated_run_ends,
)
from lm.answers.asker import LOW_CONFIDENCE, NO_WORDS, Asker, save_articles
from lm.answers.fact_slots import Slots
from lm.answers.grounding import atoms, ungrounded
from lm.answers.train_answers import AnswersTrainSettings, PastQuestion, train_answers
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest
from lm.engine.sampling import Sample
from lm.redaction.redact import PLACEHOLDERS
from lm.train.training_state import TrainingError

ARTICLES = [
    Article("track", "Track an order", "Open Your Orders. The parcel arrives within 14 days and costs 3.99."),
    Article("invoice", "Invoices", "Ask Billing for the invoice. It is sent in 2 days."),
    Article("退货", "退货", "未使用的商品30天内可以退货,请点击“退货”。"),
]
ASKED = {
    "track": ("where is {}", "{} is late", "track {}", "has {} left"),
    "invoice": ("invoice of {}", "bill for {}", "receipt of {} please", "vat invoice {}"),
    "退货": ("怎么退{}", "我要退{}", "{}可以退吗", "{}不要了"),
}
THINGS = ("my order", "the lamp", "it", "the soap", "A0000001-001", "the pen", "my parcel", "the printer")
HOW = {"candidates": 4, "max_new_tokens": 40, "temperature": 1.0, "top_p": 1.0}


def customer(thing: str) -> CustomerFacts:
    return CustomerFacts((Order(thing, "2026-02-11", ("Soft soap",)),)) if thing.startswith("A0") else CustomerFacts()


def past() -> list[PastQuestion]:
    bodies = {article.article_id: article.body for article in ARTICLES}
    rows = []
    for article, ways in ASKED.items():
        for n, way in enumerate(ways):
            for thing in THINGS:
                text = way.format(thing)
                answer = f"Hello. About {thing}: {bodies[article]} In 99 days Anna calls."
                rows.append(PastQuestion(text, customer(thing), answer, article if n else None))
    return rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of two epochs: it writes badly, and states whatever the constraint allows."""
    out = tmp_path_factory.mktemp("model") / "answers"
    settings = AnswersTrainSettings(
        n_embd=32,
        n_head=2,
        vocab_size=600,
        max_epochs=2,
        min_steps=0,
        learning_rate=3e-3,
        prompt_tokens=160,
        max_answer_tokens=48,
    )
    train_answers(past(), ARTICLES, settings, out)
    return out


@pytest.fixture(scope="module")
def writer(model) -> AnswerWriter:
    return AnswerWriter.load(model, dtype="float32", threads=1)


@pytest.fixture(scope="module")
def asked(model, tmp_path_factory):
    file = tmp_path_factory.mktemp("articles") / "articles.json"
    save_articles(ARTICLES, file)
    asker = Asker.load(model, file)
    texts = [way.format(thing) for ways in ASKED.values() for way in ways for thing in THINGS[3:6]]
    return asker.ask(texts, [customer("A0000001-001")] * len(texts), budget=160, links=2, min_confidence=0.0)


def test_articles_are_found_and_named(asked):
    assert (
        np.mean([one.article_ids[0] == wanted for one, wanted in zip(asked, np.repeat(list(ASKED), 12), strict=True)])
        > 0.8
    )
    assert all(len(one.article_ids) == 2 and one.prompt and one.refused_because is None for one in asked)


def test_nothing_is_stated_that_the_prompt_lacks(writer, asked):
    prompts = [one.prompt for one in asked]
    encoded, sampled = writer.sample(prompts, **HOW)
    texts = [
        (p, writer.text(s, slots)) for p, (_, slots), many in zip(prompts, encoded, sampled, strict=True) for s in many
    ]
    # Decoding copies whole numbers only; the words after them, such as a unit, are free and checked later.
    # Digits of other scripts are spelled in bytes, which no token forbids; the check refuses them.
    stated = [(number, p) for p, t in texts for number in re.findall(r"[0-9][0-9.,:-]*[0-9]|[0-9]", t)]
    assert ungrounded("It costs \u06f1.", "It costs 3.99.", "", frozenset({"it", "costs"})) == ["\u06f1"]
    assert not [number for number, p in stated if number not in p]
    # It does state facts, and without the constraint it states those of others.
    assert sum(a.kind == "number" for _, t in texts for a in atoms(t)) > 3
    encoded, free = writer.sample(prompts, **HOW, constrained=False)
    slots_of_others = [
        t for (_, slots), many in zip(encoded, free, strict=True) for s in many
        for t in s.tokens if (name := writer.tokenizer.names.get(t)) and name not in slots.texts
    ]  # fmt: skip
    assert slots_of_others
    for one, written in zip(asked, writer.write(prompts, **HOW), strict=True):
        assert written.text is None or not unsupported(written.text, one.prompt, writer.words)


def test_an_answer_does_not_depend_on_its_neighbours(writer, asked):
    prompts = [one.prompt for one in asked]
    together = writer.write(prompts, **HOW)
    assert writer.write(prompts[::-1], **HOW)[::-1] == together
    assert [writer.write([prompt], **HOW)[0] for prompt in prompts[:3]] == together[:3]
    assert writer.write(prompts, **HOW, seed=1) != together


def test_nothing_is_said_twice(writer, asked):
    assert repeated_run_ends([1, 2, 3, 4, 5, 6, 7, 9, 1, 2, 3, 4, 5]) == [6]
    assert repeated_run_ends([1, 2, 3, 4, 5, 6, 0, 2, 3, 4, 5]) == []
    _, sampled = writer.sample([one.prompt for one in asked], **HOW | {"temperature": 0.0})
    for samples in sampled:
        runs = [tuple(samples[0].tokens[i : i + REPEAT]) for i in range(len(samples[0].tokens) - REPEAT + 1)]
        assert len(set(runs)) == len(runs)


def test_what_stands_for_personal_data_is_never_written(writer):
    prompt = "Article: Track an order\n  Open it.\nQuestion: where is A[NUMBER], I am [EMAIL]\nAnswer:"
    [(_, slots)], [samples] = writer.sample([prompt], **HOW | {"candidates": 16}, constrained=True)
    hidden = {token for token, text in slots.texts.items() if text in PLACEHOLDERS}
    assert len(hidden) == 2
    assert not any(writer.tokenizer.names.get(token) in hidden for sample in samples for token in sample.tokens)
    logits = torch.zeros(1, writer.sampler.engine.vocabulary)
    GroundedConstraint(writer.vocabulary, [(prompt, slots)])(logits, [0], [[]])
    assert all(
        logits[0, writer.tokenizer.ids[token]] == (0 if slots.is_supported(token) else -torch.inf)
        for token in slots.texts
    )


def test_an_english_article_is_answered_in_english_whatever_was_bought(writer):
    titles = ("青禾洗衣液 薰衣草", "Soft soap")
    allowed = []
    for article, title in zip((ARTICLES[0], ARTICLES[2]), titles, strict=True):
        prompt = f"Article: {article.title}\n  {article.body}\nOrder: A1 | 2026-02-11 | {title}\nQuestion: x\nAnswer:"
        _, slots = encode(prompt, writer.tokenizer)
        logits = torch.zeros(1, writer.sampler.engine.vocabulary)
        GroundedConstraint(writer.vocabulary, [(prompt, slots)])(logits, [0], [[]])
        english, chinese = (writer.tokenizer.tokenizer.encode(text).ids[0] for text in ("open", "退"))
        allowed.append((bool(logits[0, english] == 0), bool(logits[0, chinese] == 0)))
    assert allowed == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Open it again today. We help! Open it again today. Bye.", "Open it again today. We help! Bye."),
        ("请先完成未结订单。请先完成未结订单。谢谢。", "请先完成未结订单。谢谢。"),
        ("1. Log in.\n2. Wait.\n1. Log in.", "1. Log in.\n2. Wait.\n1. Log in."),  # short: a list's steps
        ("It costs 3.99 in all shops.\nIt costs 3.99 in all shops.", "It costs 3.99 in all shops."),
        ("", ""),
    ],
)
def test_a_sentence_that_was_said_is_left_out(text, expected):
    assert without_repeats(text) == expected


@given(
    st.lists(
        st.sampled_from(["We help you now today. ", "请先完成未结订单。", "Hi. ", "ok ", "3.99! ", "\n"]), max_size=8
    )
)
def test_what_is_left_has_no_new_words_and_is_left_as_it_is(sentences):
    text = "".join(sentences).strip()
    left = without_repeats(text)
    assert without_repeats(left) == left
    assert set(overlap_words(left)) == set(overlap_words(text))
    if len(set(sentences)) == len(sentences):
        assert left == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Open it again today. We help. Open it again today.", True),
        ("Open it. We help. Open it.", False),
        ("请携带取货码和身份证件。请携带取货码和身份证件。", True),
        ("并提供预付标签,并提供预付标签,好", True),
        ("希望对您有帮助。请携带取货码。", False),
        ("", False),
    ],
)
def test_a_clause_of_some_length_that_stands_twice_is_noticed(text, expected):
    assert repeats_itself(text) == expected


def test_an_answer_that_says_something_twice_is_taken_only_where_all_do(writer):
    prompt = "Article: Track an order\n  Open it again today. We help.\nQuestion: where is it\nAnswer:"
    texts = ["open it again today, open it again today.", "we help."]
    samples = [Sample("", writer.tokenizer.encode_many([[text]])[0], "end_token") for text in (texts[0], *texts)]
    assert writer.best(prompt, Slots(), samples[:2], 0.5).text == texts[0]
    assert writer.best(prompt, Slots(), samples, 0.5).text == texts[1]


@pytest.mark.parametrize(
    ("text", "is_written"),
    [
        ("the parcel arrives within 14 days.", True),
        ("the parcel arrives within 14 weeks.", False),
        ("the parcel arrives not within 14 days.", False),
        ("the parcel arrives within fifteen days.", False),
        ("the parcel arrives within 21 days.", False),
        ("see evil.com.", False),
    ],
)
def test_only_supported_samples_are_written(writer, text, is_written):
    prompt = "Article: Track an order\n  The parcel arrives within 14 days.\nQuestion: is it 21 days\nAnswer:"
    samples = [Sample("", writer.tokenizer.encode_many([[text]])[0], "end_token")]
    assert writer.best(prompt, Slots(), samples, 0.5).text == (text if is_written else None)


def test_refusals_say_why(model, tmp_path):
    save_articles(ARTICLES, tmp_path / "articles.json")
    asker = Asker.load(model, tmp_path / "articles.json")
    found = asker.ask(["where is the lamp", "?! 12"], [CustomerFacts()] * 2, budget=160, links=3, min_confidence=1.0)
    assert [(one.refused_because, one.prompt, len(one.article_ids)) for one in found] == [
        (LOW_CONFIDENCE, None, 3),
        (NO_WORDS, None, 3),
    ]


def test_what_samples_agree_on_scores_highest():
    grams = [bigrams(text) for text in ("open your orders", "open your orders now", "the moon is far")]
    scores = agreements(grams, [1, 1, 1])
    assert scores.argmin() == 2
    # F1 of 3 words and 2 pairs with 4 words and 3 pairs: 2 * 5 / (5 + 7).
    assert scores[0] == pytest.approx((1 + 10 / 12 + 0) / 3)


def test_the_folder_and_its_fingerprint(model):
    manifest = read_manifest(model)
    assert manifest.task == "answers"
    assert {"article_top_1", "bm25_article_top_1", "word_f1"} <= set(manifest.metrics)
    before = model_fingerprint(model)
    settings = json.loads((model / "answers.json").read_text())
    try:
        (model / "answers.json").write_text(json.dumps(settings | {"min_confidence": 0.9}))
        assert model_fingerprint(model) != before
        (model / "answers.json").write_text(json.dumps(settings | {"min_confidence": 9}))
        with pytest.raises(CheckpointError, match="min_confidence"):
            AnswerWriter.load(model)
    finally:
        (model / "answers.json").write_text(json.dumps(settings, indent=1))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert len(AutoTokenizer.from_pretrained(model)) == AutoModelForCausalLM.from_pretrained(model).config.vocab_size


def test_too_little_is_told(tmp_path):
    with pytest.raises(TrainingError, match="at least 50"):
        train_answers(past()[:20], ARTICLES, AnswersTrainSettings(), tmp_path / "x")
    with pytest.raises(TrainingError, match=r"inputs\.articles"):
        train_answers(past(), [], AnswersTrainSettings(), tmp_path / "x")


def test_a_quotation_mark_leaves_the_position_as_it_is():
    assert _after('"') == KEEPS
    assert KEEPS not in (_after("day"), _after("day."), _after_slot("<|s:1|>"), _after_slot("<|q:1|>"))
