"""The task `answers`: the questions of the date in, the table `answers` out."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.scoring import ledger, models
from jobs.scoring.ledger import Results
from jobs.scoring.models import Dtype, Model
from jobs.scoring.waves import AnswerTerms
from jobs.spark import executor_files
from jobs.spark.errors import ConfigurationError, InputError
from jobs.spark.executor_files import local_folder
from jobs.spark.task_device import task_device
from jobs.tables import answers as answers_table
from jobs.tasks.task import PreparedTask, TaskContext
from lm.answers import asker as asking
from lm.answers.answer_prompt import Article

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.answers.answer_writer import AnswerWriter
    from lm.answers.asker import Asker

NAME = "answers"
CODE_VERSION = 3
TABLE = "answers"
REQUESTS = "questions_due"
UNIT = "questions"
ASKED_TABLE, ASKED_KEY = "questions", "question_id"
TRAINER = "jobs.training.train_answers"
#: The articles of the date, in the folder that the executors open.
ARTICLES_FILE = "articles.json"


def is_wanted(config: Config) -> bool:
    """Answers are written where questions, articles and a model for them are configured."""
    return config.models.answers is not None and {"questions", "articles"} <= config.inputs.keys()


def find_model(config: Config, config_file: str) -> Model:
    """Find `models.answers`."""
    if config.models.answers is None:
        raise ConfigurationError("models.answers is missing: name the folder of the trained model")
    return models.find(NAME, config.models.answers, config.options(config_file), dtype=config.models.dtype)


def lookback_days(config: Config) -> int:
    """`answers.lookback_days`: questions that are answered again."""
    return config.answers.lookback_days


def prepare(context: TaskContext) -> PreparedTask:
    """Find the articles of the due questions. An answer depends on prompt and model alone: it never expires."""
    settings, model = context.config.answers, context.model
    folder = write_articles(context.used["articles"], executor_files.session_folder(f"articles-{uuid.uuid4().hex}"))
    load_asker = asker_loader(model, executor_files.send_folder(context.spark, folder, folder.name))
    load = writer_loader(model)

    def rows(asked: DataFrame, results: Results) -> DataFrame:
        return answers_table.answers(asked, results.rows, model.fingerprint, results.failed)

    return PreparedTask(
        requests=requests(context, load_asker),
        terms=AnswerTerms(NAME, answers_table.RESULT, context.run_id, context.run_date, model.fingerprint),
        score=lambda missing: answers_table.score(missing, load, settings),
        rows=rows,
    )


def requests(context: TaskContext, load: Callable[[], Asker]) -> DataFrame:
    """The questions that are due on run_date with their prompts; `key` is null where one is refused beforehand."""
    settings = context.config.answers
    due = answers_table.questions_of(context.used["questions"], context.run_date, settings.lookback_days)
    asked = answers_table.with_prompts(answers_table.with_customer(due, context.used), load, settings)
    key = ledger.request_key(
        NAME,
        F.col("prompt"),
        code_version=CODE_VERSION,
        model_version=context.model.fingerprint,
        settings=answers_table.decoding(settings) | {"dtype": context.model.dtype},
    )
    return asked.withColumns(
        {
            "key": F.when(F.col("refused_because").isNull(), key),
            "prompt_hash": F.substring(F.sha2("prompt", 256), 1, 32),
        }
    )


def write_articles(articles: DataFrame, folder: Path) -> Path:
    """Write the articles of the date into a folder of this machine, for the workers' retrievers; returns the folder.

    Raises InputError where there are none.
    """
    rows = articles.select("article_id", "title", "body").orderBy("article_id").toArrow().to_pylist()
    if not rows:
        raise InputError("inputs.articles has no row that can be used: give help articles, or remove models.answers")
    asking.save_articles([Article(**row) for row in rows], folder / ARTICLES_FILE)
    return folder


def asker_loader(model: Model, articles: str) -> Callable[[], Asker]:
    """A picklable loader of what turns questions into prompts, over a folder of articles; cached in each worker."""
    return functools.partial(_asker, model, articles)


def writer_loader(model: Model) -> Callable[[], AnswerWriter]:
    """A picklable loader of the answers' engine, cached in each Python worker."""
    return functools.partial(_writer_of_task, model.path, model.dtype)


@functools.lru_cache(maxsize=1)
def _asker(model: Model, articles: str) -> Asker:
    from lm.answers.asker import Asker

    return Asker.load(local_folder(model.path), local_folder(articles) / ARTICLES_FILE)


def _writer_of_task(path: str, dtype: Dtype) -> AnswerWriter:
    return _writer(path, dtype, task_device())


@functools.lru_cache(maxsize=1)
def _writer(path: str, dtype: Dtype, device: str) -> AnswerWriter:
    from lm.answers.answer_writer import AnswerWriter

    return AnswerWriter.load(local_folder(path), dtype=dtype, device=device)
