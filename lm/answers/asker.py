"""From a question to its prompt: personal data out, the best article in, or the reason why it is not answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lm.answers.answer_prompt import Article, Customer, Order, OwnReview, redacted, render
from lm.answers.fact_slots import SlotTokenizer
from lm.answers.model_file import read_settings
from lm.answers.retrieval import RankModel, Retriever
from lm.checkpoint import checkpoint
from lm.checkpoint.checkpoint import CheckpointError

LOW_CONFIDENCE, NO_WORDS = "low_confidence", "no_words"


class Asked(NamedTuple):
    """A prompt, the articles that bear on the question, best first, and why it is not to be answered, if so."""

    prompt: str | None
    article_ids: list[str]
    confidence: float
    refused_because: str | None


class Asker:
    """Makes prompts of questions for one model and tonight's articles."""

    def __init__(self, retriever: Retriever, tokenizer: SlotTokenizer, min_confidence: float) -> None:
        self.retriever, self.tokenizer, self.min_confidence = retriever, tokenizer, min_confidence

    @classmethod
    def load(cls, model_dir: Path | str, articles: Path | str) -> Asker:
        """Open a model folder and tonight's articles (as `write_articles` wrote them)."""
        path = Path(model_dir)
        listed = [Article(*fields) for fields in json.loads(Path(articles).read_text(encoding="utf-8"))]
        try:
            tokenizer = SlotTokenizer(checkpoint.load_tokenizer(path))
        except ValueError as error:
            raise CheckpointError(f"model {path}: {error}; train it with `regulars train --task answers`") from error
        return cls(Retriever(listed, RankModel.load(path)), tokenizer, read_settings(path).min_confidence)

    @staticmethod
    def customer(orders: Sequence[Mapping[str, Any]], reviews: Sequence[Mapping[str, Any]]) -> Customer:
        """A Customer from rows as a table has them."""
        return Customer(
            tuple(Order(o["order_id"], o["ordered_on"], tuple(o["titles"])) for o in orders),
            tuple(OwnReview(_rating(r["rating"]), r["title"], r["text"]) for r in reviews),
        )

    def ask(
        self,
        texts: Sequence[str],
        customers: Sequence[Customer],
        *,
        budget: int,
        links: int,
        min_confidence: float | None = None,
    ) -> list[Asked]:
        """The prompt of each question in at most `budget` tokens, and up to `links` articles.

        A question is refused below `min_confidence` (default: the model's own), or where no word is left of it.
        """
        least = self.min_confidence if min_confidence is None else min_confidence
        questions = [redacted(text, customer) for text, customer in zip(texts, customers, strict=True)]
        asked = []
        for question, customer, ranked in zip(questions, customers, self.retriever.rank(questions, links), strict=True):
            best = self.retriever.articles[ranked.article_ids[0]]
            reason = None if ranked.confidence >= least else LOW_CONFIDENCE
            if not any(character.isalpha() for character in question):
                reason = NO_WORDS
            prompt = None if reason else render(question, best, customer, self.tokenizer, budget)
            asked.append(Asked(prompt, ranked.article_ids, ranked.confidence, reason))
        return asked


def write_articles(articles: Sequence[Article], file: Path) -> None:
    """Write tonight's articles where the workers read them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([list(article) for article in articles], ensure_ascii=False), encoding="utf-8")


def _rating(value: Any) -> int | None:
    return None if value is None or value != value else int(value)
