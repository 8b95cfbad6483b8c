"""Weights and denials of products, as the search in the trie needs them: by place, and as bounds at every node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lm.recommend.list_rules import Float32s, Floats, Ints
from lm.recommend.trie import Trie

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class TrieWeights:
    """What a set of rules adds to the scores of the P products of a trie; -inf is never listed."""

    at_place: Float32s  # (P,)
    #: (N,) the greatest weight at each node or below it: with the node's score it bounds what lies below.
    at_node: Float32s
    #: (P + 1,) the number of products that may be listed before each place.
    allowed_before: Ints

    @property
    def nbytes(self) -> int:
        """The memory of the arrays."""
        return self.at_place.nbytes + self.at_node.nbytes + self.allowed_before.nbytes

    @classmethod
    def of(cls, trie: Trie, weights: Float32s) -> TrieWeights:
        """From weights (I,) of catalogue rows."""
        at_place = weights[trie.items]
        before = np.concatenate([[0], np.cumsum(at_place > -np.inf)]).astype(np.int64)
        return cls(at_place, _greatest(at_place, trie.lo.astype(np.int64), trie.hi.astype(np.int64)), before)


def _greatest(values: Float32s, start: Ints, stop: Ints) -> Float32s:
    """The greatest of values[start:stop] for many ranges, by a table of powers of two; no range is empty."""
    found = np.full(len(start), -np.inf, np.float32)
    level = np.zeros(len(start), np.int64)
    some = stop > start
    level[some] = np.log2(stop[some] - start[some]).astype(np.int64)
    table, size = values, 1
    for power in range(int(level.max(initial=0)) + 1):
        now = np.flatnonzero(some & (level == power))
        found[now] = np.maximum(table[start[now]], table[stop[now] - size])
        if len(table) > size:
            table, size = np.maximum(table[:-size], table[size:]), size * 2
    return found


class PlaceWeights:
    """The weights of the prompts of one search, each by its set of rules and by its own products."""

    def __init__(
        self,
        trie: Trie,
        sets: Sequence[TrieWeights],
        set_of_prompt: Sequence[int],
        own: Sequence[tuple[Ints, Float32s]],
    ) -> None:
        """`own` are places of each prompt and what is added to their scores besides; never above 0."""
        self._trie, self._set = trie, np.array(set_of_prompt, np.int64)
        self._at_place = [one.at_place for one in sets]  # not stacked: a copy of a million products takes 30 MB a set
        self._at_node = [one.at_node for one in sets]
        self._before = [one.allowed_before for one in sets]
        self._places = max(len(trie.items), 1)
        number = [places + prompt * self._places for prompt, (places, _) in enumerate(own)]
        numbers, weights = np.concatenate(number), np.concatenate([weights for _, weights in own])
        order = np.argsort(numbers)
        self._number: Ints = np.append(numbers[order], -1)
        self._own: Float32s = np.append(weights[order], np.float32(0))

    def bound(self, prompt: Ints, node: NDArray[np.integer]) -> Float32s:
        """The greatest weight of a product at each node or below it."""
        return self._of_sets(self._at_node, prompt, node)

    def of_places(self, prompt: Ints, place: Ints) -> Floats:
        """What is added to the scores of products; -inf is never listed."""
        number = prompt * self._places + place
        at = np.searchsorted(self._number[:-1], number)
        own = np.where(self._number[at] == number, self._own[at], np.float32(0))
        return (self._of_sets(self._at_place, prompt, place) + own).astype(np.float64)

    def allowed(self, prompt: Ints, lo: NDArray[np.integer], hi: NDArray[np.integer]) -> Ints:
        """The number of products from `lo` to before `hi` that the rules allow."""
        return self._of_sets(self._before, prompt, hi) - self._of_sets(self._before, prompt, lo)

    def not_denied(self, prompt: int, places: Ints) -> Ints:
        """Those places that the prompt's set of rules allows."""
        return places[self._at_place[self._set[prompt]][places] > -np.inf]

    def _of_sets(self, arrays: Sequence[NDArray[Number]], prompt: Ints, place: NDArray[np.integer]) -> NDArray[Number]:
        """The element of each prompt's set at each place."""
        if len(arrays) == 1:
            return arrays[0][place]
        found = np.empty(len(place), arrays[0].dtype)
        of = self._set[prompt]
        for number in np.unique(of):
            here = of == number
            found[here] = arrays[number][place[here]]
        return found
