"""What stands on GPT-2's logits: n-grams, a lexicon, the mixture, and what decides the label; fitted on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm.checkpoint.checkpoint import NGRAMS_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.sentiment import english_lexicon
from lm.sentiment.calibration import Mixture, fit_mixture, log_likelihoods, surely_more, text_lengths
from lm.sentiment.label_rule import LabelRule, fit_label_rule
from lm.sentiment.labels import LABELS
from lm.sentiment.ngrams import DESIGNS, HEADS, Design, Ngrams, affordable
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.review_parts import FOLDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Standard errors by which a design is worse that is not tried again.
_HOPELESS = 3.0
#: A lexicon that knows words of fewer texts than this share, as smileys among Chinese, is not worth its time.
_LEXICON_SPEAKS = 0.1


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
        judged: Mapping[int, Floats],
        *,
        categories: Sequence[str] | None = None,
        ngrams: bool = True,
        lexicon: bool = True,
        folds: int = FOLDS,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> Head:
        """The mixture and what decides the label, from validation reviews: `judged` has GPT-2's logits of each fold.

        N-grams that learned from the other folds say there what n-grams weigh; those that are kept learn from all
        reviews but the test's. `categories` are what they see beside each text (`Ngrams.fit_each`). Up to `folds` folds
        choose their design. `report` hears how many of all their linear models are fitted.
        """
        rows = np.concatenate([rated.rows("validation", fold) for fold in judged])
        labels, counts = rated.labels[rows], rated.counts(rows)
        gpt2 = np.concatenate(list(judged.values()))
        judges = [texts[i] for i in rows]
        logits = learned = None
        if ngrams:
            choice = _Choice(texts, categories, rated, seed, report)
            more = [fold for fold in rated.affordable_folds()[:folds] if fold not in judged]
            design, logits = choice.design([*judged, *more], len(judged))
            [learned] = choice.learned(rated.rows("known"), design)
        words = english_lexicon.logits(judges) if lexicon else None
        mixture, p = _mixed(labels, counts, gpt2, text_lengths(judges), logits, words)
        return cls(learned, mixture, fit_label_rule(p, labels, counts))

    @classmethod
    def of(cls, manifest: Manifest, ngrams: Ngrams | None) -> Head:
        """That of a model's folder; without `manifest_values` it leaves GPT-2's logits as they are.

        Raises CheckpointError where the n-grams that the manifest weighs are absent.
        """
        if manifest.ngram_weights and ngrams is None:
            raise CheckpointError(f"the model's folder lacks {NGRAMS_FILE}: copy the whole directory again")
        nothing = [0.0] * len(manifest.labels)
        mixture = Mixture(
            temperature=manifest.temperature,
            ngram_weights=np.array(manifest.ngram_weights),
            lexicon_weight=manifest.lexicon_weight,
            length_power=manifest.length_power,
            usual_lengths=manifest.usual_lengths,
            offsets=np.array(manifest.offsets or nothing),
            lapses=np.array(manifest.lapses or np.eye(len(nothing))),
        )
        weights = manifest.label_weights or [1.0] * len(nothing)
        rule = LabelRule(np.array(weights), np.array(manifest.label_thresholds or nothing))
        return cls(ngrams if manifest.ngram_weights else None, mixture, rule)

    @property
    def name(self) -> str:
        """What is mixed, as a reader of figures calls it."""
        beside = {"n-grams": self.ngrams is not None, "a lexicon": self.mixture.lexicon_weight > 0}
        *others, last = ["GPT-2", *(expert for expert, speaks in beside.items() if speaks)]
        return " and ".join(filter(None, [", ".join(others), last]))

    def probabilities(self, gpt2: Floats, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """(texts, labels) of the label that each is given, from GPT-2's logits of them."""
        return self.mixture.given(self.of_text(gpt2, texts, categories))

    def of_text(self, gpt2: Floats, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """(texts, labels) of what each says, whatever labels such texts are given."""
        ngrams = None if self.ngrams is None else self.ngrams.logits(texts, categories)
        known = english_lexicon.logits(texts) if self.mixture.lexicon_weight else None
        return self.mixture.of_text(gpt2, text_lengths(texts), ngrams, known)

    def manifest_values(self) -> dict[str, Any]:
        """What the checkpoint's manifest keeps of it, by its names there."""
        return {
            "temperature": self.mixture.temperature,
            "ngram_weights": self.mixture.ngram_weights.tolist(),
            "lexicon_weight": self.mixture.lexicon_weight,
            "length_power": self.mixture.length_power,
            "usual_lengths": self.mixture.usual_lengths,
            "offsets": self.mixture.offsets.tolist(),
            "lapses": self.mixture.lapses.tolist(),
            "label_weights": self.rule.weights.tolist(),
            "label_thresholds": self.rule.thresholds.tolist(),
        }


class _Choice:
    """Which of the DESIGNS the n-grams have: linear models are soon fitted, so more folds judge it than GPT-2."""

    def __init__(
        self,
        texts: Sequence[str],
        categories: Sequence[str] | None,
        rated: Rated,
        seed: int,
        report: Callable[[int, int], None],
    ) -> None:
        self.texts, self.categories, self.rated, self.seed, self.report = texts, categories, rated, seed, report
        self.done, self.ahead = 0, 0  # linear models
        self.designs = list(DESIGNS)
        if len(set(categories or ())) > 1:
            self.designs += [design._replace(by_category=True) for design in DESIGNS]

    def learned(self, rows: Ints, *designs: Design) -> list[Ngrams]:
        """N-grams of each of the designs, from these reviews or as many of them as are affordable, drawn at random."""
        order = np.random.default_rng(self.seed).permutation(rows)
        texts, categories = self._seen(order)
        by_category = any(design.by_category for design in designs)
        most = affordable(texts, categories if by_category else None)
        return Ngrams.fit_each(
            texts[:most],
            self.rated.labels[order[:most]],
            len(LABELS),
            designs,
            self._fitted,
            categories=categories and categories[:most],
        )

    def _seen(self, rows: Ints) -> tuple[Sequence[str], Sequence[str] | None]:
        """What n-grams see of these reviews: their texts and categories."""
        return [self.texts[i] for i in rows], self.categories and [self.categories[i] for i in rows]

    def _fitted(self) -> None:
        self.done, self.ahead = self.done + 1, self.ahead - 1
        self.report(self.done, self.done + self.ahead)

    def design(self, folds: Sequence[int], first: int) -> tuple[Design, Floats]:
        """The plainest design unless another is likelier by more than a standard error (Breiman et al.,
        "Classification and Regression Trees", 1984), over the validation reviews of `folds`; and its logits
        (heads, rows, labels) of the `first` of them.

        Designs that are hopeless after some folds are not tried on the others (Maron & Moore, "Hoeffding races", 1994),
        nor those by category, which take longest, where the same without is as likely; one that is left alone needs no
        more than the first.
        """
        left = dict(enumerate(self.designs))
        logits: dict[int, list[Floats]] = {i: [] for i in left}
        labels, lengths = np.zeros((2, 0), np.int64)
        counts = np.zeros(0)
        likelihoods: dict[int, Floats] = {}
        for n, fold in enumerate(folds):
            if n >= first and len(left) == 1:
                break
            self.ahead = HEADS * (len(left) * (len(folds) - n) + 1)
            if not self.done:
                self.report(0, self.ahead)
            rows = self.rated.rows("validation", fold)
            judges, categories = self._seen(rows)
            labels = np.concatenate([labels, self.rated.labels[rows]])
            counts = np.concatenate([counts, self.rated.counts(rows)])
            lengths = np.concatenate([lengths, text_lengths(judges)])
            for i, heads in zip(left, self.learned(self.rated.rows("train", fold), *left.values()), strict=True):
                logits[i].append(heads.logits(judges, categories))
                likelihoods[i] = _log_likelihoods(labels, counts, lengths, np.concatenate(logits[i], axis=1))
            means = {left[i]: float(np.average(likelihoods[i], weights=counts)) for i in left}
            best = max(left, key=lambda i: means[left[i]])
            left = {
                i: design
                for i, design in left.items()
                if not (_in_vain(design, means) or surely_more(likelihoods[best], likelihoods[i], counts, _HOPELESS))
            }
        self.ahead = HEADS
        chosen, *others = left
        for i in others:
            chosen = i if surely_more(likelihoods[i], likelihoods[chosen], counts, 1) else chosen
        return left[chosen], np.concatenate(logits[chosen][:first], axis=1)


def _in_vain(design: Design, means: Mapping[Design, float]) -> bool:
    """Whether it is by category and no likelier in the mean than the same without, where that is still tried."""
    return design.by_category and means[design] <= means.get(design._replace(by_category=False), -np.inf)


def _mixed(
    labels: Ints, counts: Floats, gpt2: Floats, lengths: Ints, ngrams: Floats | None, words: Floats | None
) -> tuple[Mixture, Floats]:
    """The mixture and what it says of the validation reviews; with the lexicon's `words` only where those are likelier
    by more than a standard error.
    """
    mixture = fit_mixture(labels, gpt2, lengths, ngrams, counts=counts)
    p = mixture.probabilities(gpt2, lengths, ngrams)
    if words is not None and words.any(axis=1).mean() >= _LEXICON_SPEAKS:
        told = fit_mixture(labels, gpt2, lengths, ngrams, words, counts)
        better = told.probabilities(gpt2, lengths, ngrams, words)
        if surely_more(log_likelihoods(better, labels), log_likelihoods(p, labels), counts, 1):
            return told, better
    return mixture, p


def _log_likelihoods(labels: Ints, counts: Floats, lengths: Ints, logits: Floats) -> Floats:
    """(rows,) of each label by n-grams alone."""
    nothing = np.zeros(logits.shape[1:])
    mixture = fit_mixture(labels, nothing, lengths, logits, counts=counts)
    return log_likelihoods(mixture.probabilities(nothing, lengths, logits), labels)
