"""Reports the finished tasks of a Spark job while it runs; Spark counts rows only when a task ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark import SparkContext

_POLL_SECONDS = 2.0
#: Tasks per core, so that few cores idle while the slowest task ends ...
_TASKS_PER_CORE = 4
#: ... but no task has fewer rows than this, so that a model's batches stay full.
_ROWS_PER_TASK = 32


def model_tasks(context: SparkContext, rows: int) -> int:
    """Return into how many tasks a model's work on `rows` rows is cut."""
    return max(1, min(-(-rows // _ROWS_PER_TASK), context.defaultParallelism * _TASKS_PER_CORE))


@contextmanager
def watched(
    context: SparkContext, group: str, description: str, tasks: int, report: Callable[[int], None]
) -> Iterator[None]:
    """Call `report` with the finished tasks of the block's jobs every two seconds, once one has finished.

    `group` is a name that no other jobs of the session have. The stage that is reported has `tasks` tasks.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            finished = _finished_tasks(context, group, tasks)
            if finished:
                report(finished)

    context.setJobGroup(group, description)
    watcher = threading.Thread(target=watch, name="job-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]  # None removes it


def _finished_tasks(context: SparkContext, group: str, tasks: int) -> int:
    """Return the tasks that ended in the group's stage of `tasks` tasks."""
    tracker = context.statusTracker()
    jobs = [job for number in tracker.getJobIdsForGroup(group) if (job := tracker.getJobInfo(number))]
    stages = [stage for job in jobs for number in job.stageIds if (stage := tracker.getStageInfo(number))]
    return max((stage.numCompletedTasks for stage in stages if stage.numTasks == tasks), default=0)
