"""Draws the loss and the validation figures of a training by epoch: `training.svg` in the model's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.pictures import charts

#: What is no figure in a line of an epoch.
_NO_FIGURES = ("stage", "epoch", "seconds", "learning_rate", "customers")


def training_svg(task: str, lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the SVG of a training's `lines`, one an epoch, as `regulars.json` has them; None without lines.

    Losses have the left axis, all other figures the right one.
    """
    names = list(dict.fromkeys(name for line in lines for name in line if name not in _NO_FIGURES))
    if not lines or not names:
        return None
    values = {name.replace("_", " "): [line.get(name) for line in lines] for name in names}
    losses = {name: of for name, of in values.items() if "loss" in name}
    others = {name: of for name, of in values.items() if name not in losses}
    epochs = [str(int(line["epoch"]) + 1) for line in lines]
    return charts.curves(f"Training of {task} by epoch", epochs, losses, others)
