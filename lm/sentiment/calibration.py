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
#: At most this share of the texts that say a label is given one by chance. The likelihood has a hollow at each end:
#: both are tried.
_MOST_NOISE = 0.3
_NOISE_STARTS = (0.01, 0.1)
#: Half the inverse variance of such shares among each other: with few reviews of a label its own is that of all.
_NOISE_PENALTY = 20.0
#: Standard errors of likelihood that they must be worth: one is soon had by more parameters.
_OWN_NOISE = 2.0


@dataclass(frozen=True)
class Mixture:
    """p = softmax(r**length_power * (gpt2 / temperature + sum(ngram_weights * ngrams) + lexicon_weight * lexicon)
    + offsets) @ lapses: temperature scaling (Guo et al., ICML 2017) with a bias for each label, the sum of the experts'
    log-odds (Hinton 2002), and labels that do not come from the text, as stars that contradict it (the lapses of
    psychometric functions, Wichmann & Hill 2001). Without these a few such labels would take the sureness from all
    others. Labels may have their own (class-conditional noise, Patrini et al., CVPR 2017): where most stars are five,
    one in eight texts that complain may have them, and hardly one that praises has one star.

    r is a text's length to the middle of the usual ones: where few words say it plainly and long texts weigh both
    sides, what is learned from all of them is too sure of the long ones.
    """

    temperature: float = 1.0
    ngram_weights: Floats = field(default_factory=lambda: np.zeros(0))  # (heads,)
    offsets: Floats = field(default_factory=lambda: np.zeros(1))  # (labels,)
    lapses: Floats = field(default_factory=lambda: np.eye(3))  # (labels, labels) of texts that say a row's label, the
    # share that is given the column's
    length_power: float = 0.0
    usual_lengths: tuple[float, float] = (1.0, 1.0)  # characters; others count as the nearer of the two
    lexicon_weight: float = 0.0

    def probabilities(
        self, gpt2: Floats, lengths: Ints, ngrams: Floats | None = None, lexicon: Floats | None = None
    ) -> Floats:
        """(texts, labels) of the label that is given, from what `of_text` takes."""
        return self.given(self.of_text(gpt2, lengths, ngrams, lexicon))

    def given(self, of_text: Floats) -> Floats:
        """(texts, labels) probabilities of the label that is given, from those of what the texts say."""
        return of_text @ self.lapses

    def of_text(
        self, gpt2: Floats, lengths: Ints, ngrams: Floats | None = None, lexicon: Floats | None = None
    ) -> Floats:
        """(texts, labels) probabilities of what the texts say, whatever labels such texts are given: from GPT-2's
        logits (texts, labels), the texts' lengths, the n-grams' logits (heads, texts, labels) and the lexicon's
        (texts, labels).
        """
        logits = gpt2 / self.temperature
        if ngrams is not None:
            logits = logits + np.tensordot(self.ngram_weights, ngrams, axes=1)
        if lexicon is not None:
            logits = logits + self.lexicon_weight * lexicon
        scale = np.exp(self.length_power * _log_ratios(lengths, self.usual_lengths))
        return softmax(scale[:, None] * logits + self.offsets)


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


def surely_more(of: Floats, than: Floats, counts: Floats, errors: float) -> bool:
    """Whether the mean of `of` (rows,) is higher than that of `than` by more than so many standard errors; each row
    counts as much as `counts` (rows,) says.
    """
    gain = of - than
    mean = np.average(gain, weights=counts)
    return bool(mean > errors * np.sqrt(np.average((gain - mean) ** 2, weights=counts) / counts.sum()))


def negative_log_likelihood(p: Floats, labels: Ints) -> float:
    """Mean -ln of the label's probability."""
    return -float(log_likelihoods(p, labels).mean())


