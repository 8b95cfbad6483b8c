"""A softmax over some of the items, where all of them are too many: the labels and a sample of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lm.engine.device import choose_device

#: Above so many items the softmax is over the batch's own items and a sample of the others.
SAMPLED_ABOVE = 200_000
SAMPLE = 16_384


@dataclass(frozen=True)
class SampledSoftmax:
    """Items drawn in place of the whole softmax, by the 3/4 power of how often they are bought."""

    cumulative: torch.Tensor  # (items,) of the drawing probability
    probability: torch.Tensor  # (items,)

    @classmethod
    def of(cls, bought: Sequence[int] | NDArray[np.int64], items: int, *, unbought: bool) -> SampledSoftmax | None:
        """For purchases `bought` (codes) of so many items; None where they are few enough to score all.

        `unbought`: items that nobody has bought are drawn too.
        """
        if items <= SAMPLED_ABOVE:
            return None
        counts = float(unbought) + np.bincount(np.asarray(bought, dtype=np.int64), minlength=items)
        probability = torch.from_numpy(counts**0.75 / (counts**0.75).sum())
        return cls(probability.cumsum(0).to(choose_device()), probability.to(choose_device()))

    def draw(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidates (C,), rising, among them every label, and the logits' correction (C,) by -log expected draws.

        The labels of the batch are always in; with the others corrected, the sampled normalizer has the full
        one's expectation (Bengio & Senécal, "Adaptive Importance Sampling", 2008).
        """
        points = torch.rand(SAMPLE, dtype=torch.float64, device=labels.device) * self.cumulative[-1]
        drawn, times = torch.searchsorted(self.cumulative, points).unique(return_counts=True)
        sure = labels.unique()
        other = ~torch.isin(drawn, sure)
        drawn, times = drawn[other], times[other]
        correction = (times / (SAMPLE * self.probability[drawn])).log()
        candidates, order = torch.cat([sure, drawn]).sort()
        return candidates, torch.cat([torch.zeros_like(sure, dtype=torch.float32), correction.float()])[order]
