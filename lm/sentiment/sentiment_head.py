"""The head of the classifier: adds n-grams and a lexicon to GPT-2's logits, calibrates, and chooses the label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm.checkpoint.checkpoint import NGRAMS_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.sentiment import english_lexicon
from lm.sentiment.calibration import Mixture, fit_linear, label_weights, with_gpt2, without_ngrams
from lm.sentiment.labels import LABELS
from lm.sentiment.ngrams import Ngrams, affordable
from lm.sentiment.rated_reviews import Rated

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A lexicon that knows words of a smaller share of the texts, such as emoticons in Chinese, is not worth its time.
_LEXICON_COVERAGE = 0.1


@dataclass(frozen=True)
class Head:
    """The fitted head of a classifier; `ngrams` is None where it has none."""

    ngrams: Ngrams | None
    mixture: Mixture
    label_weights: Floats  # (labels,) that multiply the probabilities before the argmax

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        rated: Rated,
        gpt2: Floats,
        *,
        categories: Sequence[str] | None = None,
        ngrams: bool = True,
        lexicon: bool = True,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> Head:
        """Fit the head on validation reviews; `gpt2` has the logits of those of fold 0, (rows, labels).

        The linear model is cheap, so several folds are trained to calibrate it; GPT-2 trains once, and its weight is
        fitted on fold 0. The n-grams that are kept learn from all reviews but the test's. `categories` are what the
        texts are about, "" if unknown. `report` hears how many of all linear models are trained.
        """
        folds = rated.folds() if ngrams else [0]
        validation = [rated.rows("validation", fold) for fold in folds]
        rows = np.concatenate(validation)
        labels, counts = rated.labels[rows], rated.counts(rows)

        def of(chosen: Ints) -> tuple[Sequence[str], Sequence[str] | None]:
            return [texts[i] for i in chosen], categories and [categories[i] for i in chosen]

        def trained(chosen: Ints, done: int) -> Ngrams:
            report(done, len(folds) + 1)
            order = np.random.default_rng(seed).permutation(chosen)
            order = order[: affordable(*of(order))]
            seen, about = of(order)
            return Ngrams.fit(seen, rated.labels[order], len(LABELS), about)

        words = english_lexicon.logits([texts[i] for i in rows]) if lexicon else None
        if words is not None and words.any(axis=1).mean() < _LEXICON_COVERAGE:
            words = None
        weights = label_weights(labels, counts, len(LABELS))
        if not ngrams:
            return cls(None, without_ngrams(fit_linear(labels, counts, gpt2, words)), weights)
        judged = [
            trained(rated.rows("train", fold), done).logits(*of(judges))
            for done, (fold, judges) in enumerate(zip(folds, validation, strict=True))
        ]
        linear = np.concatenate(judged)
        model = trained(rated.rows("known"), len(folds))
        report(len(folds) + 1, len(folds) + 1)
        mixture = fit_linear(labels, counts, linear, words)
        first = slice(len(gpt2))  # the rows of fold 0
        words = None if words is None else words[first]
        mixture = with_gpt2(mixture, labels[first], rated.counts(rows[first]), gpt2, linear[first], words)
        return cls(model, mixture, weights)

    @classmethod
    def of(cls, manifest: Manifest, ngrams: Ngrams | None) -> Head:
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

    def choose(self, p: Floats) -> Ints:
        """(texts,) the label of each text, from probabilities (texts, labels)."""
        return (self.label_weights * p).argmax(axis=1)

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
