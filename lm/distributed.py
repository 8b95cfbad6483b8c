"""One training in several processes: each computes its share of every batch, and the gradients are summed up.

Data parallelism (Li et al., "PyTorch Distributed", VLDB 2020) by sums, because the shares weigh differently. In a
process that is alone everything here does nothing, so the training loop knows no second way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

if TYPE_CHECKING:
    from lm.examples import Customer
    from lm.fine_tuning import RecommendSettings
    from lm.training import Progress

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


def train_one_of_many(
    customers: Sequence[Customer],
    items: Mapping[str, str],
    settings: RecommendSettings,
    out: str,
    window: Mapping[str, Any],
) -> dict[str, float] | Exception:
    """What each process of a recommender's training runs; `out` is on a file system that all of them mount.

    A mistake of the user's is returned, for whoever started the processes to raise. What the others fail of is only
    printed: the first cannot go on without them, and fails itself.
    """
    from lm.checkpoint import CheckpointError
    from lm.train_recommend import train_recommend
    from lm.training_files import TrainingError

    heard: dict[str, int] = {}

    def report(now: Progress) -> None:
        if heard.get(now.stage) != now.epoch:  # a line an epoch: it travels from the executor to the driver
            heard[now.stage] = now.epoch
            told = ", ".join(f"{name} {value:.3f}" for name, value in now.metrics.items() if name != "seconds")
            left = f"at most {now.seconds_left / 60:.1f} minutes left"
            print(f"  recommend {now.stage}: epoch {now.epoch + 1}/{now.epochs} {told}, {left}", flush=True)

    with group():
        first = rank() == 0
        heard_by = report if first else None
        try:
            return train_recommend(customers, items, settings, Path(out), report=heard_by, window=dict(window))
        except (TrainingError, CheckpointError) as error:
            return error
        except RuntimeError as error:
            if first:
                raise
            print(f"  process {rank()} of the training ends: {error}", flush=True)
            return error
