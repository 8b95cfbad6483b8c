"""Fits the weights of the mixture of GPT-2 and counted purchases, with a prior that leans towards counting.

The likelihood is that of a conditional logit (McFadden 1974). Weights have normal priors:

* With few validation customers (FEW) counting is fitted first, without GPT-2, on earlier parts of the shop's history
  (`lm.recommend_training.counting_folds`). The weights of the mixture then lie around it, and GPT-2's around 0. So
  GPT-2 gains weight only as far as validation customers ask for it.
* With more of them the prior is GPT-2 alone with variance 1, which so many customers outweigh.

Popularity is left out where lists without it are better. A better likelihood is no better list: it also counts what
stands far below the first ten. Counting alone, which makes the lists where a baseline beats the mixture, has popularity
only where it gains beyond its interval: it may help short histories and harm the longer ones of later nights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lm.metrics import metrics
from lm.recommend.co_purchase import FEATURES, OWN, weighted_sum
from lm.recommend_training.fit_candidates import FitRows

#: Below so many validation customers the prior leans towards counting.
FEW = 1000
#: One over the variance of that prior, for GPT-2's weight and for those of counting: standard deviations of 0.32 and
#: 0.14. Folds have hundreds of customers, so they are trusted more than a few dozen validation customers.
GPT2_STRENGTH, COUNTING_STRENGTH = 10.0, 50.0
#: Length of the lists that decide whether popularity pays.
K = 10
Weights = tuple[float, ...]
GPT2_ALONE: Weights = (1.0, *[0.0] * (len(FEATURES) - 1))
NOTHING: Weights = (0.0,) * len(FEATURES)


class MixtureWeights(NamedTuple):
    """The weights of FEATURES for the mixture, and for counting without GPT-2."""

    mixture: Weights
    counting: Weights


def fit_mixture(rows: FitRows, folds: Sequence[FitRows]) -> MixtureWeights:
    """The weights for validation customers `rows`; `folds` are earlier customers without GPT-2's logits.

    Of the two fits with and without popularity, the one with the better lists for all of them by NDCG@10 is taken; with
    few validation customers counting alone is chosen by the folds.
    """
    if len(rows.logits) < FEW:
        fits = [_fit_few(rows, folds, _precision(popular=popular)) for popular in (False, True)]
        of_folds = [[ndcg(fold, fit.counting) for fold in folds] for fit in fits]
        judged = [
            np.concatenate([ndcg(rows, fit.mixture), *values]).mean()
            for fit, values in zip(fits, of_folds, strict=True)
        ]
        mixture = fits[int(judged[1] > judged[0])].mixture
        counted = of_folds if folds else [[ndcg(rows, fit.counting)] for fit in fits]
        gain = np.concatenate(counted[1]) - np.concatenate(counted[0])
        _, low, _ = metrics.mean_interval(gain)
        return MixtureWeights(mixture, fits[int(low > 0)].counting)
    without, with_it = (fit_weights([rows], GPT2_ALONE, _precision(popular=popular)) for popular in (False, True))
    pays = bool(ndcg(rows, with_it).mean() > ndcg(rows, without).mean())
    return MixtureWeights(with_it if pays else without, _fit_counting([rows], _precision(popular=pays)))


def _fit_few(rows: FitRows, folds: Sequence[FitRows], precision: Sequence[float]) -> MixtureWeights:
    counting = _fit_counting(folds or [rows], precision)
    strengths = [GPT2_STRENGTH, *(COUNTING_STRENGTH * value for value in precision[1:])]
    return MixtureWeights(fit_weights([rows], counting, strengths), counting)


def _fit_counting(blocks: Sequence[FitRows], precision: Sequence[float]) -> Weights:
    return fit_weights(blocks, NOTHING, [math.inf, *precision[1:]])


def _precision(*, popular: bool) -> list[float]:
    """One over the variance of each weight's prior; infinity leaves popularity out."""
    return [1.0 if popular or place < OWN else math.inf for place in range(len(FEATURES))]


def fit_weights(blocks: Sequence[FitRows], centre: Weights, precision: Sequence[float]) -> Weights:
    """The weights of FEATURES that make the wanted items of all blocks most likely.

    The prior is normal around `centre`, with one over its variance for each weight; infinity keeps a weight there.
    """
    device = blocks[0].logits.device
    free = [place for place, value in enumerate(precision) if math.isfinite(value)]
    begin = torch.tensor([centre[place] for place in free], device=device)
    scale = torch.tensor([precision[place] for place in free], device=device)
    learned = begin.clone().requires_grad_()
    targets = [(torch.from_numpy(rows.wanted).to(device), torch.from_numpy(rows.share).to(device)) for rows in blocks]
    # A step that changes no weight by more than this changes no list.
    optimizer = torch.optim.LBFGS([learned], max_iter=50, tolerance_change=1e-4, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weights: list[torch.Tensor | float] = list(centre)
        for place, weight in zip(free, learned, strict=True):
            weights[place] = weight
        total = (scale * (learned - begin).square()).sum() / 2
        for rows, (wanted, share) in zip(blocks, targets, strict=True):
            log_p = (mixed_logits(rows, weights) + rows.correction).log_softmax(dim=1)
            total = total - (share * log_p.flatten()[wanted]).sum()
        total.backward()
        return total

    optimizer.step(loss)
    fitted = list(centre)
    for place, value in zip(free, learned.tolist(), strict=True):
        fitted[place] = round(value, 6)
    return tuple(fitted)


def mixed_logits(rows: FitRows, weights: Sequence[torch.Tensor | float]) -> torch.Tensor:
    """(n, C) the weighted sum of GPT-2's logits and all features."""
    mixed = weighted_sum(rows.logits, rows.values, weights)
    for value, weight in zip(rows.popular, weights[OWN:], strict=True):
        if isinstance(weight, torch.Tensor) or weight:
            mixed = mixed + value * weight
    return mixed


def ndcg(rows: FitRows, weights: Weights) -> NDArray[np.float64]:
    """(n,) NDCG@10 of each customer's best candidates; 0 where nothing is wanted."""
    with torch.no_grad():
        scores = mixed_logits(rows, weights) + rows.correction.clamp(max=0)
        best = scores.topk(min(K, scores.shape[1]), dim=1).indices.cpu().numpy()
    row, column = np.divmod(rows.wanted, rows.logits.shape[1])
    wanted = np.split(column, np.searchsorted(row, np.arange(1, len(best))))
    asked = [place for place, items in enumerate(wanted) if len(items)]
    values = np.zeros(len(best))
    values[asked] = metrics.ndcg_at_k([best[i].tolist() for i in asked], [wanted[i].tolist() for i in asked], K)
    return values
