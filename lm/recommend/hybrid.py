"""The hybrid of GPT-2, counted purchases and cold items, for models of item tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from lm.checkpoint.manifest import Manifest
from lm.recommend.co_purchase import CoPurchaseFeatures, Ints
from lm.recommend.cold_items import ColdItems

Floats = NDArray[np.float64]


class Parts(NamedTuple):
    """The summands of a score. `gpt2` also holds the normaliser, which is the same for all products of a customer."""

    gpt2: float
    bought_together: float = 0.0
    bought_again: float = 0.0
    popular: float = 0.0
    like_its_title: float = 0.0
    rule: float = 0.0


@dataclass(frozen=True)
class Hybrid:
    """What is added to GPT-2. Either part may be absent; without both the lists are GPT-2's alone."""

    co_purchase: CoPurchaseFeatures | None = None
    cold_items: ColdItems | None = None

    def is_cold(self, codes: Ints) -> NDArray[np.bool_]:
        """Which of the items `codes` nobody has bought; -1 is an item that the model does not know."""
        if self.cold_items is None:
            return np.zeros(len(codes), np.bool_)
        return (codes < 0) | ~self.cold_items.bought[codes]

    def cold_vectors(self, titles: Sequence[str]) -> scipy.sparse.csr_matrix | None:
        """(C, features) what `log_probs` needs of C cold items with these titles; None where there are none."""
        return self.cold_items.vectors(titles) if self.cold_items is not None and titles else None

    def log_probs(
        self, logits: torch.Tensor, purchases: Sequence[Ints], cold: scipy.sparse.csr_matrix | None
    ) -> torch.Tensor:
        """GPT-2's logits (n, N) of known items -> (n, N + C) log-probabilities of these and of C `cold` items.

        `purchases` holds the item codes of each customer, oldest first.
        """
        if self.co_purchase is not None:
            logits = self.co_purchase.add(logits, purchases)
        if self.cold_items is None or cold is None:
            return logits.log_softmax(dim=1)
        return self.cold_items.log_probs(logits, purchases, cold)

    def parts(self, scores: Sequence[Floats], codes: Sequence[Ints], purchases: Sequence[Ints]) -> list[list[Parts]]:
        """The summands of the scores of some items (by code) of n customers; they sum to the score.

        Cold items have the codes from the number of known items on, as in `log_probs`.
        """
        added = self.co_purchase and self.co_purchase.contributions(purchases)
        popular = np.zeros(1) if self.co_purchase is None else self.co_purchase.popular_part()
        known = len(self.cold_items.bought) if self.cold_items is not None else np.iinfo(np.int64).max
        found = []
        for row, (of_row, items) in enumerate(zip(scores, codes, strict=True)):
            at = np.where(items < known, items, 0)
            together, again = (m[row, at].toarray().ravel() for m in added) if added else (at * 0.0, at * 0.0)
            general = popular[at] if added else at * 0.0
            counted = np.stack([of_row - together - again - general, together, again, general], axis=1).tolist()
            found.append(
                [
                    Parts(*parts) if item < known else Parts(0, like_its_title=score)
                    for score, item, parts in zip(of_row.tolist(), items.tolist(), counted, strict=True)
                ]
            )
        return found

    def with_weights(self, manifest: Manifest) -> Manifest:
        """The manifest with the fitted weights."""
        weights = {
            "neighbour_weights": list(self.co_purchase.weights) if self.co_purchase else [],
            "newcomer_weights": list(self.cold_items.weights) if self.cold_items else [],
        }
        return manifest.model_copy(update=weights)

    def save(self, folder: Path) -> None:
        """Write all but the weights into a model's folder."""
        for part in (self.co_purchase, self.cold_items):
            if part is not None:
                part.save(folder)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Hybrid:
        """Read the parts that a model's folder has. Raises CheckpointError for a lost or broken file."""
        return cls(CoPurchaseFeatures.load(folder, manifest), ColdItems.load(folder, manifest))
