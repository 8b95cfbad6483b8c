"""Rated reviews, and which of them train, validate and test a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lm.sentiment.labels import UNRATED
from lm.sentiment.review_parts import FOLDS, Part, Parts, parts_of
from lm.train.training_state import TrainingError

_FEWEST = 50
#: Texts of the rarest label that calibration wants to see, those of all labels, and the most that are judged for it.
_RAREST_JUDGED, _ALL_JUDGED, _MOST_JUDGED = 200, 2000, 20_000


@dataclass(frozen=True)
class Rated:
    """Reviews with a label or none, each in its part."""

    labels: NDArray[np.int64]  # (texts,), UNRATED where there is none
    parts: Parts

    @classmethod
    def split(cls, texts: Sequence[str], labels: NDArray[np.int64]) -> Rated:
        """Give each text its part. Raises TrainingError where the rated ones are too few or all alike."""
        rated = cls(labels, parts_of(texts))
        counts = {part: len(rated.rows(part)) for part in ("train", "validation", "test")}
        if sum(counts.values()) < _FEWEST or not all(counts.values()):
            raise TrainingError(
                f"{sum(counts.values())} rated reviews are too few to learn sentiment from: at least {_FEWEST} "
                "with different texts are needed; give more days, or set models.sentiment to a trained checkpoint"
            )
        if len(np.unique(labels[rated.rows("train")])) < 2:
            raise TrainingError(
                "all rated reviews have the same sentiment: check sentiment.negative_stars and positive_stars"
            )
        return rated

    def rows(self, part: Part, fold: int = 0) -> NDArray[np.int64]:
        """The places of the rated reviews of a part where `fold` validates."""
        rows = self.parts.rows(part, fold)
        return rows[self.labels[rows] != UNRATED]

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows,) what each of these reviews counts as a judge: copies of a text together as one.

        They are all of one fold, so that a score of "Five stars" has one text, and that unseen, to say a score of
        times; of the reviews to come those are the last that nobody has seen.
        """
        _, place, copies = np.unique(self.parts.wording[rows], return_inverse=True, return_counts=True)
        of: NDArray[np.float64] = 1 / copies[place]
        return of

    def folds(self, most: int) -> list[int]:
        """Those that validate, the first always: as many as show enough texts, and of the rarest label, where trainings
        are short. What a few hundred say of calibration a handful of wrong stars among them can turn over.
        """
        rows = np.concatenate(self._judging())
        counts = np.bincount(self.labels[rows], self.counts(rows))
        wanted = math.ceil(FOLDS * max(_RAREST_JUDGED / counts[counts > 0].min(), _ALL_JUDGED / counts.sum()))
        return self.affordable_folds()[: max(1, min(most, wanted))]

    def affordable_folds(self) -> list[int]:
        """The first always, and of those that can validate as many as hold _MOST_JUDGED reviews."""
        judging = self._judging()
        usable = [
            fold
            for fold in range(1, FOLDS)
            if len(judging[fold]) and len(np.unique(self.labels[self.rows("train", fold)])) > 1
        ]
        return [0, *usable][: max(1, _MOST_JUDGED * FOLDS // sum(map(len, judging)))]

    def _judging(self) -> list[NDArray[np.int64]]:
        """The places of those that validate in each fold."""
        return [self.rows("validation", fold) for fold in range(FOLDS)]
