"""Splits rated reviews into those that train, validate and test a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lm.sentiment.labels import UNRATED
from lm.sentiment.review_parts import FOLDS, Part, Parts, parts_of
from lm.train.training_state import TooFewExamples, TrainingError

_FEWEST = 50
#: More validation reviews calibrate hardly better.
_MOST_JUDGED = 5000


@dataclass(frozen=True)
class Rated:
    """The label of each review, UNRATED where it has no stars, and its part."""

    labels: NDArray[np.int64]  # (texts,), UNRATED where there is none
    parts: Parts

    @classmethod
    def split(cls, texts: Sequence[str], labels: NDArray[np.int64]) -> Rated:
        """Give each text its part. Raises TooFewExamples or, where all labels are alike, TrainingError."""
        rated = cls(labels, parts_of(texts))
        counts = {part: len(rated.rows(part)) for part in ("train", "validation", "test")}
        if sum(counts.values()) < _FEWEST or not all(counts.values()):
            texts_differ = len(np.unique(rated.parts.wording[labels != UNRATED]))
            raise TooFewExamples(
                f"{sum(counts.values()):,} rated reviews with {texts_differ:,} different texts are too few to learn "
                f"sentiment from: about {_FEWEST} with different texts are needed. Give more days, or set "
                "models.sentiment to a trained checkpoint, or to null for a shop without labels"
            )
        if len(np.unique(labels[rated.rows("train")])) < 2:
            raise TrainingError(
                "all rated reviews have the same sentiment: check sentiment.negative_stars and positive_stars"
            )
        return rated

    def rows(self, part: Part, fold: int = 0) -> NDArray[np.int64]:
        """The indices of the rated reviews of a part where `fold` validates."""
        rows = self.parts.rows(part, fold)
        return rows[self.labels[rows] != UNRATED]

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows,) the weight of each review in validation: duplicate texts share one vote."""
        _, place, copies = np.unique(self.parts.wording[rows], return_inverse=True, return_counts=True)
        weights: NDArray[np.float64] = 1 / copies[place]
        return weights

    def folds(self) -> list[int]:
        """The folds that validate the linear model: fold 0, and others until they hold _MOST_JUDGED reviews."""
        sizes = [len(self.rows("validation", fold)) for fold in range(FOLDS)]
        usable = [
            fold
            for fold in range(1, FOLDS)
            if sizes[fold] and len(np.unique(self.labels[self.rows("train", fold)])) > 1
        ]
        return [0, *usable][: max(1, _MOST_JUDGED * FOLDS // sum(sizes))]
