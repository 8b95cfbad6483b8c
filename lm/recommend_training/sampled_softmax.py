"""Sampled softmax for large catalogues: over the labels and a sample of the other items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lm.engine.device import choose_device

#: Above so many items the softmax is sampled.
SAMPLED_ABOVE = 200_000
SAMPLE = 16_384


@dataclass(frozen=True)
class SampledSoftmax:
    """Draws items with a probability in proportion to the 3/4 power of their purchases."""

    cumulative: torch.Tensor  # (items,) of the probabilities
    probability: torch.Tensor  # (items,)

    @classmethod
    def of(cls, purchases: NDArray[np.int64], *, unbought: bool) -> SampledSoftmax | None:
        """For the number of `purchases` of each item; None where the items are few enough to score all.

        With `unbought`, items that nobody has bought are drawn too.
        """
        if len(purchases) <= SAMPLED_ABOVE:
            return None
        weight = (float(unbought) + purchases) ** 0.75
        probability = torch.from_numpy(weight / weight.sum())
        return cls(probability.cumsum(0).to(choose_device()), probability.to(choose_device()))

    def draw(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ascending candidates (C,), which include every label, and the corrections (C,) of their logits.

        The correction log(draws / expected draws) gives the sampled normalizer the expectation of the full one
        (Bengio & Senécal, "Adaptive Importance Sampling", 2008). Labels are always in and need none.
        """
        points = torch.rand(SAMPLE, dtype=torch.float64, device=labels.device) * self.cumulative[-1]
        drawn, times = torch.searchsorted(self.cumulative, points).unique(return_counts=True)
        sure = labels.unique()
        other = ~torch.isin(drawn, sure)
        drawn, times = drawn[other], times[other]
        correction = (times / (SAMPLE * self.probability[drawn])).log()
        candidates, order = torch.cat([sure, drawn]).sort()
        return candidates, torch.cat([torch.zeros_like(sure, dtype=torch.float32), correction.float()])[order]
