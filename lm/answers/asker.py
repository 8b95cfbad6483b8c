"""Makes the prompt of a question: redacts it, finds the best article, or says why it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lm.answers.answer_prompt import Article, CustomerFacts, Order, OwnReview, redacted, render_prompt
from lm.answers.fact_slots import SlotTokenizer
from lm.answers.model_file import read_settings
from lm.answers.retrieval import RankModel, Retriever
from lm.checkpoint import checkpoint
from lm.checkpoint.checkpoint import CheckpointError

LOW_CONFIDENCE, NO_WORDS = "low_confidence", "no_words"


class QuestionPrompt(NamedTuple):
    """The prompt of a question (None if refused), its articles, best first, and the reason of a refusal."""

    prompt: str | None
    article_ids: list[str]
    confidence: float
    refused_because: str | None


class Asker:
    """Makes the prompts of questions for one model and tonight's articles."""

    def __init__(self, retriever: Retriever, tokenizer: SlotTokenizer, min_confidence: float) -> None:
        self.retriever, self.tokenizer, self.min_confidence = retriever, tokenizer, min_confidence

    @classmethod
    def load(cls, model_dir: Path | str, articles: Path | str) -> Asker:
        """Open a model folder and tonight's articles (a file of `save_articles`).

        Raises CheckpointError for a folder that was not trained to answer.
        """
        path = Path(model_dir)
        listed = [Article(*fields) for fields in json.loads(Path(articles).read_text(encoding="utf-8"))]
        try:
            tokenizer = SlotTokenizer(checkpoint.load_tokenizer(path))
        except ValueError as error:
            raise CheckpointError(f"model {path}: {error}; train it with `regulars train --task answers`") from error
        return cls(Retriever(listed, RankModel.load(path)), tokenizer, read_settings(path).min_confidence)

    @staticmethod
    def customer(orders: Sequence[Mapping[str, Any]], reviews: Sequence[Mapping[str, Any]]) -> CustomerFacts:
        """The facts of a customer from rows of tables."""
        return CustomerFacts(
            tuple(Order(o["order_id"], o["ordered_on"], tuple(o["titles"])) for o in orders),
            tuple(OwnReview(_rating(r["rating"]), r["title"], r["text"]) for r in reviews),
        )

    def ask(
        self,
        texts: Sequence[str],
        customers: Sequence[CustomerFacts],
        *,
        budget: int,
        links: int,
        min_confidence: float | None = None,
    ) -> list[QuestionPrompt]:
        """The prompt of each question in at most `budget` tokens, with up to `links` articles.

        A question is refused below `min_confidence` (default: the model's own), or without a word after redaction.
        """
        least = self.min_confidence if min_confidence is None else min_confidence
        questions = [redacted(text, customer) for text, customer in zip(texts, customers, strict=True)]
        asked = []
        for question, customer, ranked in zip(questions, customers, self.retriever.rank(questions, links), strict=True):
            best = self.retriever.articles[ranked.article_ids[0]]
            reason = None if ranked.confidence >= least else LOW_CONFIDENCE
            if not any(character.isalpha() for character in question):
                reason = NO_WORDS
            prompt = None if reason else render_prompt(question, best, customer, self.tokenizer, budget)
            asked.append(QuestionPrompt(prompt, ranked.article_ids, ranked.confidence, reason))
        return asked


def save_articles(articles: Sequence[Article], file: Path) -> None:
    """Write tonight's articles into the file that `Asker.load` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([list(article) for article in articles], ensure_ascii=False), encoding="utf-8")


def _rating(value: Any) -> int | None:
    return None if value is None or value != value else int(value)
