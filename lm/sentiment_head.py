"""What stands on GPT-2's logits: n-grams, the mixture of both, and what decides the label; fitted on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm.calibration import Mixture, fit_mixture
from lm.label_rule import LabelRule, fit_label_rule
from lm.ngrams import DESIGNS, HEADS, Design, Ngrams, affordable
from lm.rated_reviews import LABELS, Rated


@dataclass(frozen=True)
class Head:
    """The fitted head of a classifier."""

    ngrams: Ngrams | None
    mixture: Mixture
    rule: LabelRule

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        rated: Rated,
        judged: Mapping[int, NDArray[np.float64]],
        *,
        ngrams: bool = True,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> Head:
        """The mixture and what decides the label, from validation reviews: `judged` has GPT-2's logits of each fold.

        N-grams that learned from the other folds say there what n-grams weigh; those that are kept learn from all
        reviews but the test's. Their design is the plainest unless another is likelier by more than a standard error
        (Breiman et al., "Classification and Regression Trees", 1984). `report` hears how many of all their linear
        models are fitted.
        """
        labels = np.concatenate([rated.labels[rated.rows("validation", fold)] for fold in judged])
        gpt2 = np.concatenate(list(judged.values()))
        known = rated.rows("known")
        if not ngrams:
            mixture = fit_mixture(labels, gpt2)
            return cls(None, mixture, fit_label_rule(mixture.probabilities(gpt2), labels))

        done, of = 0, HEADS * (len(judged) * len(DESIGNS) + 1)

        def fitted() -> None:
            nonlocal done
            done += 1
            report(done, of)

        report(0, of)

        def learned(rows: NDArray[np.int64], *designs: Design) -> list[Ngrams]:
            order = np.random.default_rng(seed).permutation(rows)
            some = [texts[i] for i in order]
            most = affordable(some)
            return Ngrams.fit_each(some[:most], rated.labels[order[:most]], len(LABELS), designs, fitted)

        parts = []
        for fold in judged:
            others = [texts[i] for i in rated.rows("validation", fold)]
            parts.append([heads.logits(others) for heads in learned(rated.rows("train", fold), *DESIGNS)])
        each = [np.concatenate(logits, axis=1) for logits in zip(*parts, strict=True)]
        mixtures = [fit_mixture(labels, gpt2, logits) for logits in each]
        p = [mixture.probabilities(gpt2, logits) for mixture, logits in zip(mixtures, each, strict=True)]
        best = 0
        for i in range(1, len(DESIGNS)):
            best = i if _surely_likelier(p[i], p[best], labels) else best
        return cls(learned(known, DESIGNS[best])[0], mixtures[best], fit_label_rule(p[best], labels))

    def ngram_logits(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """(heads, texts, labels), None where GPT-2 stands alone."""
        return None if self.ngrams is None else self.ngrams.logits(texts)

    def manifest_values(self) -> dict[str, Any]:
        """What the checkpoint's manifest keeps of it, by its names there."""
        return {
            "temperature": self.mixture.temperature,
            "ngram_weights": self.mixture.ngram_weights.tolist(),
            "offsets": self.mixture.offsets.tolist(),
            "noise": self.mixture.noise.tolist(),
            "label_weights": self.rule.weights.tolist(),
            "label_thresholds": self.rule.thresholds.tolist(),
        }


def _surely_likelier(p: NDArray[np.float64], than: NDArray[np.float64], labels: NDArray[np.int64]) -> bool:
    """Whether `p` (rows, classes) gives the labels a mean log-probability that is more than a standard error higher."""
    each = np.arange(len(labels)), labels
    gain = np.log(np.maximum(p[each], 1e-12)) - np.log(np.maximum(than[each], 1e-12))
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
