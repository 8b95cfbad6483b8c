"""The list of tasks, in the order in which a night runs them."""

from __future__ import annotations

from jobs.config.config import Config
from jobs.tasks import answers, recommend, sentiment
from jobs.tasks.task import Task

TASKS: tuple[Task, ...] = (recommend, sentiment, answers)


def wanted_tasks(config: Config) -> list[Task]:
    """The tasks whose tables the configuration asks for."""
    return [task for task in TASKS if task.is_wanted(config)]


def task_named(name: str) -> Task | None:
    """The task of this name; None where there is none, as of a ledger that a later release wrote."""
    return next((task for task in TASKS if name == task.NAME), None)
