"""Counts purchases for the hybrid (lm.recommend.hybrid) and fits its weights on held-out purchases.

Both fits are conditional logits (McFadden 1974) under a normal prior of variance 1, so few customers change little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import torch

from lm.metrics.baselines import CoPurchases
from lm.recommend.co_purchase import CoPurchaseFeatures, Ints, row_code_pairs, weighted_sum
from lm.recommend.cold_items import NEVER, ColdItems
from lm.recommend.hybrid import Hybrid

#: Most (customers, items) logits that are alive while the weights are fitted.
CELLS = 24_000_000
#: Most pairs that are kept, the closest of each item: 8 bytes each in the model's folder and in every worker.
PAIRS = 20_000_000
_FEWEST_PER_ITEM = 50
#: Known products are treated as cold in so many parts, one part after the other.
COLD_FOLDS = 20


def count_hybrid(
    bought: Sequence[Sequence[str]],
    titles: Mapping[str, str | None],
    *,
    co_purchase: bool,
    cold_items: bool,
) -> Hybrid:
    """Count customers' purchases (item ids, oldest first); no weight is fitted yet.

    `titles` are those of the model's items, in the order of their codes.
    """
    codes = {item: code for code, item in enumerate(titles)}
    is_bought = np.zeros(len(codes), np.bool_)
    is_bought[[codes[item] for item in {item for history in bought for item in history}]] = True
    features = closest_co_purchases(CoPurchases.fit(bought), codes) if co_purchase else None
    return Hybrid(features, ColdItems.of(list(titles.values()), is_bought) if cold_items else None)


def fit_hybrid(
    hybrid: Hybrid,
    logits: torch.Tensor,
    purchases: Sequence[Ints],
    wanted: Sequence[Ints],
    barred: Sequence[Ints],
    seed: int,
) -> Hybrid:
    """The hybrid with the weights that make the `wanted` items of n customers most likely.

    `logits` (n, N) are GPT-2's after `purchases`; `barred` items are never listed. All are item codes, oldest first.
    """
    features, cold = hybrid.co_purchase, hybrid.cold_items
    return Hybrid(
        features and fit_co_purchase(features, logits, purchases, wanted, barred),
        cold and fit_cold_items(cold, purchases, wanted, seed),
    )


def with_weights_of(counted: Hybrid, fitted: Hybrid) -> Hybrid:
    """New counts with the weights of an earlier fit."""
    features, cold = counted.co_purchase, counted.cold_items
    return Hybrid(
        features and fitted.co_purchase and replace(features, weights=fitted.co_purchase.weights),
        cold and fitted.cold_items and replace(cold, weights=fitted.cold_items.weights),
    )


def closest_co_purchases(counted: CoPurchases, codes: Mapping[str, int]) -> CoPurchaseFeatures:
    """The closest co-purchased items of each item; `codes` numbers all items from 0. No weight is fitted yet."""
    row = np.repeat(np.arange(len(counted.items)), np.diff(counted.starts))
    order = np.lexsort((counted.columns, -counted.cosines, row))
    most = max(_FEWEST_PER_ITEM, PAIRS // max(len(codes), 1))
    kept = order[np.arange(len(order)) - counted.starts[row[order]] < most]
    code = np.array([codes[item] for item in counted.items], dtype=np.int64)
    entries = counted.cosines[kept].astype(np.float32), (code[row[kept]], code[counted.columns[kept]])
    return CoPurchaseFeatures(scipy.sparse.csr_matrix(entries, shape=(len(codes), len(codes))))


def fit_co_purchase(
    features: CoPurchaseFeatures,
    logits: torch.Tensor,
    purchases: Sequence[Ints],
    wanted: Sequence[Ints],
    barred: Sequence[Ints],
) -> CoPurchaseFeatures:
    """The features with fitted weights; arguments as those of `fit_hybrid`. The prior's mean is GPT-2 alone."""
    values = features.features(purchases)
    begin = torch.tensor(CoPurchaseFeatures.weights, device=logits.device)
    weights = begin.clone().requires_grad_()
    row, code = (torch.from_numpy(index).to(logits.device) for index in row_code_pairs(wanted))
    basket = np.array([len(items) for items in wanted], dtype=np.int64)
    share = torch.from_numpy(np.repeat(1 / np.maximum(basket, 1), basket).astype(np.float32)).to(logits.device)
    logits = logits.clone()
    logits[tuple(torch.from_numpy(index).to(logits.device) for index in row_code_pairs(barred))] = NEVER
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        log_p = weighted_sum(logits, values, list(weights)).log_softmax(dim=1)
        total = (weights - begin).square().sum() / 2 - (share * log_p[row, code]).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return replace(features, weights=tuple(round(value, 6) for value in weights.tolist()))


def fit_cold_items(cold: ColdItems, purchases: Sequence[Ints], wanted: Sequence[Ints], seed: int) -> ColdItems:
    """The cold items with slope and constant for customers of `purchases` who then bought `wanted` (item codes).

    One fold of the known products after the other counts as cold. A product that the customer bought before is not
    new to them and is left out. Every customer has the same weight. The constant is one standard error below its
    estimate: few purchases say little of cold items, and known products are the safer choice. Without anything to
    learn from, cold items stay out of all lists.
    """
    known = np.flatnonzero(cold.bought)
    drawn = np.random.default_rng(seed).permutation(known)
    folds = [_cold_fold(cold, np.sort(drawn[fold::COLD_FOLDS]), purchases, wanted) for fold in range(COLD_FOLDS)]
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
    lowered = constant - float(covariance[1, 1].sqrt())
    return replace(cold, weights=(round(slope, 6), round(lowered, 6)))


@dataclass(frozen=True)
class _ColdFold:
    """C known products that count as cold: their similarity to n customers, and who bought which."""

    log_similarity: torch.Tensor  # (n, C)
    is_own: torch.Tensor  # (n, C) whether the customer had bought it before
    customer: list[int]  # of each purchase of a cold product
    product: list[int]
    share: list[float]  # 1 / number of items that the customer then bought

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        """The negative log-likelihood of slope and constant (2,)."""
        odds = (weights[0] * self.log_similarity + weights[1]).masked_fill(self.is_own, NEVER)
        against_known = torch.nn.functional.softplus(odds.logsumexp(dim=1)).sum()
        return against_known - (torch.tensor(self.share) * odds[self.customer, self.product]).sum()


def _cold_fold(cold: ColdItems, codes: Ints, purchases: Sequence[Ints], wanted: Sequence[Ints]) -> _ColdFold:
    """The fold in which the products `codes` (ascending) count as cold."""
    in_fold = np.zeros(len(cold.bought), np.bool_)
    in_fold[codes] = True
    column = in_fold.cumsum() - 1  # of a code in `codes`
    others = [items[~in_fold[items]] for items in purchases]
    is_own = np.zeros((len(purchases), len(codes)), np.bool_)
    customer, product, share = [], [], []
    for row, (before, after) in enumerate(zip(purchases, wanted, strict=True)):
        is_own[row, column[before[in_fold[before]]]] = True
        new = column[after[in_fold[after]]]
        new = new[~is_own[row, new]]
        customer += [row] * len(new)
        product += new.tolist()
        share += [1 / len(after)] * len(new)
    similarity = torch.from_numpy(cold.log_similarity(others, cold.title_vectors[codes]))
    return _ColdFold(similarity, torch.from_numpy(is_own), customer, product, share)
