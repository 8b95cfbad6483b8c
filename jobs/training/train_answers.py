"""Trains the answers model on past questions, the staff's answers, and each customer's data as of the question.

Part of `regulars train --task answers`. The driver reads at most MAX_PAST_QUESTIONS, drawn by a hash of their ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.tables.answers import decoding, with_customer
from jobs.training import training_data
from jobs.training.differential_privacy import refuse_private_answers
from jobs.training.trainer import Figures, FiguresTable, TrainingContext
from lm.answers.answer_prompt import Article
from lm.answers.asker import Asker

if TYPE_CHECKING:
    from jobs.config.settings import AnswerSettings
    from jobs.config.train_settings import TrainSettings
    from lm.answers.train_answers import AnswersTrainSettings, PastQuestion
    from lm.train.canaries import Audit

MAX_PAST_QUESTIONS = 50_000
NEEDED = ("questions", "articles")
LEARNS_FROM = "answers are learned from past questions (with the column answer) and the help articles"
OPTIONAL = False


def tables(config: Config) -> Sequence[str]:
    """Return the input tables that the training reads: questions, articles and the customers' events."""
    return training_data.HISTORY_TABLES + NEEDED


def train(context: TrainingContext) -> Figures:
    """Train on the questions answered by the end of `as_of`, write the model folder and return the test figures.

    Raises TrainingError where there is too little to learn from, CheckpointError for a bad `train.answers.init`.
    """
    from lm.answers.train_answers import train_answers

    used, config, as_of = context.used, context.config, context.as_of
    settings = training_settings(config.train, config.answers, config.privacy.min_customers)
    past = past_questions(used, as_of, config.timezone)
    articles = articles_of(used)
    window = {"as_of": context.last_day_known(config.train.answers.init), "answers": len(past)}
    return train_answers(past, articles, settings, context.out, report=context.report, window=window)


def audit(context: TrainingContext, folder: Path) -> Audit:
    """Train a copy of the answers with canaries into `folder`; returns what the model remembers."""
    from lm.answers.audit_answers import audit_answers

    used, config = context.used, context.config
    settings = training_settings(config.train, config.answers, config.privacy.min_customers)
    past = past_questions(used, context.as_of, config.timezone)
    return audit_answers(past, articles_of(used), settings, decoding(config.answers), folder, context.report)


def articles_of(used: Mapping[str, DataFrame]) -> list[Article]:
    """Collect the help articles, sorted by id."""
    rows = used["articles"].select("article_id", "title", "body").orderBy("article_id").toArrow().to_pylist()
    return [Article(**row) for row in rows]


def figures_table(figures: Figures) -> FiguresTable:
    """The model beside plain BM25."""
    return FiguresTable(
        f"{figures['questions']:,.0f} held-out questions (a tenth of the texts, from all days)",
        {"ours": "", "plain BM25, its article": "bm25_"},
        {"right article first": "article_top_1", "in three": "article_top_3", "word F1": "word_f1"},
    )


def training_settings(train: TrainSettings, answers: AnswerSettings, min_customers: int) -> AnswersTrainSettings:
    """Combine the configuration's sections `train` and `answers` into the settings of the training.

    Raises TrainingError where `train.dp_epsilon` is set.
    """
    from lm.answers.train_answers import AnswersTrainSettings

    refuse_private_answers(train)
    return AnswersTrainSettings(
        **train.answers.model_dump(exclude={"max_tokens", "pretrain_epochs"}),
        seed=train.seed,
        min_customers=min_customers,
        prompt_tokens=answers.prompt_tokens,
        max_answer_tokens=answers.max_answer_tokens,
    )


def past_questions(used: Mapping[str, DataFrame], as_of: date, timezone: str) -> list[PastQuestion]:
    """Collect the questions answered by the end of `as_of`, sorted by id, with the customer's data as of each question.

    A question without `answered_at` counts as answered when it was asked.
    """
    from lm.answers.train_answers import PastQuestion

    answered_at = F.coalesce("answered_at", "asked_at")
    answered = used["questions"].withColumn("answered_at", answered_at).where("trim(answer) <> ''")
    known = answered.where(is_before(end_of_date(as_of, timezone), "answered_at"))
    sample = training_data.sample_by_hash(known, "question_id", MAX_PAST_QUESTIONS)
    rows = with_customer(sample, used).orderBy("question_id").toArrow().to_pylist()
    return [
        PastQuestion(
            row["text"],
            Asker.customer(row["orders"] or [], row["own_reviews"] or []),
            row["answer"],
            row["article_id"],
            row["user_id"],
        )
        for row in rows
    ]
