"""Features of counted purchases, added to GPT-2's logits: co-purchase, repeat purchase and popularity.

A GPT-2 that learns from some thousand customers misses many pairs of products and many repeats; counting finds them
("Wide & Deep", Cheng et al. 2016). A product's logit is the weighted sum of GPT-2's logit and of the features below: a
conditional logit (McFadden 1974). `lm.recommend_training.count_purchases` counts, and
`lm.recommend_training.mixture_weights` fits the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lm.checkpoint.checkpoint import CO_PURCHASE_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.recommend.mapped_arrays import mapped_arrays

Ints = NDArray[np.int64]

#: The order of the weights: GPT-2's logit; cosines to the newest 50 items of a customer, and to the newest ten; how
#: often the customer bought the item, whether at all, and how lately; how often everybody bought it, ever and lately.
FEATURES = ("gpt2", "near", "nearest", "times", "bought", "lately", "popular", "popular_lately")
#: Number of features before the two of popularity, which are the same for every customer.
OWN = FEATURES.index("popular")
#: Newest distinct items whose cosines are summed, for each of the two features.
_NEWEST = (50, 10)
#: A sum of cosines counts as log(1 + sum / _CONCAVITY): the first common customers say most.
_CONCAVITY = 0.01
#: Number of later items after which a purchase counts half.
_HALF_LIFE = 20.0
#: Days after which a purchase counts half in `popular_lately`.
_POPULAR_DAYS = 28.0


@dataclass(frozen=True)
class CoPurchaseFeatures:
    """Item-to-item cosines of N items by their codes, their popularity, and the weights of FEATURES.

    Models of earlier releases have no popularity: None.
    """

    cosines: scipy.sparse.csr_matrix  # (N, N) float32
    weights: tuple[float, ...] = (1.0, *[0.0] * (len(FEATURES) - 1))
    popular: NDArray[np.float32] | None = None  # (2, N) as `popularity` gives it

    def add(self, logits: torch.Tensor, purchases: Sequence[Ints]) -> torch.Tensor:
        """(n, N) logits of GPT-2 -> (n, N) logits with the features.

        `purchases` holds the item codes of each row's customer, oldest first.
        """
        total = weighted_sum(logits, self.features(purchases), self.weights)
        if not any(self.weights[OWN:]):
            return total
        total += torch.from_numpy(self.popular_part().astype(np.float32)).to(total.device)  # in place: it is large
        return total

    def popular_part(self) -> NDArray[np.float64]:
        """(N,) what popularity adds to the logits of every customer."""
        if self.popular is None:
            return np.zeros(self.cosines.shape[0])
        return np.asarray(np.array(self.weights[OWN:], np.float64) @ self.popular.astype(np.float64))

    def features(self, purchases: Sequence[Ints]) -> list[tuple[Ints, NDArray[np.float32]]]:
        """Each feature between GPT-2's and popularity: distinct places in the flattened (n, N) logits, and values."""
        items = self.cosines.shape[0]
        counted = [distinct_newest_first(codes) for codes in purchases]
        newest = [codes for codes, _ in counted]
        found = []
        for most in _NEWEST:
            sums = _indicators([codes[:most] for codes in newest], items) @ self.cosines  # (n, N)
            row = np.repeat(np.arange(len(purchases)), np.diff(sums.indptr))
            found.append((row * items + sums.indices, np.log1p(sums.data / np.float32(_CONCAVITY))))
        # Zero weights of the customer's own items are skipped once anything is fitted: they add nothing.
        if any(self.weights[1 + len(_NEWEST) : OWN]) or not any(self.weights[1:]):
            row = np.repeat(np.arange(len(purchases)), [len(codes) for codes in newest])
            place = row * items + np.concatenate([*newest, np.empty(0, np.int64)])
            times = np.concatenate([*(times for _, times in counted), np.empty(0)])
            age = np.concatenate([*(np.arange(len(codes)) for codes in newest), np.empty(0)])
            values = np.log1p(times), np.ones(len(place)), _HALF_LIFE / (_HALF_LIFE + age)
            found += [(place, value.astype(np.float32)) for value in values]
        return found

    def contributions(self, purchases: Sequence[Ints]) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        """(n, N) what `add` adds to the logits: for items bought together with the customer's own, and for these."""
        shape = len(purchases), self.cosines.shape[0]
        sums = [scipy.sparse.csr_matrix(shape, dtype=np.float64), scipy.sparse.csr_matrix(shape, dtype=np.float64)]
        for number, ((place, value), weight) in enumerate(
            zip(self.features(purchases), self.weights[1:OWN], strict=False)
        ):
            at = np.divmod(place, shape[1])
            sums[number >= len(_NEWEST)] += scipy.sparse.csr_matrix((value * np.float64(weight), at), shape=shape)
        return sums[0], sums[1]

    def save(self, folder: Path) -> None:
        """Write cosines and popularity into a model's folder; the manifest holds the weights."""
        names = ("indptr", "indices", "data")
        arrays = {name: np.ascontiguousarray(getattr(self.cosines, name)) for name in names}
        if self.popular is not None:
            arrays["popular"] = np.ascontiguousarray(self.popular)
        save_file(arrays, folder / CO_PURCHASE_FILE)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> CoPurchaseFeatures | None:
        """Read a model's folder, None where it has no cosines. Raises CheckpointError for a lost or broken file."""
        if not manifest.neighbour_weights:
            return None
        file, items = folder / CO_PURCHASE_FILE, len(manifest.item_ids)
        try:
            stored = mapped_arrays(file)
            arrays = stored["data"], stored["indices"], stored["indptr"]
            cosines = scipy.sparse.csr_matrix(arrays, shape=(items, items))
            popular = stored.get("popular")
            if popular is not None and popular.shape != (len(FEATURES) - OWN, items):
                raise ValueError("popularity is of other items")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error
        return cls(cosines, tuple(manifest.neighbour_weights), popular)


