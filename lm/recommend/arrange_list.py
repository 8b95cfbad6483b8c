"""Arranges the best products of one request into its list, under caps, pins, shares and diversity.

The definition, rank by rank. A product can be taken if it is not listed yet and no cap of its value is reached.

1. A rank with a pin takes the best product of the pin that can be taken.
2. Otherwise, where the products that pins and shares still need fill all ranks that are left for them, the best product
   of these is taken.
3. Otherwise the best product of all is taken.

A pin or share is given up when none of its products can be taken. The best is the one of the highest score; ties go to
the lower row. With diversity it is the one of highest (1 - strength) * relevance - strength * similarity, among the
`WINDOW` * k products of the highest scores that can be taken (Carbonell & Goldstein 1998, maximal marginal relevance).
Relevance is the score, scaled so that the `WINDOW` * k best products of all are from 0 to 1. Similarity is the greatest
cosine with a product of the list.

The candidates are the tops of some rankings. `arrange` asks for more where these do not decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lm.recommend.list_rules import Floats, Ints, Resolved

WINDOW = 5
#: The ranking of all products; that of a constraint's products is the constraint's index.
ALL = -1
_END = (np.inf, 0)
_DIGITS = 6


class ListedRow(NamedTuple):
    """A product of a list: its catalogue row, its score, and the rules that changed its score or its place."""

    row: int
    score: float
    rules: tuple[str, ...]


class More(NamedTuple):
    """What `arrange` lacks: the ranking whose known top is too short."""

    ranking: int


@dataclass
class Candidates:
    """The tops of several rankings of one request's products, merged in the order of score and row."""

    row: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    score: Floats = field(default_factory=lambda: np.empty(0, np.float64))
    #: Of each ranking the last (-score, row) that is known; _END where it is known to its end.
    last: dict[int, tuple[float, int]] = field(default_factory=dict)

    def add(self, ranking: int, row: Ints, score: Floats, *, complete: bool) -> None:
        """Add the top of a ranking, best first."""
        self.last[ranking] = _END if complete or not len(row) else (-float(score[-1]), int(row[-1]))
        if len(self.row):
            row, first = np.unique(np.concatenate([self.row, row]), return_index=True)
            score = np.concatenate([self.score, score])[first]
            order = np.lexsort((row, -score))
            row, score = row[order], score[order]
        self.row, self.score = row, score

    def is_complete(self, ranking: int) -> bool:
        """Whether a ranking is known to its end."""
        return _END in (self.last.get(ranking), self.last.get(ALL))

    def decides(self, ranking: int, index: int) -> bool:
        """Whether no unknown product of the ranking is better than the candidate at `index`."""
        place = (-float(self.score[index]), int(self.row[index]))
        known = max(self.last.get(ranking, (-np.inf, 0)), self.last.get(ALL, (-np.inf, 0)))
        return place <= known


class _TooShortError(Exception):
    def __init__(self, ranking: int) -> None:
        super().__init__(ranking)
        self.ranking = ranking


def arrange(
    candidates: Candidates, resolved: Resolved, k: int, cosines: Callable[[Ints], Floats]
) -> list[ListedRow] | More:
    """The list of at most k products, or the ranking of which more is needed.

    `cosines` gives (n, n) similarities of n catalogue rows.
    """
    arrangement = _Arrangement(candidates, resolved, k)
    if resolved.diversity:
        arrangement.cosines = cosines(candidates.row)
    try:
        listed = (arrangement.take_next(rank) for rank in range(1, k + 1))
        return [one for one in listed if one is not None]
    except _TooShortError as short:
        return More(short.ranking)


