"""Lists of many requests at once, under rules that deny, weight and cap one value: the usual ones.

With one cap a product is listed if fewer than `most` better ones of its value are, so no list has to be filled rank by
rank. The result is that of `lm.recommend.arrange_list`, which arranges all other lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lm.recommend.list_rules import Bools, Floats, Ints, Resolved

#: The names of rules that weighted or moved a product.
Names = tuple[str, ...]


class Flat(NamedTuple):
    """Of the entries of many requests' rankings: which are listed, the rules that each names, and what these add."""

    listed: Bools
    names: Sequence[Names]
    #: What rules added to the score of each entry.
    weight: Floats


def is_flat(rules: Resolved) -> bool:
    """Whether the rules of a request are of the kinds that this module knows."""
    return not rules.constraints and rules.diversity is None and len(rules.caps) <= 1


def flat_lists(request: Ints, row: Ints, rules: Sequence[Resolved]) -> Flat:
    """Decide rankings that lie behind one another, best first: entry e is catalogue row `row[e]` of `request[e]`."""
    listed = np.ones(len(row), np.bool_)
    weight, names = weights_and_names(request, row, rules)
    first = np.searchsorted(request, np.arange(len(rules) + 1))
    for _, entries in _groups([id(one.caps[0].value) if one.caps else 0 for one in rules], first):
        caps = rules[request[entries[0]]].caps if len(entries) else ()
        if not caps:
            continue
        value = caps[0].value[row[entries]]
        before = _number_before(request[entries], value)
        listed[entries] = (value < 0) | (before < caps[0].most)
        left_out = np.cumsum(~listed[entries])
        earlier: Ints = left_out - (left_out - ~listed[entries])[np.searchsorted(request[entries], request[entries])]
        for entry in entries[listed[entries] & (earlier > 0)].tolist():
            names[entry] = (*names[entry], caps[0].name)
    return Flat(listed, names, weight)


def weights_and_names(request: Ints, row: Ints, rules: Sequence[Resolved]) -> tuple[Floats, list[Names]]:
    """What rules added to the scores of catalogue rows, and their names; `request` ascends."""
    names: list[Names] = [()] * len(row)
    weight = np.zeros(len(row), np.float32)
    first = np.searchsorted(request, np.arange(len(rules) + 1))
    for _, entries in _groups([id(one.weights) for one in rules], first):
        if not len(entries):
            continue
        of = rules[request[entries[0]]]
        weight[entries] = of.weights[row[entries]]
        if of.weighting:
            which = np.stack([member[row[entries]] for _, member in of.weighting])  # (rules, entries)
            codes = (1 << np.arange(len(which))) @ which
            texts = {
                code: tuple(n for bit, (n, _) in enumerate(of.weighting) if code >> bit & 1) for code in set(codes)
            }
            for entry, code in zip(entries.tolist(), codes.tolist(), strict=True):
                names[entry] = texts[code]
    near, near_weights = _of_requests([one.near for one in rules]), [one.near_weights for one in rules]
    found, entries = _found(near, request, row, rules)
    weight[entries] += np.concatenate([np.empty(0, np.float32), *near_weights])[found]
    for slot in range(max((len(one.similar) for one in rules), default=0)):
        none = np.empty(0, np.int64)
        rows = _of_requests([one.similar[slot][1] if slot < len(one.similar) else none for one in rules])
        for entry in _found(rows, request, row, rules)[1].tolist():
            names[entry] = (*names[entry], rules[request[entry]].similar[slot][0])
    return weight.astype(np.float64), names


def names_below(request: Ints, score: Floats, names: Sequence[Names], left_out: Mapping[str, Floats]) -> list[Names]:
    """The names of entries, with each rule added that left out a better product than the entry's.

    `left_out` has the best score (requests,) that each rule left out of the list of each request.
    """
    found = list(names)
    for name, better in left_out.items():
        for entry in np.flatnonzero(score < better[request]).tolist():
            known = found[entry]
            if name not in known:
                found[entry] = (*known, name)
    return found


def _of_requests(rows: Sequence[Ints]) -> tuple[Ints, Ints]:
    """The requests and the rows of each request's rows."""
    request = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
    return request, np.concatenate([np.empty(0, np.int64), *rows])


def _found(pairs: tuple[Ints, Ints], request: Ints, row: Ints, rules: Sequence[Resolved]) -> tuple[Ints, Ints]:
    """Of the entries that are among ascending pairs of request and row: the place of the pair, and the entry."""
    if not len(pairs[0]) or not len(row):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    size = len(rules[0].weights)
    wanted, given = request * size + row, pairs[0] * size + pairs[1]
    place = np.minimum(np.searchsorted(given, wanted), len(given) - 1)
    entries = np.flatnonzero(given[place] == wanted)
    return place[entries], entries


def _groups(kinds: Sequence[object], first: Ints) -> list[tuple[object, Ints]]:
    """The entries of all requests of each kind; those of request r are first[r]:first[r + 1]."""
    members: dict[object, list[int]] = {}
    for request, kind in enumerate(kinds):
        members.setdefault(kind, []).append(request)
    if len(members) == 1:
        return [(kind, np.arange(first[-1])) for kind in members]
    return [
        (kind, np.concatenate([np.arange(first[r], first[r + 1]) for r in requests]))
        for kind, requests in members.items()
    ]


def _number_before(request: Ints, value: Ints) -> Ints:
    """Of each entry, the number of earlier entries of its request that have its value."""
    order = np.lexsort((value, request))  # stable: entries of one request and value keep their order
    changes = np.diff(request[order], prepend=-1) | np.diff(value[order], prepend=-2)
    start = np.flatnonzero(changes)
    begun = np.repeat(start, np.diff(start, append=len(order)))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order)) - begun
    return number
