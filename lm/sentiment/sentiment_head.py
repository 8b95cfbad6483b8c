"""The head of the classifier: adds n-grams and a lexicon to GPT-2's logits, calibrates, and chooses the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm.checkpoint.checkpoint import NGRAMS_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.sentiment import english_lexicon
from lm.sentiment.calibration import Mixture
from lm.sentiment.ngrams import Ngrams

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SentimentHead:
    """The fitted head of a classifier; `ngrams` is None where it has none."""

    ngrams: Ngrams | None
    mixture: Mixture
    label_weights: Floats  # (labels,) that multiply the probabilities before the argmax

    @classmethod
    def of(cls, manifest: Manifest, ngrams: Ngrams | None) -> SentimentHead:
        """The head of a model's folder; a manifest at its defaults leaves GPT-2's logits as they are.

        Raises CheckpointError where the folder lacks the n-grams of its manifest.
        """
        if manifest.ngram_weight and ngrams is None:
            raise CheckpointError(f"the model's folder lacks {NGRAMS_FILE}: copy the whole directory again")
        labels = len(manifest.labels)
        mixture = Mixture(
            temperature=manifest.temperature,
            ngram_weight=manifest.ngram_weight,
            lexicon_weight=manifest.lexicon_weight,
            offsets=np.array(manifest.offsets or [0.0] * labels),
            lapses=np.array(manifest.lapses or np.eye(labels)),
        )
        weights = np.array(manifest.label_weights or [1.0] * labels)
        return cls(ngrams if manifest.ngram_weight else None, mixture, weights)

    @property
    def name(self) -> str:
        """The parts that are mixed, for a table of figures."""
        parts = {"n-grams": self.ngrams is not None, "a lexicon": self.mixture.lexicon_weight > 0}
        *others, last = ["GPT-2", *(part for part, is_used in parts.items() if is_used)]
        return " and ".join(filter(None, [", ".join(others), last]))

    def of_text(self, gpt2: Floats, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """(texts, labels) probabilities of what each text says, from GPT-2's logits."""
        ngrams = None if self.ngrams is None else self.ngrams.logits(texts, categories)
        lexicon = english_lexicon.logits(texts) if self.mixture.lexicon_weight else None
        return self.mixture.of_text(gpt2, ngrams, lexicon)

    def probabilities(self, gpt2: Floats, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """(texts, labels) probabilities of the label that is observed, from GPT-2's logits."""
        return self.mixture.observed(self.of_text(gpt2, texts, categories))

    def choose(self, p: Floats, likeliest: bool = False) -> Ints:
        """(texts,) the label of each text, from probabilities (texts, labels): after its weights, or the likeliest."""
        return (p if likeliest else self.label_weights * p).argmax(axis=1)

    def manifest_values(self) -> dict[str, Any]:
        """The fields of the manifest that `of` reads."""
        return {
            "temperature": self.mixture.temperature,
            "ngram_weight": self.mixture.ngram_weight,
            "lexicon_weight": self.mixture.lexicon_weight,
            "offsets": self.mixture.offsets.tolist(),
            "lapses": self.mixture.lapses.tolist(),
            "label_weights": self.label_weights.tolist(),
        }
