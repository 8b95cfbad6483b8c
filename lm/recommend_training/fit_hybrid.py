"""Fits the weights of the hybrid (lm.recommend.hybrid) on held-out purchases.

The weights of GPT-2 and of counted purchases are those of `lm.recommend_training.mixture_weights`. Cold items have a
conditional logit of their own (McFadden 1974) under a normal prior of variance 1, so few customers change little. With
many items both are fitted on a sample of them, so that they see as many customers as with few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from lm.recommend.co_purchase import CoPurchaseFeatures, Ints
from lm.recommend.cold_items import NEVER, ColdItems
from lm.recommend.hybrid import Hybrid
from lm.recommend_training.fit_candidates import CANDIDATES, CandidateSampler, FitRows, all_items
from lm.recommend_training.mixture_weights import fit_mixture

#: Most (customers, candidates) logits that are alive while the weights are fitted.
CELLS = 24_000_000
#: All items are candidates where so many customers fit into CELLS, up to 24,000 items; otherwise a sample of them.
EXACT_CUSTOMERS = 1000
#: With a sample of items: most customers that cold items are fitted on, and other items drawn for each fold.
COLD_CUSTOMERS = 1500
COLD_DRAWN = 500
#: Known products are treated as cold in so many parts, one part after the other.
COLD_FOLDS = 20
#: Expected purchases of products that nobody has bought, from which on validation outweighs the fit on known products.
COLD_PRIOR = 2.0


class Customers(NamedTuple):
    """Customers whose next purchases the weights are fitted on: all are item codes, oldest first."""

    purchases: Sequence[Ints]
    wanted: Sequence[Ints]  # what they bought next
    barred: Sequence[Ints]  # what is never listed for them


def is_exact(customers: int, items: int) -> bool:
    """Whether the weights are fitted on the logits of all items."""
    return customers * items <= CELLS or items * EXACT_CUSTOMERS <= CELLS


def most_customers(customers: int, items: int) -> int:
    """The number of customers whose candidates fit into CELLS."""
    return max(1, CELLS // (items if is_exact(customers, items) else CANDIDATES))


class FittedHybrid(NamedTuple):
    """The hybrid with fitted weights, and the one that counts alone: GPT-2 has no weight in it."""

    mixture: Hybrid
    counting: Hybrid


def fit_hybrid(
    hybrid: Hybrid,
    batches: Iterable[tuple[Ints, torch.Tensor]],
    customers: Customers,
    seed: int,
    folds: Sequence[FitRows] = (),
) -> FittedHybrid:
    """The hybrid with the weights that make the `wanted` items of n customers most likely.

    `batches` are the places of some customers (B,) and GPT-2's logits (B, N) after their purchases, once each. With
    many items (`is_exact`) the likelihood is estimated by a sample of items, and cold items see fewer customers.
    `folds` are those of `lm.recommend_training.counting_folds`, for few customers.
    """
    features, cold = hybrid.co_purchase, hybrid.cold_items
    if cold is not None:
        exact = is_exact(len(customers.wanted), len(cold.bought))
        cold = fit_cold_items(cold, customers.purchases, customers.wanted, seed, exact=exact)
    if features is None:
        return FittedHybrid(Hybrid(None, cold), Hybrid(None, cold))
    weights = fit_mixture(fit_rows(features, batches, customers, seed), folds)
    return FittedHybrid(*(Hybrid(replace(features, weights=some), cold) for some in weights))


def fit_rows(
    features: CoPurchaseFeatures, batches: Iterable[tuple[Ints, torch.Tensor]], customers: Customers, seed: int
) -> FitRows:
    """What the weights of features are fitted on; arguments as those of `fit_hybrid`."""
    if is_exact(len(customers.wanted), features.cosines.shape[0]):
        rows: list[torch.Tensor] = [torch.empty(0)] * len(customers.wanted)
        for places, logits in batches:
            for place, row in zip(places.tolist(), logits, strict=True):
                rows[place] = row
        return all_items(features, torch.stack(rows), *customers)
    sampler = CandidateSampler(features, seed)
    for places, logits in batches:
        sampler.add(logits, *([of_all[place] for place in places.tolist()] for of_all in customers))
    return sampler.rows(logits.device)


def fit_cold_items(
    cold: ColdItems, purchases: Sequence[Ints], wanted: Sequence[Ints], seed: int, *, exact: bool = True
) -> ColdItems:
    """The cold items with slope and constant for customers of `purchases` who then bought `wanted` (item codes).

    One fold of the known products with titles after the other counts as cold. A product that the customer bought
    before is not new to them and is left out. Every customer has the same weight. The constant is one standard error
    below its estimate: few purchases say little of cold items, and known products are the safer choice. It is then
    moved towards what these customers bought of products that nobody had bought before (`_shift_to_seen`). Cold items
    stay out of all lists if the slope is not above its standard error: then titles do not tell which to list. If not
    `exact`, COLD_CUSTOMERS see the wanted items of each fold and COLD_DRAWN others, which stand for the rest of it.
    """
    known = np.flatnonzero(cold.bought & (np.diff(cold.title_vectors.indptr) > 0))
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(known)
    if not exact:
        purchases, wanted = purchases[:COLD_CUSTOMERS], wanted[:COLD_CUSTOMERS]
    folds = []
    for fold in range(COLD_FOLDS):
        codes = np.sort(drawn[fold::COLD_FOLDS])
        sample = None if exact else _sample_of_fold(codes, wanted, rng)
        folds.append(_cold_fold(cold, codes, purchases, wanted, sample))
    if not any(len(fold.customer) for fold in folds):
        return replace(cold, weights=(0.0, NEVER))
    share = sum(sum(fold.share) for fold in folds) / (len(purchases) * len(known))
    begin = torch.tensor([1.0, float(np.log(share))])
    weights = begin.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = (weights - begin).square().sum() / 2 + sum(fold.loss(weights) for fold in folds)
        total.backward()
        return total

    optimizer.step(loss)
    curvature = sum(torch.autograd.functional.hessian(fold.loss, weights.detach()) for fold in folds)
    covariance = torch.linalg.inv(torch.eye(2) + curvature)
    slope, constant = weights.tolist()
    slope_error, constant_error = covariance.diagonal().sqrt().tolist()
    if slope <= slope_error:
        return replace(cold, weights=(0.0, NEVER))
    lowered = constant - constant_error
    shifted = lowered + _shift_to_seen(cold, (slope, lowered), purchases, wanted)
    return replace(cold, weights=(round(slope, 6), round(shifted, 6)))


def _shift_to_seen(
    cold: ColdItems, weights: tuple[float, float], purchases: Sequence[Ints], wanted: Sequence[Ints]
) -> float:
    """What to add to the constant, so that products that nobody has bought are expected as often as they are wanted.

    Known products that count as cold sell better than products that never sold. The ratio of wanted to expected
    purchases has a Gamma prior with mean 1 that weighs as much as COLD_PRIOR expected ones. 0 where all products sold.
    """
    is_cold = ~cold.bought & (np.diff(cold.title_vectors.indptr) > 0)
    if not is_cold.any():
        return 0.0
    vectors, at_once = cold.title_vectors[is_cold], max(1, CELLS // int(is_cold.sum()))
    odds = np.concatenate(
        [
            logsumexp(
                weights[0] * cold.log_similarity(purchases[first : first + at_once], vectors) + weights[1], axis=1
            )
            for first in range(0, len(purchases), at_once)
        ]
    )
    seen = sum(float(is_cold[after].mean()) for after in wanted if len(after))
    expected = float(expit(odds).sum())
    share = (seen + COLD_PRIOR) / (expected + COLD_PRIOR)
    return float(brentq(lambda shift: expit(odds + shift).sum() - share * expected, -100.0, 100.0))


@dataclass(frozen=True)
class _ColdFold:
    """C known products that count as cold: their similarity to n customers, and who bought which."""

    log_similarity: torch.Tensor  # (n, C)
    is_own: torch.Tensor  # (n, C) whether the customer had bought it before
    correction: torch.Tensor | None  # (C,) log of the number of products that each stands for; None for zeros
    customer: list[int]  # of each purchase of a cold product
    product: list[int]
    share: list[float]  # 1 / number of items that the customer then bought

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        """The negative log-likelihood of slope and constant (2,)."""
        odds = (weights[0] * self.log_similarity + weights[1]).masked_fill(self.is_own, NEVER)
        all_odds = odds if self.correction is None else odds + self.correction
        against_known = torch.nn.functional.softplus(all_odds.logsumexp(dim=1)).sum()
        return against_known - (torch.tensor(self.share) * odds[self.customer, self.product]).sum()


def _sample_of_fold(codes: Ints, wanted: Sequence[Ints], rng: np.random.Generator) -> tuple[Ints, torch.Tensor]:
    """The wanted products among `codes` and COLD_DRAWN of the others, with the correction of each."""
    sure = np.intersect1d(np.concatenate([*wanted, np.empty(0, np.int64)]), codes)
    others = np.setdiff1d(codes, sure)
    drawn = rng.choice(others, min(COLD_DRAWN, len(others)), replace=False)
    shown = np.concatenate([sure, drawn])
    correction = np.zeros(len(shown), np.float32)
    correction[len(sure) :] = np.log(len(others) / max(len(drawn), 1)) if len(drawn) else 0.0
    order = np.argsort(shown)
    return shown[order], torch.from_numpy(correction[order])


def _cold_fold(
    cold: ColdItems,
    codes: Ints,
    purchases: Sequence[Ints],
    wanted: Sequence[Ints],
    sample: tuple[Ints, torch.Tensor] | None = None,
) -> _ColdFold:
    """The fold in which the products `codes` (ascending) count as cold; `sample` are those that its loss reads."""
    shown, correction = (codes, None) if sample is None else sample
    in_fold = np.zeros(len(cold.bought), np.bool_)
    in_fold[codes] = True
    is_shown = np.zeros(len(cold.bought), np.bool_)
    is_shown[shown] = True
    column = is_shown.cumsum() - 1  # of a code in `shown`
    others = [items[~in_fold[items]] for items in purchases]
    is_own = np.zeros((len(purchases), len(shown)), np.bool_)
    customer, product, share = [], [], []
    for row, (before, after) in enumerate(zip(purchases, wanted, strict=True)):
        is_own[row, column[before[is_shown[before]]]] = True
        new = column[after[in_fold[after]]]
        new = new[~is_own[row, new]]
        customer += [row] * len(new)
        product += new.tolist()
        share += [1 / len(after)] * len(new)
    similarity = torch.from_numpy(cold.log_similarity(others, cold.title_vectors[shown]))
    return _ColdFold(similarity, torch.from_numpy(is_own), correction, customer, product, share)
