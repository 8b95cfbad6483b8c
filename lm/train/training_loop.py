"""The training loop of every task: seeded, resumable after kill -9, with early stopping on the best weights.

A TrainingTask supplies the model, the batches of an epoch, the loss and the validation. `lm.train.learning_rate` says
how the learning rate falls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lm.engine.device import autocast, keep_freed_memory
from lm.train import distributed
from lm.train.learning_rate import Schedule
from lm.train.private_steps import PrivateSteps, private_step
from lm.train.training_state import TrainingError, TrainingState, load_state, save_state, write_json_lines

Batch = TypeVar("Batch", bound=Sized)

#: A state is saved no more often than every _SAVE_SECONDS, and no more often than _SAVE_COSTS times the last save's
#: duration: saving costs at most a twentieth of the time.
_SAVE_SECONDS = 20.0
_SAVE_COSTS = 20.0
#: A speed is known after so many seconds and so many steps. The first step does not count: it is far slower.
ESTIMATE_SECONDS = 10.0
_ESTIMATE_STEPS = 5
#: Entries of an epoch's line that are no validation figures.
NO_FIGURES = ("stage", "epoch", "loss", "seconds", "learning_rate")


@dataclass(frozen=True)
class TrainingProgress:
    """The position of a training after a step, and the latest time of its end."""

    stage: str
    epoch: int  # from 0
    epochs: int  # at most; early stopping may end before
    step: int
    steps: int  # of this epoch
    loss: float  # mean of this epoch so far, natural log; NaN in a stage without epochs
    seconds_left: float  # at most: until the last epoch at the present speed; NaN before that is known
    metrics: Mapping[str, float]  # of the newest validation


ProgressCallback = Callable[[TrainingProgress], None]


@dataclass(frozen=True)
class TrainingTask(Generic[Batch]):
    """A model and what it learns; `loss` returns the sum over a batch and the divisor that makes it a mean."""

    model: torch.nn.Module
    batches: Callable[[int], Sequence[Batch]]  # of an epoch; the same epoch gives the same batches
    loss: Callable[[Batch], tuple[torch.Tensor, float]]
    validate: Callable[[], Mapping[str, float]] | None = None
    monitor: str = ""  # the validation metric to maximise
    private: PrivateSteps | None = None  # steps with differential privacy; the last epoch's weights are then kept

    @property
    def scored(self) -> str:
        """The entry of an epoch's line that decides which epoch is best; without a choice it is the last one."""
        return self.monitor if self.validate and self.private is None else "epoch"


@dataclass
class StageOutcome:
    """The result of a stage; the model then has the weights of `best_epoch` (from 0; the last without validation)."""

    best_epoch: int = -1
    best: Mapping[str, float] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    #: The learning rate at the start and end of each epoch up to the best one.
    rates: tuple[tuple[float, float], ...] = ()
    #: Whether max_seconds ended it.
    out_of_time: bool = False


@dataclass
class _Counters:
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0  # of this epoch
    best_epoch: int = -1
    finished: bool = False
    rates: list[float] = field(default_factory=list)  # at the start and end of this epoch
    spent: float = 0.0  # seconds of all finished epochs with their validations
    out_of_time: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)


