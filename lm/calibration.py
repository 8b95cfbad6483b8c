"""From logits to probabilities that mean what they say; fitted on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Bounds of what GPT-2's logits are divided by, and the others' multiplied with.
_TEMPERATURES = (0.02, 50.0)
_MOST_OTHERS = 20.0
#: Half the inverse variance of an offset: with few reviews of a label its offset stays near 0.
_OFFSET_PENALTY = 0.5
#: The same of the power of length, and its bound.
_POWER_PENALTY = 12.5
_MOST_POWER = 1.0
#: Of the validation texts' lengths, in percent: what is longer or shorter counts as these.
_USUAL_LENGTHS = (2.5, 97.5)
#: At most this share of labels says nothing of its text. The likelihood has a hollow at each end: both are tried.
_MOST_NOISE = 0.3
_NOISE_STARTS = (0.01, 0.1)


@dataclass(frozen=True)
class Mixture:
    """p = (1 - sum(noise)) * softmax(r**length_power * (gpt2 / temperature + sum(ngram_weights * ngrams)
    + lexicon_weight * lexicon) + offsets) + noise: temperature scaling (Guo et al., ICML 2017) with a bias for each
    label, the sum of the experts' log-odds (Hinton 2002), and labels that do not come from the text, as stars that
    contradict it (the lapses of psychometric functions, Wichmann & Hill 2001). Without these a few such labels would
    take the sureness from all others.

    r is a text's length to the middle of the usual ones: where few words say it plainly and long texts weigh both
    sides, what is learned from all of them is too sure of the long ones.
    """

    temperature: float = 1.0
    ngram_weights: Floats = field(default_factory=lambda: np.zeros(0))  # (heads,)
    offsets: Floats = field(default_factory=lambda: np.zeros(1))  # (labels,)
    noise: Floats = field(default_factory=lambda: np.zeros(1))  # (labels,) share of all texts with that label by chance
    length_power: float = 0.0
    usual_lengths: tuple[float, float] = (1.0, 1.0)  # characters; others count as the nearer of the two
    lexicon_weight: float = 0.0

    def probabilities(
        self, gpt2: Floats, lengths: Ints, ngrams: Floats | None = None, lexicon: Floats | None = None
    ) -> Floats:
        """(texts, labels), from GPT-2's logits (texts, labels), the texts' lengths, the n-grams' logits
        (heads, texts, labels) and the lexicon's (texts, labels).
        """
        logits = gpt2 / self.temperature
        if ngrams is not None:
            logits = logits + np.tensordot(self.ngram_weights, ngrams, axes=1)
        if lexicon is not None:
            logits = logits + self.lexicon_weight * lexicon
        scale = np.exp(self.length_power * _log_ratios(lengths, self.usual_lengths))
        return (1 - self.noise.sum()) * softmax(scale[:, None] * logits + self.offsets) + self.noise


def text_lengths(texts: Sequence[str]) -> Ints:
    """(texts,) characters of each, as `Mixture` counts them."""
    return np.array([len(text) for text in texts], dtype=np.int64)


def _log_ratios(lengths: Ints, usual: tuple[float, float]) -> Floats:
    """(texts,) ln of each length to the middle of the usual ones, which on that scale is half-way."""
    low, high = np.log(usual)
    of: Floats = np.log(np.clip(lengths, *usual)) - (low + high) / 2
    return of


def softmax(logits: Floats) -> Floats:
    """(rows, classes) logits -> probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_likelihoods(p: Floats, labels: Ints) -> Floats:
    """(rows,) ln of each label's probability, from those of all labels (rows, labels)."""
    each: Floats = np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12))
    return each


def negative_log_likelihood(p: Floats, labels: Ints) -> float:
    """Mean -ln of the label's probability."""
    return -float(log_likelihoods(p, labels).mean())


def fit_mixture(
    labels: Ints, gpt2: Floats, lengths: Ints, ngrams: Floats | None = None, lexicon: Floats | None = None
) -> Mixture:
    """The mixture that makes `labels` (rows,) likeliest, of what `Mixture.probabilities` takes.

    What is noise among them is drawn as often as each label occurs.
    """
    rows, count = gpt2.shape
    others = [*([] if ngrams is None else ngrams), *([] if lexicon is None else [lexicon])]
    parts = np.stack([gpt2, *others])  # (experts, rows, labels)
    truth = np.eye(count)[labels]
    shares = (np.bincount(labels, minlength=count) + 0.5) / (rows + 0.5 * count)
    low, high = np.percentile(np.maximum(lengths, 1), _USUAL_LENGTHS).tolist()
    ratios = _log_ratios(lengths, (low, high))

    def loss(values: Floats) -> tuple[float, Floats]:
        scales, offsets, (power, noise) = values[: len(parts)], values[len(parts) : -2], values[-2:]
        powers = np.exp(power * ratios)[:, None]
        logits = powers * np.tensordot(scales, parts, axes=1)
        p = softmax(logits + offsets)
        own = (p * truth).sum(axis=1)  # (rows,) of the label
        given = np.maximum((1 - noise) * own + noise * shares[labels], 1e-300)
        error = (p - truth) * ((1 - noise) * own / given)[:, None]
        slopes = [
            *(parts * (powers * error)).sum(axis=(1, 2)),
            *(error.sum(axis=0) + 2 * _OFFSET_PENALTY * offsets),
            ((error * logits).sum(axis=1) * ratios).sum() + 2 * _POWER_PENALTY * power,
            ((own - shares[labels]) / given).sum(),
        ]
        penalty = _OFFSET_PENALTY * (offsets**2).sum() + _POWER_PENALTY * power**2
        return (-np.log(given).sum() + penalty) / rows, np.array(slopes) / rows

    scale, other_scale = (1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]), (0.0, _MOST_OTHERS)
    bounds = [scale, *[other_scale] * (len(parts) - 1), *[(None, None)] * count]
    bounds += [(-_MOST_POWER, _MOST_POWER), (0.0, _MOST_NOISE)]
    starts = [[1.0 / len(parts)] * len(parts) + [0.0] * count + [0.0, noise] for noise in _NOISE_STARTS]
    tried = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best: Floats = min(tried, key=lambda result: float(result.fun)).x
    scales, offsets, (power, noise) = best[: len(parts)], best[len(parts) : -2], best[-2:].tolist()
    ngram_weights, lexicon_weight = (scales[1:], 0.0) if lexicon is None else (scales[1:-1], float(scales[-1]))
    return Mixture(1 / float(scales[0]), ngram_weights, offsets, noise * shares, power, (low, high), lexicon_weight)
