"""Arranges the best products of requests into their lists, under caps, pins, shares and diversity.

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

The candidates are the tops of some rankings. `arrange` asks for more where these do not decide. It fills the lists of
many requests together, rank by rank: arrays have one row a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.recommend.list_rules import Bools, Floats, Ints, Resolved
from lm.recommend.title_similarity import TitleSimilarity

WINDOW = 5
#: The ranking of all products; that of a constraint's products is the constraint's index.
ALL = -1
_DIGITS = 6


class Candidates:
    """The known tops of rankings of n requests, of all products and of up to M constraints, merged."""

    def __init__(self, requests: int, constraints: int) -> None:
        #: Candidates of all requests, in the order of request, score and row.
        self.request: Ints = np.empty(0, np.int64)
        self.row: Ints = np.empty(0, np.int64)
        self.score: Floats = np.empty(0)
        #: (n, M + 1) the last known score and row of each ranking. A ranking that is known to its end has -inf.
        self.last_score: Floats = np.full((requests, constraints + 1), np.inf)
        self.last_row: Ints = np.zeros((requests, constraints + 1), np.int64)

    def add(self, request: Ints, ranking: Ints, complete: Bools, ask: Ints, row: Ints, score: Floats) -> None:
        """Add tops: answer a is of `request[a]` and `ranking[a]`; entry e is of answer `ask[e]`, best first."""
        last = np.searchsorted(ask, np.arange(len(request)), side="right") - 1
        is_empty = np.bincount(ask, minlength=len(request)) == 0
        ends = complete | is_empty
        self.last_score[request, ranking] = np.where(ends, -np.inf, score[last] if len(score) else -np.inf)
        self.last_row[request, ranking] = row[last] if len(row) else 0
        if not len(self.request) and bool((np.diff(request) > 0).all()):
            self.request, self.row, self.score = request[ask], row, score  # tops are in this order
            return
        requests = np.concatenate([self.request, request[ask]])
        rows, scores = np.concatenate([self.row, row]), np.concatenate([self.score, score])
        order = np.lexsort((rows, requests))  # stable: of equal entries the older one is first
        is_new = np.diff(requests[order], prepend=-1) | np.diff(rows[order], prepend=-1) != 0
        order = order[is_new]
        order = order[np.lexsort((rows[order], -scores[order], requests[order]))]
        self.request, self.row, self.score = requests[order], rows[order], scores[order]

    def of(self, requests: Ints) -> Known:
        """The candidates of some requests, ascending, as arrays with one row a request."""
        first, stop = (np.searchsorted(self.request, requests, side=side) for side in ("left", "right"))
        size = stop - first
        place = np.arange(max(size.max(initial=0), 1))
        known = place < size[:, None]
        entry = np.where(known, first[:, None] + place, 0)
        if not len(self.row):
            return Known(
                np.zeros(known.shape, np.int64), np.full(known.shape, -np.inf), known, *self._of_none(requests)
            )
        row, score = np.where(known, self.row[entry], 0), np.where(known, self.score[entry], -np.inf)
        last_score, last_row = self.last_score[requests, :, None], self.last_row[requests, :, None]
        beyond = (score[:, None] > last_score) | ((score[:, None] == last_score) & (row[:, None] <= last_row))
        decided = (beyond & known[:, None]).sum(2)
        complete = self.last_score[requests] == -np.inf
        decided, complete = np.maximum(decided, decided[:, -1:]), complete | complete[:, -1:]
        return Known(row, score, known, decided, complete)

    def _of_none(self, requests: Ints) -> tuple[Ints, Bools]:
        shape = len(requests), self.last_score.shape[1]
        complete = self.last_score[requests] == -np.inf
        return np.zeros(shape, np.int64), complete | complete[:, -1:]

    def forget(self, requests: Ints) -> None:
        """Drop the candidates of requests whose lists are decided."""
        keep = ~np.isin(self.request, requests)
        self.request, self.row, self.score = self.request[keep], self.row[keep], self.score[keep]


class Known(NamedTuple):
    """Up to C candidates of n requests, best first, and what is known of M constraints and of all products."""

    row: Ints  # (n, C)
    score: Floats  # (n, C), -inf where a request has fewer candidates
    exists: Bools  # (n, C)
    #: (n, M + 1) so many first candidates are better than all unknown products of the ranking.
    decided: Ints
    #: (n, M + 1) whether no product of the ranking is unknown.
    complete: Bools


class Arranged(NamedTuple):
    """Lists of n requests, as far as they are decided."""

    #: (n, k) indexes of candidates, -1 where the list is shorter.
    chosen: Ints
    #: (n, k, caps + M + 1) whether a cap, a constraint or diversity changed what is on a rank.
    moved: Bools
    #: (n,) whether the candidates do not decide, and the ranking of which more is needed.
    is_short: Bools
    ranking: Ints


def arrange(known: Known, rules: Resolved, k: int, titles: TitleSimilarity) -> Arranged:
    """Arrange lists of at most k products of requests that have the same caps, constraints and diversity."""
    arrangement = _Arrangement(known, rules, k, titles)
    for rank in range(1, k + 1):
        arrangement.fill(rank)
    return Arranged(arrangement.chosen, arrangement.moved, arrangement.is_short, arrangement.ranking)


class _Arrangement:
    """Lists while they are filled. Candidates go by their index in the order of scores."""

    def __init__(self, known: Known, rules: Resolved, k: int, titles: TitleSimilarity) -> None:
        self.known, self.rules = known, rules
        requests, size = known.row.shape
        caps, constraints = len(rules.caps), len(rules.constraints)
        self.window = WINDOW * k if rules.diversity else 1  # so many candidates are compared
        self.free = known.exists.copy()  # can be taken
        self.members = [one.member[known.row] & known.exists for one in rules.constraints]
        self.values = [cap.value[known.row] for cap in rules.caps]
        self.have = np.zeros((requests, constraints), np.int64)
        self.given_up = np.zeros((requests, constraints), np.bool_)
        self.similarity: Floats = np.zeros((requests, size))
        self.barred = np.full((requests, caps), size)  # the first candidate that a cap bars
        self.preferred = np.full((requests, constraints + 1), -1)  # the last one taken before a better one
        self.chosen = np.full((requests, k), -1)
        self.moved = np.zeros((requests, k, caps + constraints + 1), np.bool_)
        self.is_open = np.ones(requests, np.bool_)
        self.is_short = np.zeros(requests, np.bool_)
        self.ranking = np.full(requests, ALL)
        self.relevance = self._relevance() if rules.diversity else None
        self.cosines = titles.within(known.row) if rules.diversity else None

    def fill(self, rank: int) -> None:
        """Choose the products of this rank."""
        chosen, needed = self.chosen[:, rank - 1], np.zeros_like(self.given_up)
        asked = np.flatnonzero(self.is_open) if self.rules.constraints else np.empty(0, np.int64)
        while len(asked):
            needed[asked] = self._needed_at(rank, asked)
            asked = asked[needed[asked].any(1)]
            chosen[asked] = self._best(asked, needed[asked])
            asked = asked[(chosen[asked] < 0) & self.is_open[asked]]
            self.given_up[asked] |= needed[asked]
            needed[asked] = False
        rest = np.flatnonzero(self.is_open & (chosen < 0))
        chosen[rest] = self._best(rest, None)
        self.is_open &= chosen >= 0
        self._take(rank, np.flatnonzero(self.is_open), needed)

    def _needed_at(self, rank: int, requests: Ints) -> Bools:
        """(n, M) the constraints of which this rank must take a product."""
        constraints = self.rules.constraints
        left = ~self.given_up[requests]
        needed = np.zeros_like(left)
        is_decided = np.zeros(len(requests), np.bool_)
        for i, one in enumerate(constraints):
            if one.rank == rank:
                needed[:, i] = left[:, i] & ~is_decided
                is_decided |= left[:, i]
        shared = [i for i, one in enumerate(constraints) if not one.rank and one.within >= rank]
        owed = np.zeros(left.shape, np.int64)
        for i in shared:
            owed[:, i] = np.where(left[:, i], np.maximum(constraints[i].products - self.have[requests, i], 0), 0)
        for within in sorted({constraints[i].within for i in shared}):
            due = [i for i in shared if constraints[i].within <= within]
            pins = np.zeros(len(requests), np.int64)
            for pinned in {one.rank for one in constraints if rank < one.rank <= within}:
                pins += left[:, [i for i, one in enumerate(constraints) if one.rank == pinned]].any(1)
            is_due = ~is_decided & (owed[:, due].sum(1) >= within - rank + 1 - pins) & (owed[:, due] > 0).any(1)
            needed[:, due] |= is_due[:, None] & (owed[:, due] > 0)
            is_decided |= is_due
        return needed

    def _best(self, requests: Ints, needed: Bools | None) -> Ints:
        """The best candidates that can be taken, of any of the `needed` constraints (n, M) if given; -1 for none."""
        allowed = self.free[requests]
        if needed is not None:
            allowed &= np.any([needed[:, i, None] & of[requests] for i, of in enumerate(self.members)], axis=0)
        if self.rules.diversity is None:
            last = allowed.argmax(1)
            is_full = has_any = allowed[np.arange(len(requests)), last]
        else:
            count = np.cumsum(allowed, axis=1)
            is_full, has_any = count[:, -1] >= self.window, count[:, -1] > 0
            last = (count >= self.window).argmax(1)
            allowed &= count <= self.window
        for ranking in range(len(self.members)) if needed is not None else [ALL]:
            known = self.known.complete[requests, ranking] | (is_full & (last < self.known.decided[requests, ranking]))
            self._end(requests[~known if needed is None else ~known & needed[:, ranking]], ranking)
        if self.relevance is None:
            best = last
        else:
            assert self.rules.diversity is not None, "relevance is diversity's"
            strength = self.rules.diversity[1]
            worth = (1 - strength) * self.relevance[requests] - strength * self.similarity[requests]
            best = np.where(allowed, worth.round(_DIGITS), -np.inf).argmax(1)
        return np.where(has_any & self.is_open[requests], best, -1)

    def _end(self, requests: Ints, ranking: int) -> None:
        """Give lists up, of which more of a ranking must be known."""
        requests = requests[self.is_open[requests]]
        self.is_short[requests], self.ranking[requests], self.is_open[requests] = True, ranking, False

    def _relevance(self) -> Floats:
        """(n, C) the scores, scaled so that the first window is from 0 to 1."""
        size = self.known.exists.sum(1)
        last = np.minimum(size, self.window) - 1
        known = self.known.complete[:, ALL] | (last < self.known.decided[:, ALL])
        self._end(np.flatnonzero(~known & (size > 0)), ALL)
        best = np.where(size > 0, self.known.score[:, 0], 0)[:, None]
        worst = np.where(size > 0, self.known.score[np.arange(len(size)), np.maximum(last, 0)], 0)[:, None]
        scores = np.where(self.known.exists, self.known.score, worst)
        width = best - worst
        return np.where(width > 0, (scores - worst) / np.where(width > 0, width, 1), 1.0)

    def _take(self, rank: int, requests: Ints, needed: Bools) -> None:
        """List the chosen candidates, count them for caps and constraints, and note the rules."""
        if not len(requests):
            return
        chosen = self.chosen[requests, rank - 1]
        caps, moved = len(self.values), self.moved[requests, rank - 1]
        moved[:, :caps] = self.barred[requests] < chosen[:, None]
        moved[:, caps:] = self.preferred[requests] > chosen[:, None]
        is_later = self.free[requests].argmax(1) != chosen
        self.free[requests, chosen] = False
        for i, member in enumerate(self.members):
            is_member = member[requests, chosen]
            self.have[requests, i] += is_member
            self._prefer(requests, i, is_later & needed[requests, i] & is_member, moved, chosen)
        if self.cosines is not None:
            self._prefer(requests, len(self.members), is_later, moved, chosen)
            self.similarity[requests] = np.maximum(self.similarity[requests], self.cosines(requests, chosen))
        self.moved[requests, rank - 1] = moved
        for i, (cap, values) in enumerate(zip(self.rules.caps, self.values, strict=True)):
            self._bar(i, cap.most, values, requests, chosen, rank)

    def _prefer(self, requests: Ints, by: int, is_moved: Bools, moved: Bools, chosen: Ints) -> None:
        moved[:, len(self.values) + by] |= is_moved
        preferred = np.where(is_moved, chosen, -1)
        self.preferred[requests, by] = np.maximum(self.preferred[requests, by], preferred)

    def _bar(self, cap: int, most: int, values: Ints, requests: Ints, chosen: Ints, rank: int) -> None:
        """Never list more candidates of a value of which `most` are listed."""
        value = values[requests, chosen]
        listed = np.take_along_axis(values[requests], self.chosen[requests, :rank], axis=1)
        reached = (value >= 0) & ((listed == value[:, None]).sum(1) == most)
        requests, value = requests[reached], value[reached]
        barred = self.free[requests] & (values[requests] == value[:, None])
        first = np.where(barred.any(1), barred.argmax(1), barred.shape[1])
        self.barred[requests, cap] = np.minimum(self.barred[requests, cap], first)
        self.free[requests] &= ~barred


@dataclass(frozen=True)
class Group:
    """Requests whose lists are arranged together: caps, constraints and diversity are those of `rules`."""

    requests: Ints
    rules: Resolved
    #: The names of what may move products, in the order of `Arranged.moved`.
    names: Sequence[str]


def groups(resolved: Sequence[Resolved]) -> list[Group]:
    """Requests by their caps, constraints and diversity."""
    members: dict[object, list[int]] = {}
    for request, one in enumerate(resolved):
        caps = tuple((cap.name, id(cap.value), cap.most) for cap in one.caps)
        constraints = tuple((of.name, id(of.member), *of[2:]) for of in one.constraints)
        members.setdefault((caps, constraints, one.diversity), []).append(request)
    found = []
    for requests in members.values():
        rules = resolved[requests[0]]
        names = [*(cap.name for cap in rules.caps), *(of.name for of in rules.constraints)]
        names.append(rules.diversity[0] if rules.diversity else "")
        found.append(Group(np.array(requests, np.int64), rules, names))
    return found
