"""Products that nobody has bought yet: how probable each is, by what its title shares with a customer's purchases.

A model that counts or learns purchases knows nothing of them: not one of Amazon Beauty's new items ever reached a list
by its title's words in GPT-2 alone. So their odds against all known products together are e^s with s = slope ·
log(likeness + 0.1) + constant, where the likeness sums the TF-IDF cosines (Salton & Buckley 1988) of the title to those
of the customer's newest purchases, the last counting most. Slope and constant are a conditional logit (McFadden 1974)
on the purchases that validate, where each twentieth of the known products in turn is treated as if it were new. The
constant is then lowered by its standard error: between lists that promise as many hits the one with more known products
is the surer, and what few purchases say of new products is doubted more. GPT-2's own logits have no part in s, nor has
what is like the title among the products that they hold probable: of a product that was trained on they know too much.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lm.checkpoint.checkpoint import COLD_ITEMS_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

#: Known products are treated as new in so many parts, one after the other.
FOLDS = 20
_NEWEST = 20
#: What a purchase counts beside the one after it.
_DECAY = 0.7
#: A likeness counts as its logarithm once this is added.
_SMALL = 0.1
_BUCKETS = 1 << 20
#: A Chinese character is a word of its own.
_WORD = re.compile("[\u3400-\u9fff\uf900-\ufaff]|[^\\W\u3400-\u9fff\uf900-\ufaff]+")
_TITLES_AT_ONCE = 50_000
#: Odds of a product that a customer cannot newly buy.
_NEVER = -1e4


@dataclass(frozen=True)
class Newcomers:
    """The N known products by their codes: the words of their titles, and which of them have been bought."""

    titles: scipy.sparse.csr_matrix  # (N, _BUCKETS) float32, rows of length 1; an empty row where there is no title
    idf: Floats  # (_BUCKETS,)
    bought: NDArray[np.bool_]  # (N,)
    weights: tuple[float, float] = (0.0, _NEVER)  # slope, constant

    @classmethod
    def of(cls, titles: Sequence[str | None], bought: NDArray[np.bool_]) -> Newcomers:
        """Of the titles (N,) and which products were bought (N,), before anything is fitted."""
        counts = _counted([title or "" for title in titles])
        shared = np.bincount(counts.indices, minlength=_BUCKETS)
        idf = (np.log((1 + len(titles)) / (1 + shared)) + 1).astype(np.float32)
        return cls(_weighted(counts, idf), idf, bought)

    def rows(self, titles: Sequence[str]) -> scipy.sparse.csr_matrix:
        """The words of other titles (C,): (C, _BUCKETS)."""
        return _weighted(_counted(titles), self.idf)

    def joined(self, logits: torch.Tensor, purchases: Sequence[Ints], rows: scipy.sparse.csr_matrix) -> torch.Tensor:
        """(n, N) logits of the known products -> (n, N + C) log-probabilities of those and of `rows`' C new ones.

        `purchases` holds the codes of each customer's, oldest first. A known product that nobody has bought has
        probability 0 there: it is to be among the new ones.
        """
        unbought = torch.from_numpy(~self.bought).to(logits.device)
        known = logits.masked_fill(unbought, -torch.inf).log_softmax(dim=1)
        slope, constant = self.weights
        odds = np.float32(slope) * self._likeness(purchases, rows) + np.float32(constant)
        # By numpy in float64: torch's logarithm rounds by where in a batch a row stands.
        total = np.log1p(np.exp(odds.astype(np.float64)).sum(axis=1, keepdims=True)).astype(np.float32)
        joined = torch.cat([known, torch.from_numpy(odds).to(logits.device)], dim=1)
        return joined - torch.from_numpy(total).to(logits.device)

    def _likeness(self, purchases: Sequence[Ints], rows: scipy.sparse.csr_matrix) -> Floats:
        """The logarithm of what C titles share with the newest purchases of each customer: (n, C)."""
        newest = [_newest_first(codes)[:_NEWEST] for codes in purchases]
        lengths = [len(codes) for codes in newest]
        row = np.repeat(np.arange(len(newest)), lengths)
        weight = np.concatenate([_DECAY ** np.arange(length) for length in [*lengths, 0]]).astype(np.float32)
        place = np.concatenate([*newest, np.empty(0, np.int64)])
        own = scipy.sparse.csr_matrix((weight, (row, place)), shape=(len(newest), len(self.bought)))
        shared = ((own @ self.titles) @ rows.T).toarray()
        return np.log(shared + np.float32(_SMALL))

    def fitted(self, purchases: Sequence[Ints], wanted: Sequence[Ints], seed: int) -> Newcomers:
        """With slope and constant for customers of these `purchases` (codes, oldest first) who then bought `wanted`.

        The constant is a standard error below the likeliest. Customers weigh the same, whatever they bought. A product
        of a customer's own is no new one and cannot be newly bought. Without anything to learn from new products stay
        out of all lists.
        """
        known = np.flatnonzero(self.bought)
        drawn = np.random.default_rng(seed).permutation(known)
        parts = [self._as_if_new(np.sort(drawn[part::FOLDS]), purchases, wanted) for part in range(FOLDS)]
        if not any(len(part.customer) for part in parts):
            return replace(self, weights=(0.0, _NEVER))
        share = sum(sum(part.share) for part in parts) / (len(purchases) * len(known))
        begin = torch.tensor([1.0, float(np.log(share))])
        weights = begin.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            total = (weights - begin).square().sum() / 2 + sum(part.loss(weights) for part in parts)
            total.backward()
            return total

        optimizer.step(loss)
        curvature = sum(torch.autograd.functional.hessian(part.loss, weights.detach()) for part in parts)
        covariance = torch.linalg.inv(torch.eye(2) + curvature)
        slope, constant = weights.tolist()
        surely = constant - float(covariance[1, 1].sqrt())
        return replace(self, weights=(round(slope, 6), round(surely, 6)))

    def _as_if_new(self, codes: Ints, purchases: Sequence[Ints], wanted: Sequence[Ints]) -> _Fold:
        """What there is to learn where the products `codes` (rising) count as new."""
        is_new = np.zeros(len(self.bought), np.bool_)
        is_new[codes] = True
        place = is_new.cumsum() - 1  # of a code in `codes`
        others = [of[~is_new[of]] for of in purchases]
        is_own = np.zeros((len(purchases), len(codes)), np.bool_)
        customer, product, share = [], [], []
        for row, (of, then) in enumerate(zip(purchases, wanted, strict=True)):
            is_own[row, place[of[is_new[of]]]] = True
            new = place[then[is_new[then]]]
            new = new[~is_own[row, new]]
            customer += [row] * len(new)
            product += new.tolist()
            share += [1 / len(then)] * len(new)
        likeness = torch.from_numpy(self._likeness(others, self.titles[codes]))
        return _Fold(likeness, torch.from_numpy(is_own), customer, product, share)

    def save(self, folder: Path) -> None:
        """Write everything but the weights, which belong into the manifest, into a model's folder."""
        parts = {"data": self.titles.data, "indices": self.titles.indices, "indptr": self.titles.indptr}
        save_file({**parts, "idf": self.idf, "bought": self.bought}, folder / COLD_ITEMS_FILE)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Newcomers | None:
        """Those of a model's folder, None where it has none. Raises CheckpointError where they are broken or lost."""
        if not manifest.newcomer_weights:
            return None
        file = folder / COLD_ITEMS_FILE
        try:
            stored = load_file(file)
            shape = len(manifest.item_ids), len(stored["idf"])
            titles = scipy.sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=shape)
            slope, constant = manifest.newcomer_weights
            return cls(titles, stored["idf"], stored["bought"], (slope, constant))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error


