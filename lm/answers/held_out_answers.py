"""Judges the whole way from a question to its answer on held-out questions: article, refusal, text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lm.answers.answer_check import unsupported
from lm.answers.answer_figures import ranked_by_bm25, top_hits
from lm.answers.answer_overlap import agreements, bigrams
from lm.answers.answer_prompt import ARTICLE, article_of
from lm.metrics.metrics import mean_interval

if TYPE_CHECKING:
    from lm.answers.answer_prompt import CustomerFacts
    from lm.answers.answer_writer import AnswerWriter
    from lm.answers.asker import Asker


class HeldOutQuestion(NamedTuple):
    """A question of a past customer, what staff answered (redacted), and the id of the right article."""

    text: str
    customer: CustomerFacts
    answer: str
    article_id: str


def held_out_figures(
    asker: Asker,
    writer: AnswerWriter,
    asked: Sequence[HeldOutQuestion],
    how: Mapping[str, Any],
    *,
    prompt_tokens: int,
    min_confidence: float | None = None,
) -> dict[str, float]:
    """Answer the questions as a night does and compare with staff's answers; each mean with its 95% interval.

    `how` is the decoding of AnswerWriter.write. F1 is over words and pairs of words: of the written answers and, on the
    same questions, of the article that the prompt holds. `ungrounded` counts answers that state a fact which their
    prompt lacks; it is 0 by construction. An interval is NaN where no question was answered.
    """
    texts, right = [one.text for one in asked], [one.article_id for one in asked]
    prompts = asker.ask(
        texts,
        [one.customer for one in asked],
        budget=prompt_tokens,
        links=3,
        min_confidence=min_confidence,
    )
    ours = top_hits([one.article_ids for one in prompts], right)
    plain = top_hits(ranked_by_bm25(asker.retriever, texts), right)
    is_sure = np.array([one.refused_because is None for one in prompts])
    sure = [(i, one.prompt) for i, one in enumerate(prompts) if one.prompt is not None]
    written = writer.write([prompt for _, prompt in sure], **how)
    answered = [(i, prompt, one.text) for (i, prompt), one in zip(sure, written, strict=True) if one.text is not None]
    answers_f1 = [_f1(text, asked[i].answer) for i, _, text in answered]
    articles_f1 = [_f1(article_of(prompt).removeprefix(ARTICLE), asked[i].answer) for i, prompt, _ in answered]
    return {
        "questions": float(len(asked)),
        "answered": float(len(answered)),
        "unsure": float((~is_sure).sum()),
        "not_grounded": float(len(sure) - len(answered)),
        "ungrounded": float(sum(bool(unsupported(text, prompt, writer.words)) for _, prompt, text in answered)),
        **_with_interval("article_top_1", ours.top_1),
        **_with_interval("article_top_3", ours.top_3),
        **_with_interval("bm25_article_top_1", plain.top_1),
        **_with_interval("bm25_article_top_3", plain.top_3),
        **_with_interval("answered_article_top_1", ours.top_1[[i for i, _, _ in answered]]),
        **_with_interval("word_f1", answers_f1),
        **_with_interval("bm25_word_f1", articles_f1),
        **_with_interval("word_f1_lead", np.array(answers_f1) - np.array(articles_f1)),
    }


def _f1(text: str, answer: str) -> float:
    return float(agreements([bigrams(text), bigrams(answer)], [0, 1])[0])


def _with_interval(name: str, values: Any) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), float("nan"))
    mean, low, high = mean_interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
