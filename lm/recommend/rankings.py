"""The best products of requests under rules that deny and weight products, for both codings.

Item tokens are ranked by the scores of the softmax, titles by a search of the trie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
import torch

from lm.recommend.list_rules import Bools, Floats, Ints, Resolved
from lm.recommend.place_weights import PlaceWeights, TrieWeights
from lm.recommend.trie import Trie

#: Most sets of rules whose weights at the nodes of the trie are kept.
_MOST_KEPT = 32
#: Weights in the trie by the identity of two arrays: the weights of rows, and the rows of a constraint.
KeptWeights = dict[tuple[int, int], tuple[object, object, TrieWeights]]


class Ask(NamedTuple):
    """Asks for the `size` best products of a request, among the rows with `member` where it is given."""

    request: int
    member: Bools | None
    size: int


class Top(NamedTuple):
    """Catalogue rows, best first, with their scores; `complete` where no other row may be listed."""

    row: Ints
    score: Floats
    complete: bool


class Searcher(Protocol):
    """Searches the k best titles of several requests."""

    def __call__(self, k: int, weights: PlaceWeights, requests: Sequence[int]) -> tuple[Ints, Ints, Floats]:
        """The place in `requests`, the catalogue row and the score of each title found."""


class TokenRankings:
    """Rankings of n requests from their scores (n, L) of the L listable rows, to which it adds the rules' weights."""

    def __init__(self, scores: torch.Tensor, listable_rows: Ints, rules: Sequence[Resolved]) -> None:
        self._scores, self._rows = scores, listable_rows
        requests: dict[int, list[int]] = {}
        for i, one in enumerate(rules):
            if len(one.near):
                weights = one.weights.copy()
                weights[one.near] += one.near_weights
                scores[i] += torch.from_numpy(weights[listable_rows]).to(scores.device)
            else:
                requests.setdefault(id(one.weights), []).append(i)
        for same in requests.values():
            weights = rules[same[0]].weights[listable_rows]
            if weights.any():
                added = torch.from_numpy(weights).to(scores.device)
                if len(same) == len(scores):
                    scores += added
                else:
                    scores[same] += added

    def flat(self, requests: Sequence[int], size: int) -> tuple[Ints, Ints, Floats]:
        """The `size` best rows of each of some requests, or more where scores are equal.

        Returns the place in `requests`, the catalogue row and the score of each, best first.
        """
        scores = self._scores if len(requests) == len(self._scores) else self._scores[list(requests)]
        at_kth = torch.topk(scores, min(size, scores.shape[1])).values[:, -1:]
        hit = (scores >= at_kth) & (scores > -torch.inf)
        place, column = (index.cpu().numpy() for index in hit.nonzero(as_tuple=True))
        row, score = self._rows[column], scores[hit].cpu().numpy().astype(np.float64)
        order = np.lexsort((row, -score, place))
        return place[order], row[order], score[order]

    def tops(self, asks: Sequence[Ask], requests: Sequence[int]) -> list[Top]:
        """Answer each question, whose `request` is a place in `requests`; those of all products at once."""
        found: dict[int, Top] = {}
        by_size: dict[int, list[int]] = {}
        for n, ask in enumerate(asks):
            if ask.member is None:
                by_size.setdefault(ask.size, []).append(n)
            else:
                found[n] = self._top(ask, self._scores[requests[ask.request]])
        for size, numbers in by_size.items():
            place, row, score = self.flat([requests[asks[n].request] for n in numbers], size)
            first = np.searchsorted(place, np.arange(len(numbers) + 1)).tolist()
            for n, start, stop in zip(numbers, first, first[1:], strict=False):
                complete = stop - start < size or size >= self._scores.shape[1]
                found[n] = Top(row[start:stop], score[start:stop], complete)
        return [found[n] for n in range(len(asks))]

    def _top(self, ask: Ask, scores: torch.Tensor) -> Top:
        if ask.member is not None:
            scores = scores.masked_fill(torch.from_numpy(~ask.member[self._rows]).to(scores.device), -torch.inf)
        size = min(ask.size, len(scores))
        at_kth = torch.topk(scores, size).values[-1]
        hit = ((scores >= at_kth) & (scores > -torch.inf)).nonzero().ravel()
        return _top(
            self._rows[hit.cpu().numpy()],
            scores[hit].cpu().numpy().astype(np.float64),
            complete=len(hit) < ask.size or size == len(scores),
        )


class TitleRankings:
    """Rankings of requests by searches of the trie; `place` is the place of each catalogue row in `trie.items`."""

    def __init__(self, trie: Trie, place: Ints, kept: KeptWeights) -> None:
        self._trie, self._place, self._kept = trie, place, kept

    def tops(self, search: Searcher, rules: Sequence[Resolved], asks: Sequence[Ask]) -> list[Top]:
        """Answer the questions: those of one size together, but never more at once than there are requests."""
        found: dict[int, Top] = {}
        order = sorted(range(len(asks)), key=lambda n: asks[n].size)
        by_size = [list(group) for _, group in groupby(order, key=lambda n: asks[n].size)]
        for numbers in (part for group in by_size for part in _parts(group, len(rules))):
            size = asks[numbers[0]].size
            requests = [asks[n].request for n in numbers]
            weights = [self._weights(rules[asks[n].request], asks[n].member) for n in numbers]
            sets = list(dict.fromkeys(weights))
            own = [(self._place[rules[i].near], rules[i].near_weights) for i in requests]
            of_prompts = PlaceWeights(self._trie, sets, [sets.index(one) for one in weights], own)
            prompt, row, score = search(min(size, len(self._trie.items)), of_prompts, requests)
            for place, n in enumerate(numbers):
                mine = prompt == place
                complete = int(np.count_nonzero(mine)) < size or size >= len(self._trie.items)
                found[n] = _top(row[mine], score[mine], complete=complete)
        return [found[n] for n in range(len(asks))]

    def _weights(self, rules: Resolved, member: Bools | None) -> TrieWeights:
        """The weights of a set of rules in the trie, among the rows with `member`."""
        key = (id(rules.weights), id(member))
        kept = self._kept.get(key)
        if kept is None or kept[0] is not rules.weights or kept[1] is not member:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            of_rows = rules.weights if member is None else np.where(member, rules.weights, np.float32(-np.inf))
            kept = self._kept[key] = rules.weights, member, TrieWeights.of(self._trie, of_rows)
        return kept[2]


def _parts(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut into parts of at most `size`."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _top(row: Ints, score: Floats, *, complete: bool) -> Top:
    order = np.lexsort((row, -score))
    return Top(row[order], score[order], complete)
