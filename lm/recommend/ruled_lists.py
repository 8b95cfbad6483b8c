"""Lists under rules: asks the engine for the tops of rankings until each list is decided.

Rules that deny or weight products decide the rankings themselves, inside the trie and the softmax. The others arrange
the tops. A ranking is asked for again, deeper, only where its top does not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lm.recommend.arrange_list import ALL, WINDOW, Arranged, Candidates, Group, Known, arrange, groups
from lm.recommend.flat_lists import Names, weights_and_names
from lm.recommend.list_rules import Bools, Floats, Ints, Resolved, RuleTable
from lm.recommend.rankings import Ask, Tops

#: The first top is so many times the list, where rules arrange it, and grows so many times.
_FIRST, _GROWTH = 2, 4


class Ruled(NamedTuple):
    """The products of lists, in the order of requests and ranks."""

    request: Ints
    row: Ints
    score: Floats
    #: The rules that changed the score or the place of each product.
    names: Sequence[Names]
    #: What rules added to each score.
    weight: Floats


def ruled_lists(tops: Callable[[Sequence[Ask]], Tops], resolved: Sequence[Resolved], k: int, table: RuleTable) -> Ruled:
    """The lists of a batch of requests, of k products; of `table.k` products where pins or shares bind."""
    candidates = Candidates(len(resolved), max((len(one.constraints) for one in resolved), default=0))
    lengths = [min(k, table.k) if one.constraints else k for one in resolved]
    sizes: dict[tuple[int, int], int] = {}
    asks = [(request, ALL) for request in range(len(resolved))]
    asks += [(n, ranking) for n, one in enumerate(resolved) if one.diversity for ranking in range(len(one.constraints))]
    waiting, found = groups(resolved), list[Ruled]()
    while asks:
        for request, ranking in asks:
            before = sizes.get((request, ranking))
            first = _first_size(resolved[request], ranking, lengths[request])
            sizes[request, ranking] = before * _GROWTH if before else first
        questions = [
            Ask(request, _members(resolved[request], ranking), sizes[request, ranking]) for request, ranking in asks
        ]
        request, ranking = np.array(asks, np.int64).T
        top = tops(questions)
        candidates.add(request, ranking, top.complete, top.ask, top.row, top.score)
        asks, still = [], []
        for group in waiting:
            known = candidates.of(group.requests)
            arranged = arrange(known, group.rules, lengths[group.requests[0]], table.titles)
            found.append(_listed(group, known, arranged))
            short = np.flatnonzero(arranged.is_short)
            candidates.forget(group.requests[~arranged.is_short])
            asks += zip(group.requests[short].tolist(), arranged.ranking[short].tolist(), strict=True)
            if len(short):
                still.append(Group(group.requests[short], group.rules, group.names))
        waiting = still
    return _in_order(found, resolved)


def _listed(group: Group, known: Known, arranged: Arranged) -> Ruled:
    """The products of the decided lists of a group, without the names and weights of its scores."""
    place, rank = np.nonzero((arranged.chosen >= 0) & ~arranged.is_short[:, None])
    candidate = arranged.chosen[place, rank]
    moved = arranged.moved[place, rank]
    names: list[Names] = [()] * len(place)
    texts: dict[bytes, Names] = {}
    for entry in np.flatnonzero(moved.any(1)).tolist():
        key = moved[entry].tobytes()
        if key not in texts:
            texts[key] = tuple(dict.fromkeys(group.names[i] for i in np.flatnonzero(moved[entry]).tolist()))
        names[entry] = texts[key]
    row, score = known.row[place, candidate], known.score[place, candidate]
    return Ruled(group.requests[place], row, score, names, np.zeros(len(place)))


def _in_order(parts: Sequence[Ruled], resolved: Sequence[Resolved]) -> Ruled:
    """The products of all requests, with the names and weights of their scores."""
    empty = [Ruled(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), [], np.empty(0))]
    request, row, score = (np.concatenate([part[i] for part in [*empty, *parts]]) for i in range(3))
    moved = [names for part in parts for names in part.names]
    order = np.argsort(request, kind="stable")
    request, row, score = request[order], row[order], score[order]
    weight, weighted = weights_and_names(request, row, resolved)
    names = [
        tuple(dict.fromkeys((*one, *moved[entry]))) if moved[entry] else one
        for one, entry in zip(weighted, order.tolist(), strict=True)
    ]
    return Ruled(request, row, score, names, weight)


def _members(resolved: Resolved, ranking: int) -> Bools | None:
    return None if ranking == ALL else resolved.constraints[ranking].member


def _first_size(resolved: Resolved, ranking: int, k: int) -> int:
    if resolved.diversity:
        return WINDOW * k * (_FIRST if resolved.caps else 1) + k
    if ranking != ALL:
        return 2 * resolved.constraints[ranking].products + 1
    return _FIRST * k if resolved.arranges else k