def fit_mixture(
    labels: Ints,
    gpt2: Floats,
    lengths: Ints,
    ngrams: Floats | None = None,
    lexicon: Floats | None = None,
    counts: Floats | None = None,
) -> Mixture:
    """The mixture that makes `labels` (rows,) likeliest, of what `Mixture.probabilities` takes; `counts` (rows,) is how
    much each counts, 1 by default.

    A label that does not come from the text is drawn as often as each occurs. As many texts have one whatever they
    say, unless it is likelier by more than _OWN_NOISE standard errors that those who say one label have it oftener.
    """
    counts = np.ones(len(labels)) if counts is None else counts
    alike, apart = (_likeliest(labels, gpt2, lengths, ngrams, lexicon, counts, own) for own in (False, True))
    of_alike, of_apart = (
        log_likelihoods(mixture.probabilities(gpt2, lengths, ngrams, lexicon), labels) for mixture in (alike, apart)
    )
    return apart if surely_more(of_apart, of_alike, counts, _OWN_NOISE) else alike


def _likeliest(
    labels: Ints,
    gpt2: Floats,
    lengths: Ints,
    ngrams: Floats | None,
    lexicon: Floats | None,
    counts: Floats,
    own_noise: bool,
) -> Mixture:
    """That of `fit_mixture`, with as much noise for all labels or its own for each."""
    count, rows = gpt2.shape[1], counts.sum()
    others = [*([] if ngrams is None else ngrams), *([] if lexicon is None else [lexicon])]
    parts = np.stack([gpt2, *others])  # (experts, rows, labels)
    truth = np.eye(count)[labels]
    shares = (np.bincount(labels, counts, count) + 0.5) / (rows + 0.5 * count)
    low, high = np.percentile(np.maximum(lengths, 1), _USUAL_LENGTHS).tolist()
    ratios = _log_ratios(lengths, (low, high))

    def taken(values: Floats) -> tuple[Floats, Floats, float, Floats]:
        """Scales (experts,), offsets (labels,), the power of length and the noise (labels,)."""
        scales, offsets, power, noise = np.split(values, np.cumsum([len(parts), count, 1]))
        return scales, offsets, float(power[0]), np.broadcast_to(noise, count)

    def loss(values: Floats) -> tuple[float, Floats]:
        scales, offsets, power, noise = taken(values)
        powers = np.exp(power * ratios)[:, None]
        logits = powers * np.tensordot(scales, parts, axes=1)
        of_text = softmax(logits + offsets)
        to_label = _lapses(noise, shares).T[labels]  # (rows, labels) from what a text may say to its label
        given = np.maximum((of_text * to_label).sum(axis=1), 1e-300)
        weighed = of_text * (counts / given)[:, None]
        error = weighed * (given[:, None] - to_label)
        apart = noise - noise.mean()
        of_noise = (weighed * (truth - shares[labels][:, None])).sum(axis=0) + 2 * _NOISE_PENALTY * apart
        slopes = [
            *(parts * (powers * error)).sum(axis=(1, 2)),
            *(error.sum(axis=0) + 2 * _OFFSET_PENALTY * offsets),
            ((error * logits).sum(axis=1) * ratios).sum() + 2 * _POWER_PENALTY * power,
            *(of_noise if own_noise else [of_noise.sum()]),
        ]
        penalty = _OFFSET_PENALTY * (offsets**2).sum() + _POWER_PENALTY * power**2 + _NOISE_PENALTY * (apart**2).sum()
        return (-(counts * np.log(given)).sum() + penalty) / rows, np.array(slopes) / rows

    scale, other_scale = (1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]), (0.0, _MOST_OTHERS)
    bounds = [scale, *[other_scale] * (len(parts) - 1), *[(None, None)] * count]
    noises = count if own_noise else 1
    bounds += [(-_MOST_POWER, _MOST_POWER), *[(0.0, _MOST_NOISE)] * noises]
    starts = [[1.0 / len(parts)] * len(parts) + [0.0] * (count + 1) + [noise] * noises for noise in _NOISE_STARTS]
    tried = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    scales, offsets, power, noise = taken(min(tried, key=lambda result: float(result.fun)).x)
    ngram_weights, lexicon_weight = (scales[1:], 0.0) if lexicon is None else (scales[1:-1], float(scales[-1]))
    lapses = _lapses(noise, shares)
    return Mixture(1 / float(scales[0]), ngram_weights, offsets, lapses, power, (low, high), lexicon_weight)


def _lapses(noise: Floats, shares: Floats) -> Floats:
    """(labels, labels) of `Mixture.lapses`, where of texts that say a label the share `noise` (labels,) is given one
    that is drawn by `shares` (labels,).
    """
    return np.diag(1 - noise) + np.outer(noise, shares)
