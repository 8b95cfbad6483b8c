"""The label that macro-F1 wants, from calibrated probabilities; fitted on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

#: Where the search begins: rare labels raised by their share to these powers.
_POWERS = np.linspace(0, 1, 6)
_ROUNDS = 50


@dataclass(frozen=True)
class LabelRule:
    """The label is that of the largest weights * (p - thresholds); none of either: the likeliest."""

    weights: Floats  # (labels,)
    thresholds: Floats  # (labels,)

    def choose(self, p: Floats) -> Labels:
        """(texts,) the label of each, from its probabilities (texts, labels)."""
        return (self.weights * (p - self.thresholds)).argmax(axis=1)


def fit_label_rule(p: Floats, labels: Labels, counts: Floats | None = None) -> LabelRule:
    """The rule for the largest macro-F1 of `labels` (texts,), whose calibrated probabilities are `p` (texts, labels)
    and of which each counts as much as `counts` (texts,) says, 1 by default.

    The likeliest label is right most often but hardly ever a rare one. F1 of a label is 2 hits / (chosen + true): one
    text more that is given it changes that by 2 (p - F1 / 2) / (chosen + true), so that weights are 1 / (chosen + true)
    and thresholds half of F1 (Lipton et al., "Optimal thresholding of classifiers to maximize F1", 2014), which are
    found in turns with the labels that they choose. Hits are counted as the mean of what the labels show and of what
    the probabilities promise, which wavers less where a label is rare. A label that `labels` lacks is chosen only where
    it is all but certain.
    """
    count = p.shape[1]
    truth = np.eye(count)[labels]
    present = np.flatnonzero(truth.any(axis=0))
    p, truth = p[:, present], truth[:, present]
    weighed = np.ones((len(p), 1)) if counts is None else counts[:, None]
    hits = weighed * (p + truth) / 2  # (texts, present) what is won where a label is chosen
    true = hits.sum(axis=0)
    found: list[tuple[float, Floats, Floats]] = []
    for power in _POWERS:
        weights, offsets = _of_sum_1(true**-power, np.zeros(len(present)))
        for _ in range(_ROUNDS):
            chosen = np.eye(len(present))[(weights * p - offsets).argmax(axis=1)]
            sizes = (weighed * chosen).sum(axis=0) + true
            f1 = 2 * (hits * chosen).sum(axis=0) / sizes
            found.append((float(f1.mean()), weights, offsets))
            wanted = _of_sum_1(1 / sizes, f1 / 2 / sizes)
            weights, offsets = (weights + wanted[0]) / 2, (offsets + wanted[1]) / 2  # half-way, lest it swings
    _, weights, offsets = max(found, key=lambda tried: tried[0])
    rule = LabelRule(np.ones(count), np.ones(count))
    rule.weights[present], rule.thresholds[present] = weights / weights.max(), offsets / weights
    return rule


def _of_sum_1(weights: Floats, offsets: Floats) -> tuple[Floats, Floats]:
    return weights / weights.sum(), offsets / weights.sum()