@dataclass(frozen=True)
class _Fold:
    """Known products that count as new: likeness and whether a customer had it (n, C), and who bought which."""

    likeness: torch.Tensor
    is_own: torch.Tensor
    customer: list[int]
    product: list[int]
    share: list[float]  # of what the customer then bought

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        """-ln of the likelihood of slope and constant (2,)."""
        odds = (weights[0] * self.likeness + weights[1]).masked_fill(self.is_own, _NEVER)
        against_all = torch.nn.functional.softplus(odds.logsumexp(dim=1)).sum()
        return against_all - (torch.tensor(self.share) * odds[self.customer, self.product]).sum()


def _newest_first(codes: Ints) -> Ints:
    different, newest = np.unique(codes[::-1], return_index=True)
    return different[np.argsort(newest)]


@cache
def _vectorizer() -> Any:
    """`_features` by their hashes. Imported late: it takes a second."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(analyzer=_features, n_features=_BUCKETS, alternate_sign=False, norm=None, dtype=np.float32)


def _features(title: str) -> list[str]:
    """Words, pairs of words, and the first word once more: in many catalogues it is the brand."""
    words = _WORD.findall(title.lower())
    return [*words, *map(" ".join, pairwise(words)), *(f"^{word}" for word in words[:1])]


def _counted(titles: Sequence[str]) -> scipy.sparse.csr_matrix:
    """How often each feature occurs in each title: (C, _BUCKETS)."""
    if not titles:
        return scipy.sparse.csr_matrix((0, _BUCKETS), dtype=np.float32)
    return _vectorizer().transform(titles)


def _weighted(counts: scipy.sparse.csr_matrix, idf: Floats) -> scipy.sparse.csr_matrix:
    """TF-IDF with 1 + ln(tf), each row of length 1."""
    from sklearn.preprocessing import normalize

    weighted = counts.copy()
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    return normalize(weighted)
