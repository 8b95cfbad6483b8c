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

#: Most sets of rules whose weights at the nodes of the trie are kept, and most bytes of all of them.
_MOST_KEPT = 32
_KEPT_BYTES = 1 << 28
#: Weights in the trie by the identity of two arrays: the weights of rows, and the rows of a constraint.
KeptWeights = dict[tuple[int, int], tuple[object, object, TrieWeights]]


class Ask(NamedTuple):
    """Asks for the `size` best products of a request, among the rows with `member` where it is given."""

    request: int
    member: Bools | None
    size: int


class Tops(NamedTuple):
    """Answers to A questions: entries in the order of questions, best first."""

    ask: Ints  # the number of the question
    row: Ints  # catalogue rows
    score: Floats
    complete: Bools  # (A,) whether no other row may be listed


class Searcher(Protocol):
    """Searches the k best titles of several requests."""

    def __call__(self, k: int, weights: PlaceWeights, requests: Sequence[int]) -> tuple[Ints, Ints, Floats]:
        """The place in `requests`, the catalogue row and the score of each title found."""


class TokenRankings:
    """Rankings of n requests from their scores (n, L) of the L listable rows, to which it adds the rules' weights."""

    def __init__(self, scores: torch.Tensor, listable_rows: Ints, column: Ints, rules: Sequence[Resolved]) -> None:
        """`column` is the place of each catalogue row in `listable_rows`, -1 for others."""
        self._scores, self._rows = scores, listable_rows
        request = np.repeat(np.arange(len(rules)), [len(one.near) for one in rules])
        near = column[np.concatenate([np.empty(0, np.int64), *(one.near for one in rules)])]
        added = [one.weights[one.near] + one.near_weights for one in rules]
        is_listable = near >= 0
        own = torch.from_numpy(np.concatenate([np.empty(0, np.float32), *added])[is_listable]).to(scores.device)
        places = torch.from_numpy(request[is_listable]), torch.from_numpy(near[is_listable].astype(np.int64))
        own += scores[places]
        requests: dict[int, list[int]] = {}
        for i, one in enumerate(rules):
            requests.setdefault(id(one.weights), []).append(i)
        for same in requests.values():
            weights = rules[same[0]].weights[listable_rows]
            if weights.any():
                shared = torch.from_numpy(weights).to(scores.device)
                if len(same) == len(scores):
                    scores += shared
                else:
                    scores[same] += shared
        scores[places] = own  # one rounding: a score plus the sum of its weights

    def flat(self, requests: Sequence[int], size: int, member: Bools | None = None) -> tuple[Ints, Ints, Floats]:
        """The `size` best rows of each of some requests, or more where scores are equal; among `member` if given.

        Returns the place in `requests`, the catalogue row and the score of each, best first.
        """
        scores = self._scores if len(requests) == len(self._scores) else self._scores[list(requests)]
        if member is not None:
            scores = scores.masked_fill(torch.from_numpy(~member[self._rows]).to(scores.device), -torch.inf)
        at_kth = torch.topk(scores, min(size, scores.shape[1])).values[:, -1:]
        hit = (scores >= at_kth) & (scores > -torch.inf)
        place, column = (index.cpu().numpy() for index in hit.nonzero(as_tuple=True))
        row, score = self._rows[column], scores[hit].cpu().numpy().astype(np.float64)
        order = np.lexsort((row, -score, place))
        return place[order], row[order], score[order]

    def tops(self, asks: Sequence[Ask], requests: Sequence[int]) -> Tops:
        """Answer each question, whose `request` is a place in `requests`; those of the same products at once."""
        alike: dict[tuple[int, int], list[int]] = {}
        for n, ask in enumerate(asks):
            alike.setdefault((id(ask.member), ask.size), []).append(n)
        parts = []
        for numbers in alike.values():
            ask = asks[numbers[0]]
            place, row, score = self.flat([requests[asks[n].request] for n in numbers], ask.size, ask.member)
            parts.append((np.array(numbers, np.int64)[place], row, score))
        return _tops(asks, parts, self._scores.shape[1])


class TitleRankings:
    """Rankings of requests by searches of the trie; `place` is the place of each catalogue row in `trie.items`."""

    def __init__(self, trie: Trie, place: Ints, kept: KeptWeights) -> None:
        self._trie, self._place, self._kept = trie, place, kept

    def tops(self, search: Searcher, rules: Sequence[Resolved], asks: Sequence[Ask]) -> Tops:
        """Answer the questions: those of one size together, but never more at once than there are requests."""
        parts = []
        ascending = sorted(range(len(asks)), key=lambda n: asks[n].size)
        by_size = [list(group) for _, group in groupby(ascending, key=lambda n: asks[n].size)]
        for numbers in (part for group in by_size for part in _parts(group, len(rules))):
            size = asks[numbers[0]].size
            requests = [asks[n].request for n in numbers]
            weights = [self._weights(rules[asks[n].request], asks[n].member) for n in numbers]
            sets = list(dict.fromkeys(weights))
            own = [(self._place[rules[i].near], rules[i].near_weights) for i in requests]
            of_prompts = PlaceWeights(self._trie, sets, [sets.index(one) for one in weights], own)
            prompt, row, score = search(min(size, len(self._trie.items)), of_prompts, requests)
            order = np.lexsort((row, -score, prompt))
            parts.append((np.array(numbers, np.int64)[prompt[order]], row[order], score[order]))
        return _tops(asks, parts, len(self._trie.items))

    def _weights(self, rules: Resolved, member: Bools | None) -> TrieWeights:
        """The weights of a set of rules in the trie, among the rows with `member`."""
        key = (id(rules.weights), id(member))
        kept = self._kept.get(key)
        if kept is None or kept[0] is not rules.weights or kept[1] is not member:
            size = sum(one.nbytes for _, _, one in self._kept.values())
            if len(self._kept) >= _MOST_KEPT or size > _KEPT_BYTES:
                self._kept.clear()
            of_rows = rules.weights if member is None else np.where(member, rules.weights, np.float32(-np.inf))
            kept = self._kept[key] = rules.weights, member, TrieWeights.of(self._trie, of_rows)
        return kept[2]


def _parts(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut into parts of at most `size`."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _tops(asks: Sequence[Ask], parts: Sequence[tuple[Ints, Ints, Floats]], products: int) -> Tops:
    """Join answers: the number of the question, the row and the score of each entry, best first."""
    number, row, score = (np.concatenate(one) for one in zip(*parts, strict=True))
    order = slice(None) if bool((np.diff(number) >= 0).all()) else np.argsort(number, kind="stable")
    sizes = np.array([ask.size for ask in asks], np.int64)
    complete = (np.bincount(number, minlength=len(asks)) < sizes) | (sizes >= products)
    return Tops(number[order], row[order], score[order], complete)