def length_batches(
    lengths: NDArray[np.int64], batch_tokens: int, seed: int, epoch: int, most: int | None = None
) -> list[NDArray[np.int64]]:
    """Group the indices of `lengths` (N,) by similar length, to keep padding small.

    A group has at most `most` rows, and rows x longest row <= batch_tokens; a single longer row is a group of its own.
    Grouping and order are random and depend on (seed, epoch) alone.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order] // 8, kind="stable")]
    groups: list[NDArray[np.int64]] = []
    start = 0
    longest = 0
    for place, length in enumerate(lengths[order]):
        longest = max(longest, int(length))
        rows = place - start
        if rows and (longest * (rows + 1) > batch_tokens or rows == most):
            groups.append(order[start:place])
            start, longest = place, int(length)
    if start < len(order):
        groups.append(order[start:])
    return [groups[i] for i in rng.permutation(len(groups))]


def pad(sequences: Sequence[NDArray[np.int32]], device: torch.device) -> torch.Tensor:
    """Stack sequences to (B, T) int64, padded with 0 on the right; causal attention needs no mask for that."""
    tokens = np.zeros((len(sequences), max(len(sequence) for sequence in sequences)), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
    return torch.from_numpy(tokens).to(device)


def fit(
    task: TrainingTask[Batch], schedule: Schedule, work: Path, report: ProgressCallback | None = None
) -> StageOutcome:
    """Train as the schedule says, to the best `monitor`; resume from the state in `work`.

    Without `validate` the last weights are kept. A training that was interrupted and resumed on the same number of
    threads ends with bitwise the same weights as an uninterrupted one. Raises TrainingError where there are no batches,
    where the loss is not finite, and where the processes see different states.
    """
    keep_freed_memory()
    loop = _Loop(task, schedule, work, report)
    loop.resume()
    while not loop.counters.finished:
        loop.epoch()
    counters = loop.counters
    loop.load(loop.best)
    best = next((line for line in counters.lines if line["epoch"] == counters.best_epoch), {})
    metrics = {name: value for name, value in best.items() if name not in NO_FIGURES}
    rates = tuple(tuple(line["learning_rate"]) for line in counters.lines[: counters.best_epoch + 1])
    return StageOutcome(counters.best_epoch, metrics, counters.lines, rates, counters.out_of_time)


class _Loop(Generic[Batch]):
    """The state of one running stage."""

    def __init__(
        self, task: TrainingTask[Batch], schedule: Schedule, work: Path, report: ProgressCallback | None
    ) -> None:
        self.task, self.schedule, self.report = task, schedule, report
        self.path = work / f"{schedule.stage}.safetensors"
        self.lines = work / f"{schedule.stage}.jsonl"
        self.parameters = {name: one for name, one in task.model.named_parameters() if one.requires_grad}
        self.device = next(iter(self.parameters.values())).device
        self.optimizer = _adamw(self.parameters, schedule)
        self.private = task.private and task.private.optimizer(self.optimizer, self.device)
        self.counters = _Counters(finished=schedule.epochs == 0)
        self.best: dict[str, torch.Tensor] = {}
        self.started, self.saved, self.save_cost = time.monotonic(), time.monotonic(), 0.0
        self.steps_here, self.second_step_at, self.spent = 0, 0.0, 0.0

    def resume(self) -> None:
        torch.manual_seed(self.schedule.seed + distributed.rank())
        state = load_state(self.path)
        if distributed.broadcast_from_first(None if state is None else state.counters) != (state and state.counters):
            raise TrainingError(
                f"{self.path} is not the same file in all processes: put the model on a file system that they share"
            )
        if state is None:
            return
        self.counters = _Counters(**state.counters)
        self.load({n[6:]: t for n, t in state.tensors.items() if n.startswith("model/")})
        self.best = {n[5:]: t for n, t in state.tensors.items() if n.startswith("best/")}
        for name, parameter in self.parameters.items():
            if f"step/{name}" in state.tensors:
                self.optimizer.state[parameter] = {
                    key: state.tensors[f"{key}/{name}"].to("cpu" if key == "step" else self.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        if distributed.rank():  # the state has the first process's
            return
        torch.set_rng_state(state.tensors["rng"])
        if "cuda_rng" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["cuda_rng"])

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in weights.items():
            self.parameters[name].copy_(tensor)

    def save(self) -> None:
        if distributed.rank():
            return
        begun = time.monotonic()
        tensors: dict[str, torch.Tensor] = {f"model/{name}": p for name, p in self.parameters.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"{key}/{name}": value for key, value in self.optimizer.state.get(parameter, {}).items()}
        tensors["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["cuda_rng"] = torch.cuda.get_rng_state()
        save_state(self.path, TrainingState(tensors, vars(self.counters)))
        write_json_lines(self.lines, self.counters.lines)
        self.saved = time.monotonic()
        self.save_cost = self.saved - begun

    def epoch(self) -> None:
        counters, schedule = self.counters, self.schedule
        batches = self.task.batches(counters.epoch)
        if not batches:
            raise TrainingError(f"{schedule.stage}: there are no training examples: add purchases, reviews or days")
        self.task.model.train()
        begun = time.monotonic()
        while counters.step < len(batches):
            self.spent = counters.spent + counters.seconds + time.monotonic() - begun
            left = distributed.broadcast_from_first(schedule.share_of_time(self.spent))
            if left == 0 and counters.step:
                counters.out_of_time = True
                break
            self.step(batches[counters.step], left * schedule.rate(counters.epoch, counters.step / len(batches)))
            counters.step += 1
            self.report_progress(len(batches))
            if time.monotonic() - self.saved > max(_SAVE_SECONDS, _SAVE_COSTS * self.save_cost):
                counters.seconds += time.monotonic() - begun
                begun = time.monotonic()
                self.save()
        self.close_epoch(counters.seconds + time.monotonic() - begun)

    def step(self, batch: Batch, rate: float) -> None:
        """Take one gradient step of a learning rate."""
        counters, schedule = self.counters, self.schedule
        counters.rates = [*counters.rates[:1], rate]
        if counters.epoch == 0:
            rate *= min(1.0, (counters.step + 1) / max(schedule.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.private is not None:
            self.count(*private_step(self.private, self.parameters, batch, self.loss))
            return
        rows = distributed.own_rows(batch)
        total, own_weight = torch.zeros((), device=self.device), 0.0
        if len(rows):
            total, own_weight = self.loss(rows)
        weight = distributed.sum_over_processes(own_weight)
        if weight == 0:
            return
        self.optimizer.zero_grad(set_to_none=True)
        if own_weight:
            (total / weight).backward()
        distributed.sum_gradients(self.parameters.values())
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.count(distributed.sum_over_processes(float(total.detach())), weight)

    def loss(self, rows: Batch) -> tuple[torch.Tensor, float]:
        with autocast(self.device):
            return self.task.loss(rows)

    def count(self, loss: float, weight: float) -> None:
        """Add the loss of a step to that of the epoch."""
        if not math.isfinite(loss):
            stage, epoch = self.schedule.stage, self.counters.epoch + 1
            raise TrainingError(f"{stage}: the loss is not finite in epoch {epoch}: lower learning_rate")
        self.counters.loss += loss
        self.counters.weight += weight

    def close_epoch(self, seconds: float) -> None:
        counters, schedule = self.counters, self.schedule
        begun = time.monotonic()
        metrics: dict[str, float] = {}
        if self.task.validate is not None and not distributed.rank():
            self.task.model.eval()
            with torch.inference_mode():
                metrics = dict(self.task.validate())
        metrics = distributed.broadcast_from_first(metrics)
        line = {"stage": schedule.stage, "epoch": counters.epoch, "loss": counters.loss / max(counters.weight, 1e-9)}
        line |= {"seconds": round(seconds, 3), "learning_rate": [counters.rates[0], counters.rates[-1]]}
        counters.lines.append(line | metrics)
        scores = [line.get(self.task.scored, 0.0) for line in counters.lines]
        if scores.index(max(scores)) == counters.epoch:
            counters.best_epoch = counters.epoch
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        counters.epoch, counters.step = counters.epoch + 1, 0
        counters.spent += seconds + time.monotonic() - begun
        counters.loss = counters.weight = counters.seconds = 0.0
        counters.rates = []
        is_late = distributed.broadcast_from_first(schedule.share_of_time(counters.spent) == 0)
        ends = schedule.ends(scores)
        counters.out_of_time = is_late and not ends
        counters.finished = is_late or ends
        self.save()

    def report_progress(self, steps: int) -> None:
        self.steps_here += 1
        if self.report is None:
            return
        counters, schedule = self.counters, self.schedule
        newest = counters.lines[-1] if counters.lines else {}
        self.report(
            TrainingProgress(
                schedule.stage,
                counters.epoch,
                schedule.epochs,
                counters.step,
                steps,
                counters.loss / max(counters.weight, 1e-9),
                self.seconds_left(steps),
                {name: value for name, value in newest.items() if name not in NO_FIGURES},
            )
        )

    def seconds_left(self, steps: int) -> float:
        """The seconds until the end of the last epoch; early stopping may end before. NaN while no speed is known."""
        counters, schedule, now = self.counters, self.schedule, time.monotonic()
        if self.steps_here == 1:
            self.second_step_at = now
        left = steps * (schedule.epochs - counters.epoch) - counters.step
        if left == 0:
            return 0.0
        if self.steps_here <= _ESTIMATE_STEPS or now - self.started < ESTIMATE_SECONDS:
            return math.nan
        seconds = (now - self.second_step_at) / (self.steps_here - 1) * left
        return seconds if schedule.max_seconds is None else min(seconds, max(0.0, schedule.max_seconds - self.spent))


def _adamw(parameters: Mapping[str, torch.nn.Parameter], schedule: Schedule) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with weight decay on matrices only, as in nanoGPT."""
    matrices = [p for p in parameters.values() if p.dim() >= 2]
    vectors = [p for p in parameters.values() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=True)
