"""The part of `regulars evaluate` that judges many dates: published lists, or those of one model a date.

With `--retrain` each date gets a model that is trained as of it, and a night in a store of its own. Both lie in a
scratch folder and are deleted; the shop's models and tables stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.config.settings import PublishSettings, ReportSettings
from jobs.evaluation.over_time import evaluate_dates
from jobs.evaluation.time_split import judge_lists
from jobs.nightly import run_night
from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.training.train import train


def evaluate_published(
    spark: SparkSession, config: Config, days: Sequence[date], ahead: int, console: Console, **written: Path | None
) -> dict[str, Any]:
    """Judge the published lists of each date by the `ahead` days after it. Raises as evaluate_dates does.

    `written` has `json_file` and `picture_file`.
    """

    def judge(day: date) -> dict[str, Any]:
        figures = judge_lists(spark, config, day, ahead, console)
        return dict(figures[figures["decisive"]])

    return evaluate_dates(days, judge, console, **written)


def evaluate_retrained(
    spark: SparkSession,
    config: Config,
    days: Sequence[date],
    ahead: int,
    console: Console,
    config_file: str,
    **written: Path | None,
) -> dict[str, Any]:
    """Train a recommender as of each date, make its lists, and judge them by the `ahead` days after it.

    `written` has `json_file` and `picture_file`. Raises ConfigurationError where the store is not a local folder,
    and as train, run_night and evaluate_dates do.
    """
    store = Store(config.store)
    if files.local(store.root) is None:
        raise ConfigurationError(
            f"store is {store.root}: --retrain writes models, which need a local folder; add --set store=FOLDER"
        )
    with scratch_folder(spark, store, "evaluate") as work:

        def judge(day: date) -> dict[str, Any]:
            own = of_one_date(config, f"{work}/{day}")
            train(spark, own, day, ["recommend"], console)
            run_night(spark, own, day, console, config_file)
            figures = judge_lists(spark, own, day, ahead, console)
            files.delete(spark, f"{work}/{day}")
            return dict(figures[figures["decisive"]])

        return evaluate_dates(days, judge, console, **written)


def of_one_date(config: Config, folder: str) -> Config:
    """Return the configuration with store and recommender in `folder`, without other models, copies and reports.

    Nobody is in a control group, because a customer without a list cannot be judged.
    """
    changed = {
        "store": f"{folder}/store",
        "models": config.models.model_copy(update={"recommend": f"{folder}/model", "sentiment": None, "answers": None}),
        "loyalty": config.loyalty.model_copy(update={"control_share": 0.0}),
        "publish": PublishSettings(),
        "report": ReportSettings(write=False),
    }
    return config.model_copy(update=changed)
