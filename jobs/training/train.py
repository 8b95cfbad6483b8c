"""Trains GPT-2 on the shop's own tables and writes the model folders that the configuration names.

For the data engineer, before the first night and whenever the shop has moved on. Alone:

    regulars train --config regulars.yaml --as-of 2026-03-01 --task all

A training that was killed goes on where it was with the same command; until it ends, the old model stays.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pyspark.sql import DataFrame, SparkSession
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jobs.config.config import Config
from jobs.inputs.reader import read_inputs
from jobs.spark import files
from jobs.spark.errors import ConfigurationError, InputError, StoreBusy
from jobs.spark.progress import Stages, warn
from jobs.store.store import Store
from jobs.training import train_answers, training_data
from lm.checkpoint.checkpoint import CheckpointError

if TYPE_CHECKING:
    from lm.recommend.settings import RecommendSettings
    from lm.recommend.training_examples import Customer
    from lm.train import training_loop

#: Seconds between two plain lines where there is no terminal to redraw.
_LINE_EVERY = 15.0

Figures = dict[str, float]


class Terms(NamedTuple):
    """How the recommender is judged and kept: which purchases are held out, and what becomes of the present model."""

    protocol: str = "time-split"
    refit: bool = False
    promote: bool = False


def train(
    spark: SparkSession,
    config: Config,
    as_of: date,
    tasks: Sequence[str],
    console: Console,
    terms: Terms | None = None,
) -> dict[str, Figures]:
    """Train `tasks` (recommend, sentiment) on events up to the end of `as_of`; the held-out figures of each.

    Without `terms` they are the configuration's. Raises ConfigurationError (models.* is no folder, init is no
    checkpoint, no reviews for sentiment), InputError (too little to learn from) and StoreBusy (another training
    writes the same folder).
    """
    # Threads that wait spinning for each other take the processor from Spark, and lose it to it: without this a
    # training beside any other work takes ten times as long. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    outs = {task: _folder(config, task) for task in tasks}
    if "answers" in tasks:
        train_answers.require_inputs(config)
    if "sentiment" in tasks and "reviews" not in config.inputs:
        if "recommend" not in tasks:
            raise ConfigurationError("inputs.reviews is missing: sentiment is learned from rated reviews")
        console.print("No inputs.reviews: the sentiment model is left out.")
        outs.pop("sentiment")
    store = Store(config.store)
    work = store.work(f"train-{as_of}-{uuid.uuid4().hex[:8]}")
    wanted = _tables(config, outs)
    recommend = partial(_recommend, terms=terms or Terms(refit=config.train.recommend.refit), console=console)
    trainers: Mapping[str, Callable[..., Figures]] = {
        "recommend": recommend,
        "sentiment": _sentiment,
        "answers": train_answers.train,
    }
    figures = {}
    stages = Stages(console)
    try:
        with stages.stage(f"reading {', '.join(t for t in config.inputs if t in wanted)} up to {as_of}"):
            inputs = read_inputs(spark, config, as_of, work, wanted)
        for note in inputs.notes:
            warn(console, note)
        for task, out in outs.items():
            with _explained(task), _Bar(console, task) as bar:
                figures[task] = trainers[task](inputs.used, config, as_of, out, bar.update)
            console.print(_table(task, figures[task]))
            console.print(f"Wrote {out}", highlight=False)
    finally:
        files.delete(spark, work)
    return figures


def _tables(config: Config, tasks: Collection[str]) -> Sequence[str]:
    """Of the inputs what these trainings read."""
    if set(tasks) == {"sentiment"}:
        return training_data.tables_of_reviews(config.inputs)
    return training_data.TABLES + (train_answers.TABLES if "answers" in tasks else ())


def _recommend(
    used: Mapping[str, DataFrame],
    config: Config,
    as_of: date,
    out: Path,
    report: training_loop.Report,
    *,
    terms: Terms,
    console: Console,
) -> Figures:
    from lm.recommend.promotion import promote
    from lm.recommend.settings import RecommendSettings
    from lm.recommend.train_recommender import train_recommend

    settings = RecommendSettings(
        **config.train.recommend.model_dump(exclude={"processes"}) | {"refit": terms.refit},
        seed=config.train.seed,
        language=config.recommend.language,
        exclude_purchased=config.recommend.exclude_purchased,
        history_events=config.recommend.history_events,
        protocol=terms.protocol,  # type: ignore[arg-type]
    )
    with Stages(console).stage("recommend: histories"):
        collected = training_data.customers(used)
    window = {"as_of": as_of.isoformat(), **collected.window}
    items = training_data.titles(used)
    processes = config.train.recommend.processes
    into = out.with_name(out.name + ".candidate") if terms.promote else out
    if processes > 1:
        figures = _in_processes(processes, collected.customers, items, settings, into, window)
    else:
        figures = train_recommend(collected.customers, items, settings, into, report=report, window=window)
    if not terms.promote:
        return figures
    console.print(promote(into, out, collected.customers, items, settings), highlight=False)
    return figures


def _in_processes(
    processes: int,
    customers: list[Customer],
    items: dict[str, str],
    settings: RecommendSettings,
    out: Path,
    window: dict[str, Any],
) -> Figures:
    """Train the recommender in so many Spark tasks at once. Raises as train_recommend does."""
    from pyspark.ml.torch.distributor import TorchDistributor

    from lm.recommend.train_distributed import train_one_of_many

    distributor = TorchDistributor(num_processes=processes, local_mode=False, use_gpu=False)
    found = distributor.run(train_one_of_many, customers, items, settings, str(out), window)
    if isinstance(found, Exception):
        raise found
    return cast("Figures", found)


def _sentiment(
    used: Mapping[str, DataFrame], config: Config, as_of: date, out: Path, report: training_loop.Report
) -> Figures:
    from lm.sentiment.train_sentiment import SentimentSettings, train_sentiment

    settings = SentimentSettings(
        **config.train.sentiment.model_dump(), seed=config.train.seed, language=config.recommend.language
    )
    stars = config.sentiment
    texts, labels, categories = training_data.reviews(used, stars.negative_stars, stars.positive_stars)
    window = {"as_of": as_of.isoformat(), "reviews": len(texts)}
    return train_sentiment(texts, labels, settings, out, categories=categories, report=report, window=window)


def _folder(config: Config, task: str) -> Path:
    """Where the trained model goes: models.<task> must be a folder on this machine."""
    model = getattr(config.models, task)
    if model is None:
        raise ConfigurationError(f"models.{task} is missing: name the folder to write, such as ./models/{task}")
    path = files.local(model)
    if path is None or not Path(model.removeprefix("file:")).is_absolute():
        raise ConfigurationError(
            f"models.{task} is '{model}': a training writes a folder. Set models.{task} to one, such as "
            f"./models/{task}; to start from '{model}' set train.{task}.init to it."
        )
    return path


@contextmanager
def _explained(task: str) -> Iterator[None]:
    """Turn what lm raises into errors that name the key and the mend."""
    from lm.train.training_state import TrainingBusy, TrainingError

    try:
        yield
    except TrainingBusy as error:
        raise StoreBusy(str(error)) from None
    except TrainingError as error:
        raise InputError(f"train {task}: {error}") from None
    except CheckpointError as error:
        raise ConfigurationError(f"train.{task}.init: {error}") from None


class _Bar:
    """Progress of one task: a live line on a terminal, a plain line every so often elsewhere."""

    def __init__(self, console: Console, task: str) -> None:
        self.console, self.task = console, task
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.stages: dict[str, Any] = {}
        self.printed = 0.0

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, now: training_loop.Progress) -> None:
        """Show the stage, the epoch, the loss, the newest validation and when it ends at the latest."""
        shown = {name: value for name, value in now.metrics.items() if name not in ("loss", "seconds")}
        told = f"epoch {now.epoch + 1}/{now.epochs} loss {now.loss:.3f}"
        if math.isnan(now.loss):
            told = f"{now.step}/{now.steps}"
        told += "".join(f" {name} {value:.3f}" for name, value in shown.items())
        if now.stage not in self.stages:
            self.stages[now.stage] = self.bar.add_task(f"  {self.task} {now.stage}", total=now.epochs, told=told)
        done = now.epoch + now.step / now.steps
        self.bar.update(self.stages[now.stage], completed=done, total=now.epochs, told=told)
        if self.console.is_terminal or time.monotonic() - self.printed < _LINE_EVERY:
            return
        self.printed = time.monotonic()
        left = "" if math.isnan(now.seconds_left) else f", at most {now.seconds_left / 60:.1f} minutes left"
        self.console.print(f"  {self.task} {now.stage}: {told}{left}", highlight=False)


def _table(task: str, figures: Figures) -> Table:
    """The held-out figures beside what is to be beaten."""
    if task == "recommend":
        title = f"Next purchases of {figures['customers']:,.0f} held-out customers"
        rivals = {"model": "", "co-purchase": "co_purchase_", "popularity": "popularity_"}
        metrics = {"recall@10": "recall@10", "NDCG@10": "ndcg@10"}
    elif task == "answers":
        title = f"{figures['questions']:,.0f} held-out questions"
        rivals = {"ours": "", "plain BM25, its article": "bm25_"}
        metrics = {"right article first": "article_top_1", "in three": "article_top_3", "word F1": "word_f1"}
    else:
        title = f"{figures['reviews']:,.0f} held-out reviews"
        rivals = {"model": "", "majority class": "majority_"}
        metrics = {"accuracy": "accuracy", "macro-F1": "macro_f1"}
    table = Table("", *(f"{name} (95% interval)" for name in metrics), title=title, title_justify="left")
    for rival, prefix in rivals.items():
        table.add_row(rival, *(_cell(figures, prefix + key) for key in metrics.values()))
    return table


def _cell(figures: Figures, key: str) -> str:
    interval = f" ({figures[key + '_low']:.3f}–{figures[key + '_high']:.3f})" if key + "_low" in figures else ""
    return f"{figures[key]:.3f}{interval}"
