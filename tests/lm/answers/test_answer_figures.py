"""Figures of answers that can be worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lm.answers.answer_figures import answer_figures, top_hits
from lm.answers.answer_prompt import ARTICLE, AnswerPair
from lm.answers.answer_writer import WrittenAnswer


def test_answers_are_compared_with_those_of_the_staff() -> None:
    """Of two words and one pair, "red pen" shares one word with "red ink": F1 is 2 * 1 / (3 + 3)."""
    pairs = [AnswerPair(f"{ARTICLE}red pen\nQuestion", "red ink"), AnswerPair(f"{ARTICLE}blue\nQuestion", "a b")]
    written = [WrittenAnswer("red pen", 0.0, 1), WrittenAnswer(None, 0.0, 0)]
    found = answer_figures(SimpleNamespace(write=lambda prompts, **how: written), pairs, max_new_tokens=5, seed=0)
    assert found["word_f1"] == pytest.approx((1 / 3 + 0) / 2)
    assert 0 < found["bm25_word_f1"] <= found["word_f1"]
    assert found["without_grounded_sample"] == 0.5


def test_hits_among_the_first_and_the_first_three() -> None:
    hits = top_hits([["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c", "d"]], ["a", "c", "d"])
    assert hits.top_1.tolist() == [True, False, False]
    assert hits.top_3.tolist() == [True, True, False]