def popularity(codes: Ints, ages: Ints, items: int, others: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """(2, items) log(1 + purchases) of each item, and the same where a purchase of 28 days ago counts half.

    `codes` are the items of all purchases, and `ages` the days from each to the newest. `others` (2, items) are such
    sums of further purchases (`purchase_counts`).
    """
    counts = purchase_counts(codes, ages, items)
    return np.log1p(counts if others is None else counts + others).astype(np.float32)


def purchase_counts(codes: Ints, ages: Ints, items: int) -> NDArray[np.float64]:
    """(2, items) purchases of each item, and the same where a purchase of 28 days ago counts half."""
    return np.stack([np.bincount(codes, minlength=items), np.bincount(codes, 0.5 ** (ages / _POPULAR_DAYS), items)])


def purchases_in_prompt(tokens: Sequence[int], first_item_token: int) -> Ints:
    """Item codes of the purchases at the end of a prompt, oldest first, in item_tokens coding."""
    newest_first = np.array(tokens, dtype=np.int64)[::-1] - first_item_token
    others = np.flatnonzero(newest_first < 0)
    return newest_first[: others[0] if len(others) else len(newest_first)][::-1]


def distinct_newest_first(codes: Ints) -> tuple[Ints, Ints]:
    """The distinct codes, the last one first, and how often each occurs."""
    distinct, newest, times = np.unique(codes[::-1], return_index=True, return_counts=True)
    order = np.argsort(newest)
    return distinct[order], times[order]


def row_code_pairs(codes: Sequence[Ints]) -> tuple[Ints, Ints]:
    """(row, code) of every code of every row, both flat."""
    lengths = np.array([len(row) for row in codes], dtype=np.int64)
    return np.repeat(np.arange(len(codes)), lengths), np.concatenate([*codes, np.empty(0, np.int64)])


def weighted_sum(
    logits: torch.Tensor,
    features: Sequence[tuple[Ints, NDArray[np.float32]]],
    weights: Sequence[Any],  # numbers, or tensors that learn
) -> torch.Tensor:
    """(n, N) GPT-2's logits and the features but popularity, each times its weight."""
    total = (logits * weights[0]).flatten()  # a new tensor, to which the features are added in place
    for (place, value), weight in zip(features, weights[1:OWN], strict=False):
        at, values = torch.from_numpy(place).to(total.device), torch.from_numpy(value).to(total.device)
        total.index_add_(0, at, values * weight)
    return total.view(logits.shape)


def _indicators(codes: Sequence[Ints], items: int) -> scipy.sparse.csr_matrix:
    """(n, items) 1 where a row has the code."""
    row, code = row_code_pairs(codes)
    ones = np.ones(len(row), dtype=np.float32)
    return scipy.sparse.csr_matrix((ones, (row, code)), shape=(len(codes), items))
