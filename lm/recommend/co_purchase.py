"""What is bought with what, and again, beside GPT-2: features of a customer's purchases that are added to its logits.

A GPT-2 that starts from some thousand customers does not learn every pair of products that go together, nor when to
repeat; counting does ("Wide & Deep", Cheng et al. 2016). The logits of all products are those of GPT-2 and of the
features below, each times its weight: a conditional logit (McFadden 1974), fitted on the purchases that validate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lm.checkpoint.checkpoint import CO_PURCHASE_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.metrics.baselines import CoPurchases

Ints = NDArray[np.int64]

#: What the weights are of, in their order: GPT-2's logits; items near the newest 50 of a customer, and near the newest
#: ten; how often the item was bought, whether at all, and how lately.
FEATURES = ("gpt2", "near", "nearest", "times", "bought", "lately")
#: Pairs that are kept, of each item the closest ones: 8 bytes each in the model's folder and in every worker.
PAIRS = 20_000_000
_FEWEST = 50
_NEWEST = (50, 10)
#: A sum of cosines counts as log(1 + sum / this): the first common customers say most.
_SMALL = 0.01
#: Items after which a purchase says half as much of the next.
_LATELY = 20.0
#: (customers, items) logits that are alive while the weights are fitted.
CELLS = 24_000_000


@dataclass(frozen=True)
class Neighbours:
    """Item-to-item cosines of N items by their codes, and the weights of FEATURES."""

    cosines: scipy.sparse.csr_matrix  # (N, N) float32
    weights: tuple[float, ...] = (1.0, *[0.0] * (len(FEATURES) - 1))

    @classmethod
    def of(cls, counted: CoPurchases, codes: Mapping[str, int]) -> Neighbours:
        """The closest of each item's co-purchased ones; `codes` numbers all items from 0."""
        row = np.repeat(np.arange(len(counted.items)), np.diff(counted.starts))
        order = np.lexsort((counted.columns, -counted.cosines, row))
        most = max(_FEWEST, PAIRS // max(len(codes), 1))
        kept = order[np.arange(len(order)) - counted.starts[row[order]] < most]
        code = np.array([codes[item] for item in counted.items], dtype=np.int64)
        entries = counted.cosines[kept].astype(np.float32), (code[row[kept]], code[counted.columns[kept]])
        return cls(scipy.sparse.csr_matrix(entries, shape=(len(codes), len(codes))))

    def add(self, logits: torch.Tensor, purchases: Sequence[Ints]) -> torch.Tensor:
        """(n, N) logits of GPT-2 and `purchases` (codes, oldest first) of each row -> (n, N) logits of both."""
        gpt2, *weights = self.weights
        return _combined(logits, self._features(purchases), [gpt2, *weights])

    def fitted(
        self, logits: torch.Tensor, purchases: Sequence[Ints], wanted: Sequence[Ints], barred: Sequence[Ints]
    ) -> Neighbours:
        """With the weights that make the `wanted` items of each row likeliest among those not `barred`.

        Beside the likelihood stands a normal prior of variance 1 around GPT-2 alone, so few rows change little.
        """
        features = self._features(purchases)
        begin = torch.tensor(Neighbours.weights, device=logits.device)
        weights = begin.clone().requires_grad_()
        row, code, share = (torch.from_numpy(values).to(logits.device) for values in _pairs(wanted, shared=True))
        logits = logits.clone()
        logits[tuple(torch.from_numpy(values).to(logits.device) for values in _pairs(barred)[:2])] = -1e4
        optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            log_p = _combined(logits, features, list(weights)).log_softmax(dim=1)
            total = (weights - begin).square().sum() / 2 - (share * log_p[row, code]).sum()
            total.backward()
            return total

        optimizer.step(loss)
        return replace(self, weights=tuple(round(value, 6) for value in weights.tolist()))

    def _features(self, purchases: Sequence[Ints]) -> list[tuple[Ints, NDArray[np.float32]]]:
        """Of each feature but GPT-2's: places in (n, N) laid flat, none twice, and the values there."""
        items = self.cosines.shape[0]
        counted = [_newest_first(codes) for codes in purchases]
        newest = [codes for codes, _ in counted]
        found = []
        for most in _NEWEST:
            sums = _indicators([codes[:most] for codes in newest], items) @ self.cosines  # (n, N)
            row = np.repeat(np.arange(len(purchases)), np.diff(sums.indptr))
            found.append((row * items + sums.indices, np.log1p(sums.data / np.float32(_SMALL))))
        if any(self.weights[1 + len(_NEWEST) :]) or not any(self.weights[1:]):  # not where own items are never listed
            row = np.repeat(np.arange(len(purchases)), [len(codes) for codes in newest])
            place = row * items + np.concatenate([*newest, np.empty(0, np.int64)])
            times = np.concatenate([*(times for _, times in counted), np.empty(0)])
            age = np.concatenate([*(np.arange(len(codes)) for codes in newest), np.empty(0)])
            values = np.log1p(times), np.ones(len(place)), _LATELY / (_LATELY + age)
            found += [(place, value.astype(np.float32)) for value in values]
        return found

    def save(self, folder: Path) -> None:
        """Write the cosines into a model's folder; the weights belong into its manifest."""
        names = ("indptr", "indices", "data")
        save_file(
            {name: np.ascontiguousarray(getattr(self.cosines, name)) for name in names}, folder / CO_PURCHASE_FILE
        )

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Neighbours | None:
        """Those of a model's folder, None where it has none. Raises CheckpointError where they are broken or lost."""
        if not manifest.neighbour_weights:
            return None
        file, items = folder / CO_PURCHASE_FILE, len(manifest.item_ids)
        try:
            stored = load_file(file)
            parts = stored["data"], stored["indices"], stored["indptr"]
            cosines = scipy.sparse.csr_matrix(parts, shape=(items, items))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error
        return cls(cosines, tuple(manifest.neighbour_weights))


def purchases_in(tokens: Sequence[int], first: int) -> Ints:
    """Codes of the items, oldest first, at the end of a prompt: there a purchase is one token, from `first` on."""
    run = np.array(tokens, dtype=np.int64)[::-1] - first
    others = np.flatnonzero(run < 0)
    return run[: others[0] if len(others) else len(run)][::-1]


def _newest_first(codes: Ints) -> tuple[Ints, Ints]:
    """The different codes, the one that came last first, and how often each came."""
    different, newest, times = np.unique(codes[::-1], return_index=True, return_counts=True)
    order = np.argsort(newest)
    return different[order], times[order]


def _indicators(codes: Sequence[Ints], items: int) -> scipy.sparse.csr_matrix:
    """(n, items) 1 where a row has the code."""
    row, code, _ = _pairs(codes)
    ones = np.ones(len(row), dtype=np.float32)
    return scipy.sparse.csr_matrix((ones, (row, code)), shape=(len(codes), items))


def _pairs(codes: Sequence[Ints], *, shared: bool = False) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """(row, code, weight) of every code of every row; `shared`: a row's weights sum to 1, else each is 1."""
    lengths = np.array([len(of) for of in codes], dtype=np.int64)
    weight = np.repeat(1 / np.maximum(lengths, 1) if shared else np.ones(len(codes)), lengths)
    code = np.concatenate([*codes, np.empty(0, np.int64)])
    return np.repeat(np.arange(len(codes)), lengths), code, weight.astype(np.float32)


def _combined(
    logits: torch.Tensor,
    features: Sequence[tuple[Ints, NDArray[np.float32]]],
    weights: Sequence[Any],  # numbers, or tensors that learn
) -> torch.Tensor:
    total = (logits * weights[0]).flatten()
    for (place, value), weight in zip(features, weights[1:], strict=False):
        at, what = torch.from_numpy(place).to(total.device), torch.from_numpy(value).to(total.device)
        total = total.index_add(0, at, what * weight)
    return total.view(logits.shape)
