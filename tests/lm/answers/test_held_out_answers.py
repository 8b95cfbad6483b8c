"""Figures of held-out questions that can be worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from lm.answers.answer_prompt import ARTICLE, QUESTION, Article, CustomerFacts
from lm.answers.answer_writer import WrittenAnswer
from lm.answers.asker import LOW_CONFIDENCE, QuestionPrompt
from lm.answers.held_out_answers import HeldOutQuestion, held_out_figures

NOBODY = CustomerFacts((), ())
ARTICLES = {name: Article(name, name, f"{name} pens are sold by the box") for name in ("red", "blue", "green")}


def figures(prompts: list[QuestionPrompt], asked: list[HeldOutQuestion], written: list[str | None]) -> dict[str, float]:
    asker = SimpleNamespace(ask=lambda texts, customers, **how: prompts, retriever=SimpleNamespace(articles=ARTICLES))
    answers = [WrittenAnswer(text, 0.0, 1) for text in written]
    writer = SimpleNamespace(write=lambda prompts, **how: answers, words=frozenset())
    return held_out_figures(asker, writer, asked, {}, prompt_tokens=64)


def test_answers_refusals_and_articles_are_counted() -> None:
    prompts = [
        QuestionPrompt(f"{ARTICLE}red pen\n{QUESTION}what", ["red", "blue", "green"], 0.9, None),
        QuestionPrompt(f"{ARTICLE}blue\n{QUESTION}what", ["blue", "green", "red"], 0.9, None),
        QuestionPrompt(None, ["blue", "green", "red"], 0.1, LOW_CONFIDENCE),
        QuestionPrompt(f"{ARTICLE}green\n{QUESTION}what", ["red", "green", "blue"], 0.9, None),
    ]
    asked = [
        HeldOutQuestion("red pens", NOBODY, "red ink", "red"),
        HeldOutQuestion("blue pens", NOBODY, "blue", "blue"),
        HeldOutQuestion("something", NOBODY, "green", "green"),
        HeldOutQuestion("green pens", NOBODY, "in 7 days", "green"),
    ]
    found = figures(prompts, asked, ["red pen", None, "in 7 days"])
    assert found["questions"] == 4
    assert found["answered"] == 2
    assert found["unsure"] == found["not_grounded"] == 1
    assert found["ungrounded"] == 1  # the article has no 7
    assert found["article_top_1"] == 0.5
    assert found["article_top_3"] == 1
    assert found["bm25_article_top_1"] == 0.75
    assert found["answered_article_top_1"] == 0.5
    # "red pen" and its article share one of three words and pairs with "red ink"; the other answer is staff's own
    assert found["word_f1"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["bm25_word_f1"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["word_f1_low"] <= found["word_f1"] <= found["word_f1_high"]


def test_without_an_answer_there_is_no_agreement() -> None:
    prompts = [QuestionPrompt(None, ["red", "blue", "green"], 0.1, LOW_CONFIDENCE)]
    found = figures(prompts, [HeldOutQuestion("red pens", NOBODY, "red ink", "red")], [])
    assert found["answered"] == 0
    assert math.isnan(found["word_f1"])
