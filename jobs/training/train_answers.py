"""What the answers' model learns from: past questions with staff's answers, and each customer as of the question.

Part of `regulars train --task answers`. At most so many questions as fit on the driver, drawn by a hash of their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.spark.errors import ConfigurationError
from jobs.tables.answers import with_customer
from lm.answers.answer_prompt import Article
from lm.answers.asker import Asker

if TYPE_CHECKING:
    from jobs.config.settings import AnswerSettings
    from jobs.config.train_settings import TrainSettings
    from lm.answers.train_answers import AnswersSettings, PastQuestion
    from lm.train.training_loop import Report

PAST_QUESTIONS = 50_000
#: Input tables that it needs.
TABLES = ("questions", "articles")


def require_inputs(config: Config) -> None:
    """ConfigurationError naming what the training of answers lacks."""
    missing = [table for table in TABLES if table not in config.inputs]
    if missing:
        raise ConfigurationError(
            f"inputs.{missing[0]} is missing: answers are learned from past questions (with the column answer) and the "
            "help articles"
        )


def train(used: Mapping[str, DataFrame], config: Config, as_of: date, out: Path, report: Report) -> dict[str, float]:
    """Train on what staff had answered by the end of `as_of` and write `out`; returns the held-out figures."""
    from lm.answers.train_answers import train_answers

    settings = training_settings(config.train, config.answers)
    past = past_questions(used, as_of, config.timezone)
    rows = used["articles"].select("article_id", "title", "body").orderBy("article_id").toArrow().to_pylist()
    window = {"as_of": as_of.isoformat(), "answers": len(past)}
    return train_answers(past, [Article(**row) for row in rows], settings, out, report=report, window=window)


def training_settings(train: TrainSettings, answers: AnswerSettings) -> AnswersSettings:
    """What the configuration's sections `train` and `answers` say of the training."""
    from lm.answers.train_answers import AnswersSettings

    return AnswersSettings(
        **train.answers.model_dump(exclude={"max_tokens", "pretrain_epochs"}),
        seed=train.seed,
        prompt_tokens=answers.prompt_tokens,
        max_answer_tokens=answers.max_answer_tokens,
    )


def past_questions(used: Mapping[str, DataFrame], as_of: date, timezone: str) -> list[PastQuestion]:
    """The questions answered before the end of `as_of`, by id, each with what was known of its customer then."""
    from lm.answers.train_answers import PastQuestion

    answered_at = F.coalesce("answered_at", "asked_at")
    answered = used["questions"].withColumn("answered_at", answered_at).where("trim(answer) <> ''")
    known = answered.where(is_before(end_of_date(as_of, timezone), "answered_at"))
    drawn = known.orderBy(F.xxhash64("question_id"), "question_id").limit(PAST_QUESTIONS)
    rows = with_customer(drawn, used).orderBy("question_id").toArrow().to_pylist()
    return [
        PastQuestion(
            row["text"],
            Asker.customer(row["orders"] or [], row["own_reviews"] or []),
            row["answer"],
            row["article_id"],
        )
        for row in rows
    ]
