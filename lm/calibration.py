"""From logits to probabilities that mean what they say; fitted on validation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

#: Bounds of what GPT-2's logits are divided by, and n-grams' multiplied with.
_TEMPERATURES = (0.02, 50.0)
_MOST_NGRAMS = 20.0
#: Half the inverse variance of an offset: with few reviews of a label its offset stays near 0.
_OFFSET_PENALTY = 0.5
#: At most this share of labels says nothing of its text. The likelihood has a hollow at each end: both are tried.
_MOST_NOISE = 0.3
_NOISE_STARTS = (0.01, 0.1)


@dataclass(frozen=True)
class Mixture:
    """p = (1 - sum(noise)) * softmax(gpt2 / temperature + sum(ngram_weights * ngrams) + offsets) + noise: temperature
    scaling (Guo et al., ICML 2017) with a bias for each label, the sum of the experts' log-odds (Hinton 2002), and
    labels that do not come from the text, as stars that contradict it (the lapses of psychometric functions, Wichmann
    & Hill 2001). Without these a few such labels would take the sureness from all others.
    """

    temperature: float = 1.0
    ngram_weights: Floats = field(default_factory=lambda: np.zeros(0))  # (heads,)
    offsets: Floats = field(default_factory=lambda: np.zeros(1))  # (labels,)
    noise: Floats = field(default_factory=lambda: np.zeros(1))  # (labels,) share of all texts with that label by chance

    def probabilities(self, gpt2: Floats, ngrams: Floats | None = None) -> Floats:
        """(texts, labels), from GPT-2's logits (texts, labels) and the n-grams' (heads, texts, labels)."""
        logits = gpt2 / self.temperature + self.offsets
        p = softmax(logits if ngrams is None else logits + np.tensordot(self.ngram_weights, ngrams, axes=1))
        return (1 - self.noise.sum()) * p + self.noise


def softmax(logits: Floats) -> Floats:
    """(rows, classes) logits -> probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_likelihoods(p: Floats, labels: Labels) -> Floats:
    """(rows,) ln of each label's probability, from those of all labels (rows, labels)."""
    each: Floats = np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12))
    return each


def negative_log_likelihood(p: Floats, labels: Labels) -> float:
    """Mean -ln of the label's probability."""
    return -float(log_likelihoods(p, labels).mean())


def fit_mixture(labels: Labels, gpt2: Floats, ngrams: Floats | None = None) -> Mixture:
    """The mixture that makes `labels` (rows,) likeliest, of logits as `Mixture.probabilities` takes them.

    What is noise among them is drawn as often as each label occurs.
    """
    rows, count = gpt2.shape
    parts = np.stack([gpt2, *([] if ngrams is None else ngrams)])  # (experts, rows, labels)
    truth = np.eye(count)[labels]
    shares = (np.bincount(labels, minlength=count) + 0.5) / (rows + 0.5 * count)

    def loss(values: Floats) -> tuple[float, Floats]:
        scales, offsets, noise = values[: len(parts)], values[len(parts) : -1], values[-1]
        p = softmax(np.tensordot(scales, parts, axes=1) + offsets)
        own = (p * truth).sum(axis=1)  # (rows,) of the label
        given = np.maximum((1 - noise) * own + noise * shares[labels], 1e-300)
        error = (p - truth) * ((1 - noise) * own / given)[:, None]
        slopes = [
            *(parts * error).sum(axis=(1, 2)),
            *(error.sum(axis=0) + 2 * _OFFSET_PENALTY * offsets),
            ((own - shares[labels]) / given).sum(),
        ]
        return (-np.log(given).sum() + _OFFSET_PENALTY * (offsets**2).sum()) / rows, np.array(slopes) / rows

    low, high = 1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]
    bounds = [(low, high), *[(0.0, _MOST_NGRAMS)] * (len(parts) - 1), *[(None, None)] * count, (0.0, _MOST_NOISE)]
    starts = [[1.0 / len(parts)] * len(parts) + [0.0] * count + [noise] for noise in _NOISE_STARTS]
    tried = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best: Floats = min(tried, key=lambda result: float(result.fun)).x
    return Mixture(1 / float(best[0]), best[1 : len(parts)], best[len(parts) : -1], best[-1] * shares)
