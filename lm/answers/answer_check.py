"""Checks an answer against its prompt: its facts and its negations."""

from __future__ import annotations

from collections.abc import Collection

from lm.answers.answer_prompt import article_of, shop_facts
from lm.answers.grounding import ungrounded
from lm.answers.negation import contradictions


def unsupported(answer: str, prompt: str, words: Collection[str]) -> list[str]:
    """The facts of an answer that its prompt does not support, and the clauses that contradict the article.

    Empty for an answer that may be given. The article and the shop's facts of the customer are support; the customer's
    own words are not. `words` are those of lm.answers.grounding.ordinary_words.
    """
    article = article_of(prompt)
    return ungrounded(answer, article, shop_facts(prompt), words) + contradictions(answer, article)