class _Arrangement:
    """One list while it is filled. Candidates go by their index in the order of scores.

    Lists of Python are read here one element at a time; arrays of numpy would be slower.
    """

    cosines: Floats  # (n, n) of the candidates

    def __init__(self, candidates: Candidates, resolved: Resolved, k: int) -> None:
        self.candidates, self.resolved, self.k = candidates, resolved, k
        self.size = len(candidates.row)
        self.window = WINDOW * k if resolved.diversity else 1  # so many candidates are compared
        self.free = [True] * self.size  # can be taken
        self.start = 0  # no candidate before it can be taken
        self.values = [cap.value[candidates.row].tolist() for cap in resolved.caps]
        self.counts = [Counter[int]() for _ in resolved.caps]
        self.members = [one.member[candidates.row].tolist() for one in resolved.constraints]
        self.have = [0] * len(resolved.constraints)
        self.given_up: set[int] = set()
        self.similarity: Floats = np.zeros(self.size)
        self.barred: list[tuple[int, str]] = []  # the first candidate that a reached cap bars
        self.preferred: list[tuple[int, str]] = []  # candidates that a rule took before better ones

    def take_next(self, rank: int) -> ListedRow | None:
        """The product of this rank; None where no product is left."""
        chosen, needed = None, self._needed_at(rank)
        while needed and chosen is None:
            chosen = self._best(needed)
            if chosen is None:
                self.given_up.update(needed)
                needed = self._needed_at(rank)
        if chosen is None:
            chosen = self._best([])
        return None if chosen is None else self._take(chosen, needed)

    def _needed_at(self, rank: int) -> list[int]:
        """The constraints of which this rank must take a product."""
        constraints = self.resolved.constraints
        if not constraints:
            return []
        left = [i for i in range(len(constraints)) if i not in self.given_up]
        pinned = [i for i in left if constraints[i].rank == rank]
        if pinned:
            return pinned[:1]
        owed = {i: constraints[i].products - self.have[i] for i in left if not constraints[i].rank}
        owing = [i for i, products in owed.items() if products > 0 and constraints[i].within >= rank]
        for within in sorted({constraints[i].within for i in owing}):
            due = [i for i in owing if constraints[i].within <= within]
            pins = {constraints[i].rank for i in left if rank < constraints[i].rank <= within}
            if sum(owed[i] for i in due) >= within - rank + 1 - len(pins):
                return due
        return []

    def _best(self, needed: Sequence[int]) -> int | None:
        """The best candidate that can be taken, among the products of the `needed` constraints if there are any."""
        while self.start < self.size and not self.free[self.start]:
            self.start += 1
        compared: list[int] = []
        members = [self.members[i] for i in needed]
        for index in range(self.start, self.size):
            if self.free[index] and (not members or any(member[index] for member in members)):
                compared.append(index)
                if len(compared) == self.window:
                    break
        for ranking in needed or [ALL]:
            is_known = len(compared) == self.window and self.candidates.decides(ranking, compared[-1])
            if not is_known and not self.candidates.is_complete(ranking):
                raise _TooShortError(ranking)
        if not compared:
            return None
        if not self.resolved.diversity:
            return compared[0]
        strength = self.resolved.diversity[1]
        worth = (1 - strength) * self._relevance[compared] - strength * self.similarity[compared]
        return compared[int(np.argmax(worth.round(_DIGITS)))]

    @cached_property
    def _relevance(self) -> Floats:
        """The scores, scaled so that the first window is from 0 to 1."""
        scores = self.candidates.score
        last = min(self.size, self.window) - 1
        if not self.candidates.is_complete(ALL) and not self.candidates.decides(ALL, last):
            raise _TooShortError(ALL)
        best, worst = scores[0], scores[last]
        return (scores - worst) / (best - worst) if best > worst else np.ones(self.size)

    def _take(self, chosen: int, needed: Sequence[int]) -> ListedRow:
        """List a candidate, count it for caps and constraints, and name the rules."""
        row = int(self.candidates.row[chosen])
        names = self.resolved.names_of_weights(row)
        names += [name for index, name in self.barred if index < chosen]
        names += [name for index, name in self.preferred if index > chosen]
        is_first = self.free.index(True, self.start) == chosen
        self.free[chosen] = False
        if not is_first:
            by = [self.resolved.constraints[i].name for i in needed if self.members[i][chosen]]
            if self.resolved.diversity:
                by.append(self.resolved.diversity[0])
            names += by
            self.preferred += [(chosen, name) for name in by]
        for i, member in enumerate(self.members):
            self.have[i] += member[chosen]
        for cap, values, count in zip(self.resolved.caps, self.values, self.counts, strict=True):
            count[values[chosen]] += 1
            if values[chosen] >= 0 and count[values[chosen]] == cap.most:
                self._bar(cap.name, [i for i, value in enumerate(values) if value == values[chosen] and self.free[i]])
        if self.resolved.diversity:
            self.similarity = np.maximum(self.similarity, self.cosines[chosen])
        return ListedRow(row, float(self.candidates.score[chosen]), tuple(dict.fromkeys(names)))

    def _bar(self, cap: str, candidates: Sequence[int]) -> None:
        """Never list these candidates: a cap of their value is reached."""
        if candidates:
            self.barred.append((candidates[0], cap))
        for index in candidates:
            self.free[index] = False
