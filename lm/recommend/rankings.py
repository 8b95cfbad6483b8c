"""The best products of requests under rules that deny and weight products, for both codings.

Item tokens are ranked by the scores of the softmax, titles by a search of the trie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
import torch

from lm.recommend.list_rules import Bools, Float32s, Floats, Ints, Resolved
from lm.recommend.place_weights import PlaceWeights, TrieWeights
from lm.recommend.trie import Trie

#: Most sets of rules whose weights at the nodes of the trie are kept, and most bytes of all of them.
_MOST_KEPT = 32
_KEPT_BYTES = 1 << 28
#: Weights in the trie by the identity of two arrays: the weights of rows, and the rows of a constraint.
KeptWeights = dict[tuple[int, int], tuple[object, object, TrieWeights]]


#: Requests and columns of scores.
_Places = tuple[torch.Tensor, torch.Tensor]


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
    """Rankings of n requests from their scores (n, L) of the L listable rows, which it weights and masks in place."""

    def __init__(self, scores: torch.Tensor, listable_rows: Ints, column: Ints, rules: Sequence[Resolved]) -> None:
        """`column` is the place of each catalogue row in `listable_rows`, -1 for others."""
        self._scores, self._rows, self._column = scores, listable_rows, column
        #: By rule that never lists some products, the best score (n,) that it left out of each request's ranking.
        self.left_out: dict[str, Floats] = {}
        groups: dict[int, list[int]] = {}
        for i, one in enumerate(rules):
            groups.setdefault(id(one.weights), []).append(i)
        near_places, near_scores = self._near(rules)
        for same in groups.values():
            self._weight(same, rules[same[0]].soft_weights[listable_rows])
        masks = [
            (same, name, columns)
            for same in groups.values()
            for name, never in rules[same[0]].masks
            if len(columns := torch.from_numpy(np.flatnonzero(never[listable_rows])).to(scores.device))
        ]
        for same, name, columns in masks:
            best = self._part(same)[:, columns].amax(dim=1).cpu().numpy()
            self._leave_out(name, np.array(same, np.int64), best.astype(np.float64))
        denied = self._denied(rules)
        scores[near_places] = near_scores
        scores[denied] = -torch.inf
        for same, _, columns in masks:
            if len(same) == len(scores):
                scores.index_fill_(1, columns, -torch.inf)
            else:
                scores[torch.tensor(same, device=scores.device)[:, None], columns] = -torch.inf

    def _weight(self, requests: Sequence[int], weights: Float32s) -> None:
        """Add the weights (L,) that requests share."""
        if weights.any():
            shared = torch.from_numpy(weights).to(self._scores.device)
            if len(requests) == len(self._scores):
                self._scores += shared
            else:
                self._scores[list(requests)] += shared

    def _near(self, rules: Sequence[Resolved]) -> tuple[_Places, torch.Tensor]:
        """The products like disliked ones, with their scores: one rounding, a score plus the sum of its weights."""
        request, column = self._listable([one.near for one in rules])
        added = [one.soft_weights[one.near] + one.near_weights for one in rules]
        own = torch.from_numpy(np.concatenate([np.empty(0, np.float32), *added])[column >= 0])
        places = self._places(request, column)
        return places, own.to(self._scores.device) + self._scores[places]

    def _denied(self, rules: Sequence[Resolved]) -> _Places:
        """The products that rules deny to one request alone; notes the best of each rule."""
        denied = [(request, name, rows) for request, one in enumerate(rules) for name, rows in one.denied]
        entry, column = self._listable([rows for _, _, rows in denied])
        places = self._places(np.array([request for request, _, _ in denied], np.int64)[entry], column)
        entry, score = entry[column >= 0], self._scores[places].cpu().numpy().astype(np.float64)
        of_request, names = np.array([request for request, _, _ in denied], np.int64), [name for _, name, _ in denied]
        for name in dict.fromkeys(names):
            chosen = np.array([one == name for one in names])[entry]
            self._leave_out(name, of_request[entry[chosen]], score[chosen])
        return places

    def _listable(self, rows: Sequence[Ints]) -> tuple[Ints, Ints]:
        """The place in `rows` and the column of each catalogue row in them."""
        place = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        return place, self._column[np.concatenate([np.empty(0, np.int64), *rows])].astype(np.int64)

    def _places(self, request: Ints, column: Ints) -> _Places:
        """Where the scores of requests' columns are; -1 is none."""
        device, known = self._scores.device, column >= 0
        return torch.from_numpy(request[known]).to(device), torch.from_numpy(column[known]).to(device)

    def _leave_out(self, name: str, requests: Ints, scores: Floats) -> None:
        best = self.left_out.setdefault(name, np.full(len(self._scores), -np.inf))
        np.maximum.at(best, requests, scores)

    def _part(self, requests: Sequence[int]) -> torch.Tensor:
        return self._scores if len(requests) == len(self._scores) else self._scores[list(requests)]

    def flat(self, requests: Sequence[int], size: int, member: Bools | None = None) -> tuple[Ints, Ints, Floats]:
        """The `size` best rows of each of some requests, or more where scores are equal; among `member` if given.

        Returns the place in `requests`, the catalogue row and the score of each, best first.
        """
        scores = self._part(requests)
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
