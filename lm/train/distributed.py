"""Data-parallel training: each process computes its rows of every batch, and the gradients are summed.

Source: Li et al., "PyTorch Distributed" (VLDB 2020), with sums instead of means because the processes' rows weigh
differently. In a single process every function here changes nothing, so the training loop has one code path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")


def rank() -> int:
    """The number of this process; process 0 also validates, reports and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def process_count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own_rows(batch: Any) -> Any:
    """The rows of a batch (a list or an array) that this process computes; there may be none."""
    return batch if process_count() == 1 else batch[rank() :: process_count()]


def sum_over_processes(value: float) -> float:
    """The sum of all processes' values."""
    if process_count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every parameter's gradient by the sum over all processes; a missing gradient counts as zero."""
    if process_count() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def broadcast_from_first(value: Value) -> Value:
    """Return process 0's value in every process; the others wait for it."""
    if process_count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started: numbers travel by gloo, and gradients on GPUs by NCCL."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
