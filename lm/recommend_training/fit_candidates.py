"""The items among which the mixture's weights are fitted: all, or a sample with the correction for sampling.

With a million items the logits of a few dozen customers fill the memory. The sample of each customer holds the items
that decide the softmax: those with the greatest features, the likeliest by GPT-2 and the most popular. The others are
drawn uniformly, and the correction log(others / drawn) gives the sampled normaliser the expectation of the full one
(Bengio & Senécal, "Adaptive Importance Sampling", 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lm.recommend.co_purchase import CoPurchaseFeatures, Ints, row_code_pairs
from lm.recommend.cold_items import NEVER

#: Candidates of each customer: the greatest sums of features, the likeliest by GPT-2, the most popular ever and
#: lately, and draws from the others.
GREATEST = 1024
LIKELIEST = 256
MOST_POPULAR = 128
DRAWN = 1024
CANDIDATES = GREATEST + LIKELIEST + 2 * MOST_POPULAR + DRAWN


class FitRows(NamedTuple):
    """What the weights of n customers are fitted on: C candidates of each."""

    logits: torch.Tensor  # (n, C) GPT-2's
    popular: torch.Tensor  # (2, n or 1, C) the features of popularity
    correction: torch.Tensor  # (n, C) added to the mixture's logits: for the sampling, and NEVER where never listed
    values: list[tuple[Ints, NDArray[np.float32]]]  # of each other feature: distinct places in the flattened (n, C)
    wanted: Ints  # (W,) places of the wanted items in the flattened (n, C)
    share: NDArray[np.float32]  # (W,) 1 / number of the customer's wanted items


def all_items(
    features: CoPurchaseFeatures,
    logits: torch.Tensor,
    purchases: Sequence[Ints],
    wanted: Sequence[Ints],
    barred: Sequence[Ints],
) -> FitRows:
    """All N items as candidates; arguments as those of `lm.recommend_training.fit_hybrid.fit_hybrid`."""
    correction = torch.zeros(logits.shape, device=logits.device)
    correction[tuple(torch.from_numpy(index).to(logits.device) for index in row_code_pairs(barred))] = NEVER
    row, code = row_code_pairs(wanted)
    popular = torch.from_numpy(_popular(features)[:, None, :]).to(logits.device)
    places = row * logits.shape[1] + code
    return FitRows(logits, popular, correction, features.features(purchases), places, _shares(wanted))


class CandidateSampler:
    """Gathers the candidates of customers, batch by batch, so that no more than one batch's logits are alive."""

    def __init__(self, features: CoPurchaseFeatures, seed: int) -> None:
        self._features, self._rng = features, np.random.default_rng(seed)
        self._popular = _popular(features)
        self._most_popular = np.unique(np.argsort(-self._popular, axis=1, kind="stable")[:, :MOST_POPULAR])
        self._codes: list[Ints] = []  # of each customer, ascending
        self._logits: list[NDArray[np.float32]] = []
        self._corrections: list[NDArray[np.float32]] = []
        self._values: list[list[tuple[Ints, NDArray[np.float32]]]] = []  # of each batch: (customer, code) and values
        self._wanted: list[Ints] = []

    def add(
        self, logits: torch.Tensor, purchases: Sequence[Ints], wanted: Sequence[Ints], barred: Sequence[Ints]
    ) -> None:
        """Add a batch of customers with GPT-2's logits (B, N); the rest as in `all_items`."""
        items = logits.shape[1]
        likeliest = logits.topk(min(LIKELIEST, items), dim=1).indices.cpu().numpy()
        found = self._features.features(purchases)
        greatest = _greatest(found, len(purchases), items)
        rows = logits.cpu().numpy()
        begin = len(self._codes)
        for row, (likely, great, own, right, never) in enumerate(
            zip(likeliest, greatest, purchases, wanted, barred, strict=True)
        ):
            sure = np.union1d(np.setdiff1d(np.concatenate([likely, great, self._most_popular, own]), never), right)
            drawn = self._rng.choice(items, min(DRAWN, items), replace=False, shuffle=False)
            drawn = np.setdiff1d(drawn, np.concatenate([sure, never]))
            others = items - len(np.union1d(sure, never))
            codes = np.concatenate([sure, drawn])
            correction = np.zeros(len(codes), np.float32)
            correction[len(sure) :] = np.log(max(others, 1) / max(len(drawn), 1))
            order = np.argsort(codes)
            self._codes.append(codes[order])
            self._corrections.append(correction[order])
            self._logits.append(rows[row, codes[order]])
            self._wanted.append(right)
        self._values.append(self._among_candidates(found, begin, items))

    def _among_candidates(
        self, found: Sequence[tuple[Ints, NDArray[np.float32]]], begin: int, items: int
    ) -> list[tuple[Ints, NDArray[np.float32]]]:
        """The batch's features at its candidates, by their places in all candidates so far, laid end to end."""
        batch = self._codes[begin:]
        row, code = row_code_pairs(batch)
        keys = row * items + code  # ascending
        first = sum(map(len, self._codes[:begin]))
        kept = []
        for place, value in found:
            at = np.minimum(np.searchsorted(keys, place), len(keys) - 1)
            is_candidate = keys[at] == place
            kept.append((first + at[is_candidate], value[is_candidate]))
        return kept

    def rows(self, device: torch.device) -> FitRows:
        """The candidates of all customers, padded to the same number."""
        lengths = np.array([len(codes) for codes in self._codes], dtype=np.int64)
        shape = len(lengths), int(lengths.max())
        customer, within = row_code_pairs([np.arange(length) for length in lengths])
        padded = customer * shape[1] + within  # of each candidate, its place in the flattened (n, C)
        logits, correction = np.zeros(shape, np.float32), np.full(shape, NEVER, np.float32)
        logits.ravel()[padded] = np.concatenate(self._logits)
        correction.ravel()[padded] = np.concatenate(self._corrections)
        popular = np.zeros((len(self._popular), *shape), np.float32)
        popular.reshape(len(popular), -1)[:, padded] = self._popular[:, np.concatenate(self._codes)]
        features = [
            (padded[np.concatenate([place for place, _ in parts])], np.concatenate([value for _, value in parts]))
            for parts in zip(*self._values, strict=True)
        ]
        columns = [np.searchsorted(codes, right) for codes, right in zip(self._codes, self._wanted, strict=True)]
        row, column = row_code_pairs(columns)
        return FitRows(
            torch.from_numpy(logits).to(device),
            torch.from_numpy(popular).to(device),
            torch.from_numpy(correction).to(device),
            features,
            row * shape[1] + column,
            _shares(self._wanted),
        )


def _popular(features: CoPurchaseFeatures) -> NDArray[np.float32]:
    """(2, N) the popularity of all items, 0 where it was not counted."""
    items = features.cosines.shape[0]
    return np.zeros((2, items), np.float32) if features.popular is None else features.popular


def _greatest(found: Sequence[tuple[Ints, NDArray[np.float32]]], rows: int, items: int) -> list[Ints]:
    """The codes with the greatest sums of features of each row, at most GREATEST."""
    places, inverse = np.unique(np.concatenate([place for place, _ in found]), return_inverse=True)
    total = np.bincount(inverse, np.concatenate([value for _, value in found]), len(places))
    first = np.searchsorted(places, np.arange(rows + 1) * items)
    best = []
    for row, (start, stop) in enumerate(pairwise(first)):
        codes = places[start:stop] - row * items
        if len(codes) > GREATEST:
            codes = codes[np.argpartition(-total[start:stop], GREATEST)[:GREATEST]]
        best.append(codes)
    return best


def _shares(wanted: Sequence[Ints]) -> NDArray[np.float32]:
    basket = np.array([len(items) for items in wanted], dtype=np.int64)
    return np.repeat(1 / np.maximum(basket, 1), basket).astype(np.float32)
