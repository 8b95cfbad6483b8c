"""What stands beside GPT-2 in a recommender of item tokens: what is bought together, and what nobody has bought yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from lm.checkpoint.manifest import Manifest
from lm.metrics.baselines import CoPurchases
from lm.recommend.co_purchase import Ints, Neighbours
from lm.recommend.cold_items import Newcomers


@dataclass(frozen=True)
class Beside:
    """Either part may be absent; without both the lists are GPT-2's alone."""

    neighbours: Neighbours | None = None
    newcomers: Newcomers | None = None

    @classmethod
    def counted(
        cls, bought: Sequence[Sequence[str]], titles: Mapping[str, str | None], *, neighbours: bool, newcomers: bool
    ) -> Beside:
        """Of customers' purchases (item ids, oldest first); `titles` are of the model's items, in the order of their
        codes. Nothing is fitted yet.
        """
        codes = {item: code for code, item in enumerate(titles)}
        is_bought = np.zeros(len(codes), np.bool_)
        is_bought[[codes[item] for item in {item for of in bought for item in of}]] = True
        near = Neighbours.of(CoPurchases.fit(bought), codes) if neighbours else None
        return cls(near, Newcomers.of(list(titles.values()), is_bought) if newcomers else None)

    def fitted(
        self, logits: torch.Tensor, purchases: Sequence[Ints], wanted: Sequence[Ints], barred: Sequence[Ints], seed: int
    ) -> Beside:
        """With weights by which the `wanted` items are likeliest, of GPT-2's logits (n, N) after `purchases`."""
        near = self.neighbours and self.neighbours.fitted(logits, purchases, wanted, barred)
        return Beside(near, self.newcomers and self.newcomers.fitted(purchases, wanted, seed))

    def weighted_as(self, other: Beside) -> Beside:
        """With the weights that `other` was fitted with."""
        near, new = self.neighbours, self.newcomers
        return Beside(
            near and other.neighbours and replace(near, weights=other.neighbours.weights),
            new and other.newcomers and replace(new, weights=other.newcomers.weights),
        )

    def is_new(self, codes: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of the items `codes` nobody has bought; -1 is one that the model does not know."""
        if self.newcomers is None:
            return np.zeros(len(codes), np.bool_)
        return (codes < 0) | ~self.newcomers.bought[codes]

    def rows(self, titles: Sequence[str]) -> scipy.sparse.csr_matrix | None:
        """What `log_probs` needs of new products with these titles."""
        return self.newcomers.rows(titles) if self.newcomers is not None and titles else None

    def log_probs(
        self, logits: torch.Tensor, purchases: Sequence[Ints], new: scipy.sparse.csr_matrix | None
    ) -> torch.Tensor:
        """GPT-2's logits (n, N) of known items -> (n, N + C) log-probabilities of these and of C `new` ones.

        `purchases` holds the codes of each customer's, oldest first.
        """
        if self.neighbours is not None:
            logits = self.neighbours.add(logits, purchases)
        if self.newcomers is None or new is None:
            return logits.log_softmax(dim=1)
        return self.newcomers.joined(logits, purchases, new)

    def note(self, manifest: Manifest) -> Manifest:
        """The manifest with the weights."""
        weights = {
            "neighbour_weights": list(self.neighbours.weights) if self.neighbours else [],
            "newcomer_weights": list(self.newcomers.weights) if self.newcomers else [],
        }
        return manifest.model_copy(update=weights)

    def save(self, folder: Path) -> None:
        """Write all but the weights into a model's folder."""
        for part in (self.neighbours, self.newcomers):
            if part is not None:
                part.save(folder)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Beside:
        """What a model's folder has of it. Raises CheckpointError where that is broken or lost."""
        return cls(Neighbours.load(folder, manifest), Newcomers.load(folder, manifest))
