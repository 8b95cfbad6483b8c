"""Figures of retrieval and of written answers on held-out questions, with those of plain baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.answers.answer_overlap import agreements, bigrams
from lm.answers.answer_prompt import ARTICLE, AnswerPair, article_of
from lm.answers.retrieval import BM25, Retriever

if TYPE_CHECKING:
    from lm.answers.answer_writer import AnswerWriter


class TopHits(NamedTuple):
    """(n,) whether the right article is the first, and whether it is among the first three."""

    top_1: NDArray[np.bool_]
    top_3: NDArray[np.bool_]


def top_hits(ranked_ids: Sequence[Sequence[str]], right: Sequence[str]) -> TopHits:
    """Compare ranked article ids (at least three each) with the right ones."""
    return TopHits(
        np.array([ids[0] == wanted for ids, wanted in zip(ranked_ids, right, strict=True)], dtype=np.bool_),
        np.array([wanted in ids[:3] for ids, wanted in zip(ranked_ids, right, strict=True)], dtype=np.bool_),
    )


def ranked_by_bm25(retriever: Retriever, questions: Sequence[str]) -> list[list[str]]:
    """The BM25 baseline: the ids of the three best articles for each question, ties by id."""
    articles = list(retriever.articles.values())
    scores = BM25([f"{article.title}\n{article.body}" for article in articles]).scores(questions)
    return [[articles[i].article_id for i in np.argsort(-row, kind="stable")[:3]] for row in scores]


def retrieval_figures(retriever: Retriever, questions: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Shares of questions with the right article first and among three, ours and BM25's, and the mean confidence."""
    ranked = retriever.rank(questions, 3)
    ours = top_hits([one.article_ids for one in ranked], right)
    plain = top_hits(ranked_by_bm25(retriever, questions), right)
    confidence = np.array([one.confidence for one in ranked])
    return {
        "questions": float(len(questions)),
        "article_top_1": float(ours.top_1.mean()),
        "article_top_3": float(ours.top_3.mean()),
        "bm25_article_top_1": float(plain.top_1.mean()),
        "bm25_article_top_3": float(plain.top_3.mean()),
        "mean_confidence": float(confidence.mean()),
    }


def answer_figures(
    writer: AnswerWriter, pairs: Sequence[AnswerPair], max_new_tokens: int, seed: int
) -> dict[str, float]:
    """Mean F1 over words and word pairs against the staff's answers: of the written answers, and of the articles.

    Also the share of questions without a grounded sample.
    """
    written = writer.write(
        [pair.prompt for pair in pairs],
        candidates=4,
        max_new_tokens=max_new_tokens,
        temperature=0.7,
        top_p=0.95,
        seed=seed,
    )

    def f1(text: str, answer: str) -> float:
        return float(agreements([bigrams(text), bigrams(answer)], [0, 1])[0])

    return {
        "word_f1": float(np.mean([f1(w.text or "", p.answer) for w, p in zip(written, pairs, strict=True)])),
        "bm25_word_f1": float(np.mean([f1(article_of(p.prompt).removeprefix(ARTICLE), p.answer) for p in pairs])),
        "without_grounded_sample": float(np.mean([w.text is None for w in written])),
    }
