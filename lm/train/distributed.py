"""One training in several processes: each computes its share of every batch, and the gradients are summed up.

Data parallelism (Li et al., "PyTorch Distributed", VLDB 2020) by sums, because the shares weigh differently. In a
process that is alone everything here does nothing, so the training loop knows no second way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")


def rank() -> int:
    """Which of the processes this is; the first, 0, also validates, reports and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(batch: Any) -> Any:
    """This process's rows of a batch (a list or an array), which may be none."""
    return batch if size() == 1 else batch[rank() :: size()]


def summed(value: float) -> float:
    """The sum of every process's value."""
    if size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every parameter the sum of all processes' gradients; one without counts as zero."""
    if size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def from_first(value: Value) -> Value:
    """The first process's value, in all of them; waits for it."""
    if size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that torchrun has started, each on processors of its own."""
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
