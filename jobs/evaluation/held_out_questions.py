"""Evaluates models.answers on past questions that it never trained on, beside BM25 and the article itself.

    regulars evaluate --task answers --config regulars.yaml --as-of 2026-03-01 --json figures.json

The test set is the tenth of the past questions that the training left out by a hash of their texts. Each question is
answered as a night answers it, refusals included.
"""

from __future__ import annotations

import json
import math
import tempfile
from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.evaluation.training_cutoff import open_earlier_model, refuse_replaced_model
from jobs.inputs.reader import read_inputs
from jobs.spark.errors import ConfigurationError, InputError
from jobs.spark.progress import Stages
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage
from jobs.tables.answers import decoding
from jobs.training import train_answers


def evaluate_answers_holdout(
    spark: SparkSession, config: Config, as_of: date, console: Console, json_file: Path | None = None
) -> dict[str, float]:
    """Evaluate models.answers on the held-out questions that staff answered up to `as_of`.

    Prints the figures, writes them to `json_file` and returns them. Raises ConfigurationError without questions,
    articles or a model, or for a model of a later day; InputError without a held-out question; ModelChanged where a
    training replaces the model meanwhile.
    """
    for table in train_answers.NEEDED:
        if table not in config.inputs:
            raise ConfigurationError(f"inputs.{table} is missing: {train_answers.LEARNS_FROM}")
    if config.models.answers is None:
        raise ConfigurationError("models.answers is missing: name the folder of the trained model")
    path, fingerprint, _ = open_earlier_model("answers", config, as_of)
    stages, store = Stages(console), Store(config.store)
    with (
        reading_stage(spark, store, console, f"reading questions up to {as_of}"),
        scratch_folder(spark, store, "evaluate") as work,
    ):
        used = read_inputs(spark, config, as_of, work, train_answers.tables(config)).used
        past = train_answers.past_questions(used, as_of, config.timezone)
        articles = train_answers.articles_of(used)
    from lm.answers.answer_writer import AnswerWriter
    from lm.answers.asker import Asker, save_articles
    from lm.answers.held_out_answers import held_out_figures
    from lm.answers.train_answers import held_out_questions

    asked = held_out_questions(past, articles) if articles else []
    if not asked:
        raise InputError(
            f"{len(past):,} past questions and {len(articles):,} articles up to {as_of}: none is held out to be "
            "answered, give a later date"
        )
    with stages.stage(f"{len(asked):,} held-out questions through GPT-2"), tempfile.TemporaryDirectory() as scratch:
        save_articles(articles, Path(scratch) / "articles.json")
        asker = Asker.load(path, Path(scratch) / "articles.json")
        writer = AnswerWriter.load(path, dtype="float32")
        refuse_replaced_model("answers", path, fingerprint)
        figures = held_out_figures(
            asker,
            writer,
            asked,
            decoding(config.answers),
            prompt_tokens=config.answers.prompt_tokens,
            min_confidence=config.answers.min_confidence,
        )
    _print_figures(console, figures, as_of)
    if json_file is not None:
        known = {name: None if math.isnan(value) else value for name, value in figures.items()}
        noted = {"task": "answers", "as_of": as_of.isoformat()} | known
        json_file.write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote {json_file}", highlight=False, markup=False)
    return figures


def _print_figures(console: Console, figures: dict[str, float], as_of: date) -> None:
    title = f"{figures['questions']:,.0f} held-out questions, learned up to {as_of} (95% intervals)"
    table = Table("", "model", "BM25, its article", title=title, title_justify="left")
    for what, name in (("right article first", "article_top_1"), ("right article among three", "article_top_3")):
        table.add_row(what, _cell(figures, name), _cell(figures, f"bm25_{name}"))
    table.add_row("right article first, where answered", _cell(figures, "answered_article_top_1"), "")
    table.add_row("word F1 with staff's answer", _cell(figures, "word_f1"), _cell(figures, "bm25_word_f1"))
    console.print(table)
    console.print(
        f"Answered {figures['answered']:,.0f} of {figures['questions']:,.0f}; refused {figures['unsure']:,.0f} where "
        f"unsure of the article, {figures['not_grounded']:,.0f} without a sample that its prompt supports. "
        f"{figures['ungrounded']:,.0f} answers state a fact that their prompt lacks.",
        highlight=False,
    )
    console.print(
        f"Word F1 of the answers less that of their article: {_cell(figures, 'word_f1_lead')}", highlight=False
    )


def _cell(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:.3f} ({figures[name + '_low']:.3f}–{figures[name + '_high']:.3f})"
