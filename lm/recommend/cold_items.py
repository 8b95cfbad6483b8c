"""Probabilities of cold items: products that nobody has bought yet, scored by their titles.

A model that learns from purchases knows nothing of such products. The odds of each against all known products together
are exp(slope * log(similarity + 0.1) + constant). The similarity is a sum of TF-IDF cosines between the title and the
titles of the customer's newest purchases; older purchases count less. GPT-2's logits have no part in it: they know too
much of the products that GPT-2 was trained on. `lm.recommend_training.fit_hybrid` fits slope and constant. A product
whose title says nothing is never listed: nothing tells whom it suits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lm.checkpoint.checkpoint import COLD_ITEMS_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.recommend.co_purchase import Ints, distinct_newest_first
from lm.recommend.mapped_arrays import mapped_arrays
from lm.recommend.title_features import feature_counts, inverse_document_frequency, tf_idf

#: Log-odds of a product that must not be listed.
NEVER = -1e4
#: Newest distinct purchases that are compared.
_NEWEST = 20
#: Weight of a purchase relative to the one after it.
_DECAY = 0.7
#: Added to a similarity before its logarithm is taken.
_OFFSET = 0.1


@dataclass(frozen=True)
class ColdItems:
    """Title vectors of the N products that the model knows, in the order of their codes, and the fitted weights."""

    title_vectors: scipy.sparse.csr_matrix  # (N, BUCKETS) float32; a product without a title has an empty row
    idf: NDArray[np.float32]  # (BUCKETS,)
    bought: NDArray[np.bool_]  # (N,) whether anybody bought the product
    weights: tuple[float, float] = (0.0, NEVER)  # slope, constant

    @classmethod
    def of(cls, titles: Sequence[str | None], bought: NDArray[np.bool_]) -> ColdItems:
        """Vectors of titles (N,), with weights under which no cold item is ever listed."""
        counts = feature_counts([title or "" for title in titles])
        idf = inverse_document_frequency(counts)
        return cls(tf_idf(counts, idf), idf, bought)

    def vectors(self, titles: Sequence[str]) -> scipy.sparse.csr_matrix:
        """(C, BUCKETS) vectors of other titles (C,)."""
        return tf_idf(feature_counts(titles), self.idf)

    def log_probs(self, logits: torch.Tensor, purchases: Sequence[Ints], cold: scipy.sparse.csr_matrix) -> torch.Tensor:
        """(n, N) logits of known products -> (n, N + C) log-probabilities of these and of C `cold` ones.

        `purchases` holds the item codes of each customer, oldest first. A known product that nobody has bought gets
        probability 0: callers list it among the cold ones.
        """
        unbought = torch.from_numpy(~self.bought).to(logits.device)
        known = logits.masked_fill(unbought, -torch.inf).log_softmax(dim=1)
        slope, constant = self.weights
        odds = np.float32(slope) * self.log_similarity(purchases, cold) + np.float32(constant)
        odds[:, np.diff(cold.indptr) == 0] = NEVER
        # numpy in float64: the rounding of torch's logarithm depends on a row's place in the batch.
        total = np.log1p(np.exp(odds.astype(np.float64)).sum(axis=1, keepdims=True)).astype(np.float32)
        joined = torch.cat([known, torch.from_numpy(odds).to(logits.device)], dim=1)
        return joined - torch.from_numpy(total).to(logits.device)

    def log_similarity(self, purchases: Sequence[Ints], vectors: scipy.sparse.csr_matrix) -> NDArray[np.float32]:
        """(n, C) logarithm of the similarity of C titles to each customer's newest purchases."""
        newest = [distinct_newest_first(codes)[0][:_NEWEST] for codes in purchases]
        lengths = [len(codes) for codes in newest]
        row = np.repeat(np.arange(len(newest)), lengths)
        weight = np.concatenate([_DECAY ** np.arange(length) for length in [*lengths, 0]]).astype(np.float32)
        column = np.concatenate([*newest, np.empty(0, np.int64)])
        weighted = scipy.sparse.csr_matrix((weight, (row, column)), shape=(len(newest), len(self.bought)))
        similarity = ((weighted @ self.title_vectors) @ vectors.T).toarray()
        return np.log(similarity + np.float32(_OFFSET))

    def save(self, folder: Path) -> None:
        """Write everything but the weights into a model's folder; the manifest holds the weights."""
        titles = self.title_vectors
        arrays = {"data": titles.data, "indices": titles.indices, "indptr": titles.indptr}
        save_file({**arrays, "idf": self.idf, "bought": self.bought}, folder / COLD_ITEMS_FILE)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> ColdItems | None:
        """Read a model's folder, None where it has no cold items. Raises CheckpointError for a lost or broken file."""
        if not manifest.newcomer_weights:
            return None
        file = folder / COLD_ITEMS_FILE
        try:
            stored = mapped_arrays(file)
            shape = len(manifest.item_ids), len(stored["idf"])
            titles = scipy.sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=shape)
            slope, constant = manifest.newcomer_weights
            return cls(titles, stored["idf"], stored["bought"], (slope, constant))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error
