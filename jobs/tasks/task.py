"""What a task is: the requests that it makes of a model, how they are scored, and the table that comes out.

A task is a module that has what `Task` names. `jobs.tasks.all_tasks` lists them; the night, the plan, `gc` and
`train` are loops over that list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession

from jobs.config.config import Config
from jobs.scoring.ledger import Enough, Results
from jobs.scoring.models import Model
from jobs.scoring.waves import AnswerTerms
from jobs.store.store import Store
from jobs.tables.earlier import Earlier
from jobs.tables.unchanged import Unchanged


@dataclass(frozen=True)
class TaskContext:
    """What a task sees of one run: `used` are the input tables as of run_date; every executor can open `model`."""

    spark: SparkSession
    config: Config
    store: Store
    run_id: str
    run_date: date
    used: Mapping[str, DataFrame]
    model: Model
    #: Folder of what the night keeps for the next one; None if it keeps nothing.
    segment: str | None = None
    #: The state of the date before, if only what changed is computed.
    earlier: Earlier | None = None


@dataclass(frozen=True)
class PreparedTask:
    """A task of one run, before anything is computed."""

    #: One row a customer, review or question, with the `key` of its request; null where nothing is asked.
    requests: DataFrame
    #: Which answers of the ledger are good for this run.
    terms: AnswerTerms
    #: Adds `result` and `failure` to distinct requests. It loads what it needs at its first call.
    score: Callable[[DataFrame], DataFrame]
    #: The rows of the output table, from the written requests and their results.
    rows: Callable[[DataFrame, Results], DataFrame]
    #: Says whether the shop can still use an older answer; None where every answer stays usable.
    enough: Enough | None = None
    #: Rows to copy; `requests` are then of the other customers alone.
    unchanged: Unchanged | None = None
    #: Keeps what the next night needs to copy rows; called with the written requests, the results and the written rows.
    keep: Callable[[DataFrame, Results, DataFrame], None] | None = None


def model_warnings(task: str, model: Model, config: Config, run_date: date) -> list[str]:
    """Return what the operator should know of a model: it was trained on later events, or without inputs.events."""
    command = config.command("train", f"--task {task} --as-of {run_date}")
    found = []
    if model.trained_as_of is not None and model.trained_as_of > run_date:
        found.append(
            f"models.{task} was trained on events up to {model.trained_as_of}, after the run date {run_date}: its "
            "results know what came later, so figures of this date would be too good. For results as of the date, "
            f"train with: {command}"
        )
    if task == "recommend" and "events" in config.inputs and not model.reads_browsing:
        found.append(
            f"models.{task} was trained without inputs.events, so its prompts name no views, carts and wishes. To use "
            f"them, train with: {command}"
        )
    return found


class Task(Protocol):
    """The names that a task's module has."""

    #: Name under `models`, in the ledger, in the counts of `runs` and of `train --task`.
    NAME: str
    #: Part of every request's key. Raise it with each change of code that changes an answer of the same model.
    CODE_VERSION: int
    #: The output table.
    TABLE: str
    #: Name of the written requests: an output table of its own, or a file of the run.
    REQUESTS: str
    #: What the progress line counts.
    UNIT: str
    #: The table whose rows make requests, and its key: `quarantine` names them where the model fails.
    ASKED_TABLE: str
    ASKED_KEY: str
    #: The module of `jobs.training` that trains the task's model.
    TRAINER: str

    def is_wanted(self, config: Config) -> bool:
        """Whether the configuration asks for the task's table."""

    def find_model(self, config: Config, config_file: str) -> Model:
        """Find the configured model; ConfigurationError with the mend where there is none."""

    def lookback_days(self, config: Config) -> int:
        """Days before run_date whose rows are asked about again."""

    def prepare(self, context: TaskContext) -> PreparedTask:
        """Plan the task for one run. Nothing of Spark runs yet, but small files may be written for the executors."""
