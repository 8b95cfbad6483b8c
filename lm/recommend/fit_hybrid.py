"""Counts purchases for the hybrid (lm.recommend.hybrid) and fits its weights on held-out purchases.

Both fits are conditional logits (McFadden 1974) under a normal prior of variance 1, so few customers change little.
With many items they are fitted on a sample of them, so that they see as many customers as with few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from lm.metrics.baselines import Baskets, CoPurchases
from lm.recommend.co_purchase import CoPurchaseFeatures, Ints, weighted_sum
from lm.recommend.cold_items import NEVER, ColdItems
from lm.recommend.fit_candidates import CANDIDATES, CandidateSampler, FitRows, all_items
from lm.recommend.further_customers import FurtherCustomers
from lm.recommend.hybrid import Hybrid

#: Most (customers, candidates) logits that are alive while the weights are fitted.
CELLS = 24_000_000
#: All items are candidates where so many customers fit into CELLS, up to 24,000 items; otherwise a sample of them.
EXACT_CUSTOMERS = 1000
#: With a sample of items: most customers that cold items are fitted on, and other items drawn for each fold.
COLD_CUSTOMERS = 1500
COLD_DRAWN = 500
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
    further: FurtherCustomers | None = None,
) -> Hybrid:
    """Count customers' purchases (item ids, oldest first) and those of `further` ones; no weight is fitted yet.

    `titles` are those of the model's items, in the order of their codes.
    """
    codes = {item: code for code, item in enumerate(titles)}
    is_bought = np.zeros(len(codes), np.bool_)
    is_bought[[codes[item] for item in {item for history in bought for item in history}]] = True
    baskets = Baskets.of(bought, codes)
    if further is not None:
        others, purchases = further.baskets(codes)
        baskets, is_bought = baskets.joined(others), is_bought | (purchases > 0)
    features = None
    if co_purchase:
        features = closest_co_purchases(CoPurchases.of_baskets(list(codes), baskets, _kept(len(codes))), codes)
    return Hybrid(features, ColdItems.of(list(titles.values()), is_bought) if cold_items else None)


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


def fit_hybrid(hybrid: Hybrid, batches: Iterable[tuple[Ints, torch.Tensor]], customers: Customers, seed: int) -> Hybrid:
    """The hybrid with the weights that make the `wanted` items of n customers most likely.

    `batches` are the places of some customers (B,) and GPT-2's logits (B, N) after their purchases, once each. With
    many items (`is_exact`) the likelihood is estimated by a sample of items, and cold items see fewer customers.
    """
    features, cold = hybrid.co_purchase, hybrid.cold_items
    exact = is_exact(len(customers.wanted), len(cold.bought) if cold else features.cosines.shape[0] if features else 0)
    if features is not None:
        features = fit_co_purchase(features, _fit_rows(features, batches, customers, seed, exact=exact))
    if cold is not None:
        cold = fit_cold_items(cold, customers.purchases, customers.wanted, seed, exact=exact)
    return Hybrid(features, cold)


def _fit_rows(
    features: CoPurchaseFeatures,
    batches: Iterable[tuple[Ints, torch.Tensor]],
    customers: Customers,
    seed: int,
    *,
    exact: bool,
) -> FitRows:
    if exact:
        rows: list[torch.Tensor] = [torch.empty(0)] * len(customers.wanted)
        for places, logits in batches:
            for place, row in zip(places.tolist(), logits, strict=True):
                rows[place] = row
        return all_items(features, torch.stack(rows), *customers)
    sampler = CandidateSampler(features, seed)
    for places, logits in batches:
        sampler.add(logits, *([of_all[place] for place in places.tolist()] for of_all in customers))
    return sampler.rows(logits.device)


def with_weights_of(counted: Hybrid, fitted: Hybrid) -> Hybrid:
    """New counts with the weights of an earlier fit."""
    features, cold = counted.co_purchase, counted.cold_items
    return Hybrid(
        features and fitted.co_purchase and replace(features, weights=fitted.co_purchase.weights),
        cold and fitted.cold_items and replace(cold, weights=fitted.cold_items.weights),
    )


def _kept(items: int) -> int:
    """The number of closest items of each item that are kept."""
    return max(_FEWEST_PER_ITEM, PAIRS // max(items, 1))


def closest_co_purchases(counted: CoPurchases, codes: Mapping[str, int]) -> CoPurchaseFeatures:
    """The closest co-purchased items of each item; `codes` numbers all items from 0. No weight is fitted yet."""
    row = np.repeat(np.arange(len(counted.items)), np.diff(counted.starts))
    order = np.lexsort((counted.columns, -counted.cosines, row))
    kept = order[np.arange(len(order)) - counted.starts[row[order]] < _kept(len(codes))]
    code = np.array([codes[item] for item in counted.items], dtype=np.int64)
    entries = counted.cosines[kept].astype(np.float32), (code[row[kept]], code[counted.columns[kept]])
    return CoPurchaseFeatures(scipy.sparse.csr_matrix(entries, shape=(len(codes), len(codes))))


def fit_co_purchase(features: CoPurchaseFeatures, rows: FitRows) -> CoPurchaseFeatures:
    """The features with the weights that make the wanted items of `rows` most likely.

    The prior's mean is GPT-2 alone.
    """
    device = rows.logits.device
    begin = torch.tensor(CoPurchaseFeatures.weights, device=device)
    weights = begin.clone().requires_grad_()
    wanted, share = torch.from_numpy(rows.wanted).to(device), torch.from_numpy(rows.share).to(device)
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        mixed = weighted_sum(rows.logits, rows.values, list(weights))
        log_p = (mixed if rows.correction is None else mixed + rows.correction).log_softmax(dim=1)
        total = (weights - begin).square().sum() / 2 - (share * log_p.flatten()[wanted]).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return replace(features, weights=tuple(round(value, 6) for value in weights.tolist()))


def fit_cold_items(
    cold: ColdItems, purchases: Sequence[Ints], wanted: Sequence[Ints], seed: int, *, exact: bool = True
) -> ColdItems:
    """The cold items with slope and constant for customers of `purchases` who then bought `wanted` (item codes).

    One fold of the known products after the other counts as cold. A product that the customer bought before is not
    new to them and is left out. Every customer has the same weight. The constant is one standard error below its
    estimate: few purchases say little of cold items, and known products are the safer choice. Without anything to
    learn from, cold items stay out of all lists. If not `exact`, COLD_CUSTOMERS see the wanted items of each fold and
    COLD_DRAWN others, which stand for the rest of it.
    """
    known = np.flatnonzero(cold.bought)
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
    lowered = constant - float(covariance[1, 1].sqrt())
    return replace(cold, weights=(round(slope, 6), round(lowered, 6)))


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
