"""The device that Spark gave the task that runs here."""

from __future__ import annotations

from pyspark import TaskContext

RESOURCE = "gpu"
#: Set where a session's tasks ask for GPUs.
TASK_GPUS = "spark.task.resource.gpu.amount"


def task_device() -> str:
    """`cuda:ADDRESS` in a task with Spark's resource `gpu`, else `auto`.

    `spark.task.resource.gpu.amount` gives each task a GPU, so that the tasks of a host do not share the first one.
    """
    context = TaskContext.get()
    given = context.resources().get(RESOURCE) if context else None
    return f"cuda:{given.addresses[0]}" if given and given.addresses else "auto"
