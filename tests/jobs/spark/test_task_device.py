"""A task computes on the GPU that Spark gave it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pyspark import TaskContext
from pyspark.resource import ResourceInformation

from jobs.spark.task_device import task_device


@pytest.mark.parametrize(
    ("resources", "device"),
    [({}, "auto"), ({"gpu": ResourceInformation("gpu", ["2", "3"])}, "cuda:2")],
)
def test_the_device_of_a_task(
    resources: dict[str, ResourceInformation], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskContext, "get", lambda: SimpleNamespace(resources=lambda: resources))
    assert task_device() == device


def test_outside_a_task_any_device_will_do() -> None:
    assert task_device() == "auto"
