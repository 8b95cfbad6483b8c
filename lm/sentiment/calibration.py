"""Turns logits into calibrated probabilities, and these into labels; fitted on validation reviews."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Bounds of GPT-2's weight, which is never 0, and of the other weights.
_GPT2_WEIGHTS, _WEIGHTS = (0.02, 50.0), (0.0, 20.0)
#: Penalties: half the inverse variance of the offsets, of the linear models' weights, and of GPT-2's weight.
_OFFSETS, _LINEAR, _GPT2 = 0.5, 0.01, 50.0
#: The largest share of random labels. The likelihood has two local optima, so two starts are tried.
_MOST_NOISE, _NOISE_STARTS = 0.3, (0.01, 0.1)
#: Power of the labels' shares that may raise rare labels.
_RARITY_POWER = 0.15
#: Fewer validation reviews of a label can hardly show whether raising it pays.
_FEW_REVIEWS = 30
_RESAMPLES = 1000


@dataclass(frozen=True)
class Mixture:
    """Adds the logits of GPT-2, the n-grams and the lexicon, and turns the sum into probabilities.

    P(text says) = softmax(gpt2 / temperature + ngram_weight * ngrams + lexicon_weight * lexicon + offsets): temperature
    scaling (Guo et al., ICML 2017) with a bias for each label, over a product of experts (Hinton, 2002).
    P(observed label) = P(text says) @ lapses. Lapses are labels that do not come from the text, such as stars that
    contradict it (Wichmann & Hill, 2001). Without them a few such labels make all probabilities less certain.
    """

    temperature: float = 1.0
    ngram_weight: float = 0.0
    lexicon_weight: float = 0.0
    offsets: Floats = field(default_factory=lambda: np.zeros(3))  # (labels,)
    lapses: Floats = field(default_factory=lambda: np.eye(3))  # (labels, labels) P(observed column | true row)

    def of_text(self, gpt2: Floats, ngrams: Floats | None = None, lexicon: Floats | None = None) -> Floats:
        """(texts, labels) probabilities of what each text says, from logits of the same shape."""
        logits = gpt2 / self.temperature + self.offsets
        if ngrams is not None:
            logits = logits + self.ngram_weight * ngrams
        if lexicon is not None:
            logits = logits + self.lexicon_weight * lexicon
        return softmax(logits)

    def observed(self, of_text: Floats) -> Floats:
        """(texts, labels) probabilities of the label that is observed, from those of what the text says."""
        return of_text @ self.lapses


def fit_linear(labels: Ints, counts: Floats, ngrams: Floats, lexicon: Floats | None = None) -> Mixture:
    """Fit all but GPT-2's weight: maximise the penalised likelihood of `labels` (rows,).

    The logits are (rows, labels), `counts` (rows,) weigh the rows. With few rows the weight of the n-grams is near 1
    and that of the lexicon near 0.
    """
    experts = np.stack([ngrams] if lexicon is None else [ngrams, lexicon])
    prior = np.array([1.0, 0.0])[: len(experts)]
    count = ngrams.shape[1]
    shares = (np.bincount(labels, counts, count) + 0.5) / (counts.sum() + 0.5 * count)

    def probabilities(values: Floats) -> Floats:
        weights, offsets, noise = np.split(values, [len(prior), -1])
        return softmax(np.tensordot(weights, experts, axes=1) + offsets) @ _lapses(noise.item(), shares)

    def penalty(values: Floats) -> float:
        weights, offsets, _ = np.split(values, [len(prior), -1])
        return float(_LINEAR * ((weights - prior) ** 2).sum() + _OFFSETS * (offsets**2).sum())

    starts = [np.array([*prior, *np.zeros(count), noise]) for noise in _NOISE_STARTS]
    bounds = [*[_WEIGHTS] * len(prior), *[(None, None)] * count, (0.0, _MOST_NOISE)]
    weights, offsets, noise = np.split(
        _likeliest(labels, counts, probabilities, penalty, starts, bounds), [len(prior), -1]
    )
    return Mixture(
        ngram_weight=weights[0].item(),
        lexicon_weight=0.0 if lexicon is None else weights[1].item(),
        offsets=offsets,
        lapses=_lapses(noise.item(), shares),
    )


def without_ngrams(mixture: Mixture) -> Mixture:
    """Make a mixture that was fitted with GPT-2's logits in the place of the n-grams' one that has none."""
    return replace(mixture, temperature=1 / max(mixture.ngram_weight, _GPT2_WEIGHTS[0]), ngram_weight=0.0)


def with_gpt2(
    linear: Mixture, labels: Ints, counts: Floats, gpt2: Floats, ngrams: Floats, lexicon: Floats | None = None
) -> Mixture:
    """Add GPT-2 to the `linear` mixture: fit its weight, and one scale of all the rest, on fewer rows.

    The penalties keep GPT-2's weight near 0 and the scale near 1 where there are few rows: GPT-2 chose its epoch on the
    same rows, so its logits look better there than they are.
    """
    prior = np.array([0.0, 1.0])

    def scaled(values: Floats) -> Mixture:
        weight, scale = values.tolist()
        return replace(
            linear,
            temperature=1 / weight,
            ngram_weight=scale * linear.ngram_weight,
            lexicon_weight=scale * linear.lexicon_weight,
            offsets=scale * linear.offsets,
        )

    def probabilities(values: Floats) -> Floats:
        mixture = scaled(values)
        return mixture.observed(mixture.of_text(gpt2, ngrams, lexicon))

    def penalty(values: Floats) -> float:
        return float(_GPT2 * ((values - prior) ** 2).sum())

    return scaled(_likeliest(labels, counts, probabilities, penalty, [np.array([0.1, 1.0])], [_GPT2_WEIGHTS, _WEIGHTS]))


def label_weights(p: Floats, labels: Ints, counts: Floats, seed: int = 0) -> Floats:
    """Weights (classes,) of the labels: the label of a text is the argmax of weight * P(observed label).

    The likeliest label is hardly ever a rare one. Shares to the power -0.15 raise rare labels where that has `worth` on
    validation; elsewhere all weights are 1. There is one exception: a label of fewer than _FEW_REVIEWS texts can show
    no gain, so rare labels are raised there unless the `worth` is negative. A label
    that does not occur has weight 0. `p` (rows, classes) are the probabilities of validation texts, `labels` (rows,)
    their labels, `counts` (rows,) the weights of the rows.
    """
    found = np.bincount(labels, counts, p.shape[1])
    occurs = found > 0
    likeliest: Floats = occurs.astype(np.float64)
    before = (likeliest * p).argmax(axis=1)
    shares = np.where(occurs, found, 1.0) / found.max()
    raised = np.where(occurs, shares**-_RARITY_POWER, 0.0)
    gain = worth(labels, before, (raised * p).argmax(axis=1), counts, p.shape[1], seed)
    is_unknown = gain == 0 and found[occurs].min() < _FEW_REVIEWS
    return raised if gain > 0 or is_unknown else likeliest


def worth(labels: Ints, before: Ints, after: Ints, counts: Floats, classes: int, seed: int = 0) -> float:
    """The gain of macro-F1 by the predictions `after`.

    It is 0 where the gain is within its standard error, and negative where macro-F1 or accuracy is lost beyond its
    own: then it is the larger loss. The standard errors are those of the paired differences, by the bootstrap (Efron,
    1979). All arrays are (rows,); `counts` weigh the rows.
    """
    joint = np.ravel_multi_index((labels, before, after), (classes,) * 3)
    cells = np.bincount(joint, counts, classes**3)
    rows = max(round(cells.sum()), 1)
    draws = np.random.default_rng(seed).multinomial(rows, cells / cells.sum(), _RESAMPLES)
    resampled = np.concatenate([cells[None], draws]).reshape(-1, classes, classes, classes)
    one, other = resampled.sum(axis=3), resampled.sum(axis=2)  # (draws, labels, predictions)
    f1 = _macro_f1(other) - _macro_f1(one)
    accuracy = _accuracy(other) - _accuracy(one)
    lost = [float(of[0]) for of in (f1, accuracy) if of[0] < -of[1:].std()]
    return min(lost) if lost else float(f1[0]) if f1[0] > f1[1:].std() else 0.0


def _macro_f1(confusion: Floats) -> Floats:
    """As `lm.metrics.metrics.macro_f1`, of each of (draws, labels, predictions) weights."""
    support = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = 2 * np.diagonal(confusion, axis1=1, axis2=2) / np.where(support > 0, support, 1.0)
    mean: Floats = f1.sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1)
    return mean


def _accuracy(confusion: Floats) -> Floats:
    shares: Floats = np.trace(confusion, axis1=1, axis2=2) / confusion.sum(axis=(1, 2))
    return shares


def softmax(logits: Floats) -> Floats:
    """(rows, classes) logits -> probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def negative_log_likelihood(p: Floats, labels: Ints, counts: Floats | None = None) -> float:
    """Mean -ln of the labels' probabilities, weighted by `counts`."""
    each = -np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12))
    return float(np.average(each, weights=counts))


def _likeliest(
    labels: Ints,
    counts: Floats,
    probabilities: Callable[[Floats], Floats],
    penalty: Callable[[Floats], float],
    starts: Sequence[Floats],
    bounds: Sequence[tuple[float | None, float | None]],
) -> Floats:
    """The values with the smallest penalised negative log-likelihood, from the best of the starts."""

    def loss(values: Floats) -> float:
        return negative_log_likelihood(probabilities(values), labels, counts) + penalty(values) / counts.sum()

    found = [minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    best: Floats = min(found, key=lambda result: float(result.fun)).x
    return best


def _lapses(noise: float, shares: Floats) -> Floats:
    """(labels, labels): the share `noise` of the labels is random, drawn by `shares` (labels,)."""
    lapses: Floats = (1 - noise) * np.eye(len(shares)) + noise * shares
    return lapses
