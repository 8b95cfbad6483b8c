"""Differential privacy: what one example can change, how much noise there is, and what the manifest says of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lm.train.learning_rate import Schedule
from lm.train.private_steps import PrivacyBudget, PrivateSteps, private_step, refuse_unprotected_stages
from lm.train.training_loop import TrainingTask, fit
from lm.train.training_state import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")
#: Steps without noise, whose gradients can be compared with those of plain training.
QUIET = PrivateSteps("one row", 1e-5, 1e9, 0.0, 0.5, 4, 2, 3)
ROWS = torch.tensor([[1.0, 2.0], [0.0, -3.0], [4.0, 0.5], [-2.0, 1.0]])


class TiedModel(nn.Module):
    """The same weight twice, as GPT-2 ties its embeddings: a layer by layer gradient would miss one use of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.4]]))

    def loss(self, rows: list[int]) -> tuple[torch.Tensor, float]:
        return ((torch.tanh(ROWS[rows] @ self.weight) @ self.weight.T) ** 2).sum(), float(len(rows))


def gradient_of(steps: PrivateSteps, rows: list[int]) -> tuple[torch.Tensor, tuple[float, float]]:
    """The gradient that one step takes, with what it returns: plain SGD of rate 1 from the model's first weights."""
    model = TiedModel()
    begin = model.weight.detach().clone()
    optimizer = steps.optimizer(torch.optim.SGD(model.parameters(), lr=1.0), torch.device("cpu"))
    told = private_step(optimizer, dict(model.named_parameters()), rows, model.loss)
    return begin - model.weight.detach(), told


def test_without_noise_and_clipping_a_step_has_the_gradient_of_the_batch() -> None:
    model = TiedModel()
    total, _ = model.loss([0, 1, 3])
    total.backward()
    found, told = gradient_of(QUIET, [0, 1, 3])
    assert model.weight.grad is not None
    torch.testing.assert_close(found, model.weight.grad / QUIET.expected_batch)
    assert told == pytest.approx((float(total.detach()), 3.0))


@pytest.mark.parametrize("row", range(4))
def test_one_example_changes_a_step_by_no_more_than_the_clip_norm(row: int) -> None:
    steps = replace(QUIET, clip_norm=0.01, expected_batch=1)
    others = [other for other in range(4) if other != row]
    change = gradient_of(steps, [*others, row])[0] - gradient_of(steps, others)[0]
    assert float(change.norm()) == pytest.approx(0.01, rel=1e-3)


def test_noise_has_the_size_of_the_multiplier_and_another_value_each_time() -> None:
    steps = replace(QUIET, clip_norm=2.0, noise_multiplier=3.0)
    empty = torch.stack([gradient_of(steps, [])[0] for _ in range(500)])
    assert float(empty.std()) * QUIET.expected_batch == pytest.approx(6.0, rel=0.1)
    assert float(empty.mean()) == pytest.approx(0, abs=0.15)
    assert not torch.equal(empty[0], empty[1])


def test_each_step_draws_every_example_by_itself() -> None:
    drawn = [step for _ in range(200) for step in replace(QUIET, sample_rate=0.3).batches(list(range(10)))]
    assert len(drawn) == 400
    assert np.mean([len(step) for step in drawn]) == pytest.approx(3, abs=0.3)
    counts = np.bincount(np.concatenate([np.array(step, dtype=np.int64) for step in drawn]), minlength=10)
    assert counts.min() > 80
    assert counts.max() < 160
    assert any(not step for step in drawn)


def test_the_noise_spends_the_budget_and_no_more() -> None:
    from opacus.accountants import PRVAccountant

    steps = PrivateSteps.plan(PrivacyBudget(epsilon=1.0, batch=64), 2000, 12, "one customer")
    assert steps.delta == pytest.approx(2000**-1.1)
    assert 0.98 < steps.epsilon <= 1
    tighter = PRVAccountant()  # another way to count the same steps
    tighter.history = [(steps.noise_multiplier, steps.sample_rate, steps.steps_of_epoch * steps.epochs)]
    assert 0.7 < tighter.get_epsilon(steps.delta) < 1
    notes = steps.notes(["the figures"])
    assert notes["steps"] == 12 * 32
    assert (notes["unit"], notes["clip_norm"], notes["accountant"]) == ("one customer", 1.0, "rdp")
    assert PrivateSteps.plan(PrivacyBudget(epsilon=8.0), 100, 2, "one review", min_steps=50).epochs == 13


def test_a_private_training_learns_and_keeps_its_last_epoch(tmp_path: Path) -> None:
    def task(budget: PrivacyBudget) -> TrainingTask[Any]:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        steps = PrivateSteps.plan(budget, 80, 15, "one row")

        def loss(batch: list[int]) -> tuple[torch.Tensor, float]:
            return (model.weight - 3).pow(2).sum() * len(batch), float(len(batch))

        worse = iter(range(0, -100, -1))  # the first epoch is the best one, but choosing it would tell of the data
        return TrainingTask(
            model, lambda epoch: steps.batches(range(80)), loss, lambda: {"score": next(worse)}, "score", steps
        )

    learning = task(PrivacyBudget(epsilon=20.0, batch=20))
    outcome = fit(learning, Schedule("finetune", 15, learning_rate=0.3, weight_decay=0), tmp_path)
    (weight,) = learning.model.parameters()
    assert weight.item() == pytest.approx(3, abs=0.7)
    assert outcome.best_epoch == 14
    assert outcome.lines[0]["score"] == 0


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (lambda: PrivateSteps.plan(PrivacyBudget(epsilon=1.0), 3, 1, "one row"), "3 examples are too few"),
        (lambda: PrivateSteps.plan(PrivacyBudget(epsilon=0.1, delta=1e-30), 100, 1, "one row"), "too small"),
        (
            lambda: refuse_unprotected_stages(PrivacyBudget(epsilon=1.0), {"refit": True, "pretrain_epochs": False}),
            "^refit: this learns without noise",
        ),
    ],
)
def test_what_cannot_be_private_is_refused(plan: Callable[[], object], reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        plan()


def test_a_missing_opacus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants.utils", None)
    with pytest.raises(TrainingError, match=r"pip install 'regulars\[dp\]'"):
        PrivateSteps.plan(PrivacyBudget(epsilon=1.0), 100, 1, "one row")
