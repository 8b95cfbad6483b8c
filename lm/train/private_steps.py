"""Gradient steps with differential privacy (DP-SGD), by the optimizer and the accountant of the library opacus.

Source: Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016). Each step draws every example with the same
probability, clips the gradient of each to a norm, and adds Gaussian noise to their sum. Gradients are computed one
example at a time: so they are right for tied embeddings and any other model, and slower than those of a batch.

The draws and the noise have no seed: with a known one the noise could be subtracted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from lm.train import distributed
from lm.train.training_state import TrainingError

if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

#: The accountant: Renyi differential privacy (Mironov 2017).
ACCOUNTANT = "rdp"
#: Most examples of a step, as a share of all: few large steps would learn little.
_MOST_DRAWN = 0.25

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class PrivacyBudget:
    """What a training may tell of one unit: (epsilon, delta); `delta` is by default 1 / units^1.1."""

    epsilon: float
    delta: float | None = None
    clip_norm: float = 1.0  # largest norm of one example's gradient
    batch: int = 256  # examples of a step, on average


def refuse_unprotected_stages(budget: PrivacyBudget | None, settings: Mapping[str, bool]) -> None:
    """Raise TrainingError where a budget is given and a stage would learn without noise; `settings` maps key to use."""
    used = [key for key, is_used in settings.items() if is_used]
    if budget is not None and used:
        raise TrainingError(f"{', '.join(used)}: this learns without noise. Leave it out, or remove train.dp_epsilon")


@dataclass(frozen=True)
class PrivateSteps:
    """The steps of one training: `sample_rate` is the probability of each example in each step."""

    unit: str  # what one example is
    delta: float
    clip_norm: float
    noise_multiplier: float  # standard deviation of the noise over clip_norm
    sample_rate: float
    expected_batch: int
    steps_of_epoch: int
    epochs: int

    @classmethod
    def plan(cls, budget: PrivacyBudget, examples: int, epochs: int, unit: str, *, min_steps: int = 0) -> PrivateSteps:
        """The steps of `epochs` passes over so many examples, or more, with the least noise that keeps to the budget.

        There are at least `min_steps`. `unit` says what one example is. Raises TrainingError where opacus is not
        installed, in several processes, for too few examples, and for a budget that no noise can keep to.
        """
        try:
            from opacus.accountants.utils import get_noise_multiplier
        except ImportError as error:
            raise TrainingError(
                "dp_epsilon needs opacus: pip install 'regulars[dp]', or remove train.dp_epsilon"
            ) from error
        if distributed.process_count() > 1:
            raise TrainingError("dp_epsilon needs one process: set train.recommend.processes to 1")
        batch = min(budget.batch, int(examples * _MOST_DRAWN))
        if batch < 1:
            raise TrainingError(f"{examples} examples are too few for train.dp_epsilon: remove it, or add data")
        steps = -(-examples // batch)
        epochs = max(epochs, -(-min_steps // steps))
        delta = budget.delta or float(examples) ** -1.1
        rate = batch / examples
        try:
            with _without_warnings():
                noise = get_noise_multiplier(
                    target_epsilon=budget.epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps * epochs,
                    accountant=ACCOUNTANT,
                )
        except ValueError:
            raise TrainingError(f"train.dp_epsilon {budget.epsilon} is too small: no noise is enough for it") from None
        return cls(unit, delta, budget.clip_norm, noise, rate, batch, steps, epochs)

    def batches(self, examples: Sequence[Row]) -> list[list[Row]]:
        """The steps of an epoch: each draws every example by itself, so a step may be empty (Poisson sampling)."""
        rng = np.random.default_rng()
        drawn = [rng.random(len(examples)) < self.sample_rate for _ in range(self.steps_of_epoch)]
        return [[examples[place] for place in np.flatnonzero(step).tolist()] for step in drawn]

    def optimizer(self, optimizer: torch.optim.Optimizer, device: torch.device) -> DPOptimizer:
        """Wrap an optimizer, which then clips and adds noise."""
        from opacus.optimizers import DPOptimizer

        generator = torch.Generator(device)
        generator.seed()
        return DPOptimizer(
            optimizer,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.clip_norm,
            expected_batch_size=self.expected_batch,
            generator=generator,
        )

    @property
    def epsilon(self) -> float:
        """The epsilon that all steps spend."""
        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()
        accountant.history = [(self.noise_multiplier, self.sample_rate, self.steps_of_epoch * self.epochs)]
        with _without_warnings():
            return float(accountant.get_epsilon(self.delta))

    def notes(self, not_covered: Sequence[str]) -> dict[str, Any]:
        """The guarantee as JSON, for the manifest; `not_covered` names parts of the model that learn without noise."""
        return {
            "epsilon": round(self.epsilon, 4),
            "delta": self.delta,
            "unit": self.unit,
            "covers": "the weights of GPT-2",
            "not_covered": list(not_covered),
            "noise_multiplier": self.noise_multiplier,
            "clip_norm": self.clip_norm,
            "sample_rate": self.sample_rate,
            "steps": self.steps_of_epoch * self.epochs,
            "accountant": ACCOUNTANT,
        }


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence opacus where its bound holds and could be a little tighter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        yield


def private_step(
    optimizer: DPOptimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    batch: Any,
    loss: Callable[[Any], tuple[torch.Tensor, float]],
) -> tuple[float, float]:
    """Take one step on the mean loss of each example of a list or an array; return the sums of losses and weights.

    `loss` returns the sum over a batch of one example, and the divisor that makes it a mean. A step without examples
    is noise alone. The loss may be NaN or infinite.
    """
    total_loss, total_weight = 0.0, 0.0
    for place in range(max(1, len(batch))):
        optimizer.zero_grad(set_to_none=True)
        if len(batch):
            total, weight = loss(batch[place : place + 1])
            if weight:
                (total / weight).backward()
            total_loss, total_weight = total_loss + float(total.detach()), total_weight + weight
        for parameter in parameters.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            of_example = gradient[None] if len(batch) else gradient.new_zeros((0, *parameter.shape))
            parameter.grad_sample = of_example  # type: ignore[attr-defined]  # opacus looks for it there
        optimizer.signal_skip_step(place + 1 < len(batch))
        optimizer.step()
    return (total_loss, total_weight) if math.isfinite(total_loss) else (math.nan, total_weight)
