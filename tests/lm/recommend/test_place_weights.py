"""Weights of rules at the places and nodes of a trie, for prompts with different sets of rules."""

from __future__ import annotations

import numpy as np
import pytest

from lm.recommend import rankings
from lm.recommend.place_weights import PlaceWeights, TrieWeights
from lm.recommend.rankings import TitleRankings
from lm.recommend.trie import Trie

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 5, 60)
TRIE = Trie.build(RNG.integers(0, 4, LENGTHS.sum()).astype(np.int32), LENGTHS.astype(np.int64))


def some_weights() -> np.ndarray:
    weights = RNG.normal(size=60).astype(np.float32)
    weights[RNG.random(60) < 0.3] = -np.inf
    return weights


@pytest.mark.parametrize("sets", [1, 3])
def test_each_prompt_has_the_weights_of_its_set_and_its_own(sets):
    of_rows = [some_weights() for _ in range(sets)]
    set_of_prompt = [number % sets for number in range(5)]
    own = [
        (np.array([7, 20]), np.array([-0.5, -np.inf], np.float32)),
        *[(np.empty(0, np.int64), np.empty(0, "f4"))] * 4,
    ]
    weights = PlaceWeights(TRIE, [TrieWeights.of(TRIE, one) for one in of_rows], set_of_prompt, own)
    prompt = RNG.integers(0, 5, 200)
    place = RNG.integers(0, 60, 200)
    expected = np.array([of_rows[set_of_prompt[p]][TRIE.items[at]] for p, at in zip(prompt, place, strict=True)])
    expected += np.select([(prompt == 0) & (place == 7), (prompt == 0) & (place == 20)], [-0.5, -np.inf], 0)
    assert weights.of_places(prompt, place).tolist() == expected.astype(np.float32).tolist()
    node = RNG.integers(0, len(TRIE.lo), 200)
    lo, hi = TRIE.lo[node], TRIE.hi[node]
    below = [of_rows[set_of_prompt[p]][TRIE.items[start:stop]] for p, start, stop in zip(prompt, lo, hi, strict=True)]
    assert weights.bound(prompt, node).tolist() == [float(one.max()) for one in below]
    assert weights.allowed(prompt, lo, hi).tolist() == [np.count_nonzero(one > -np.inf) for one in below]
    assert weights.not_denied(1, place).tolist() == [
        at for at in place if of_rows[set_of_prompt[1]][TRIE.items[at]] > -np.inf
    ]


def test_the_weights_that_are_kept_have_a_limit_of_bytes(monkeypatch):
    class Rules:
        def __init__(self) -> None:
            self.weights = some_weights()

    sets = [Rules() for _ in range(4)]
    kept: rankings.KeptWeights = {}
    titles = TitleRankings(TRIE, np.arange(60), kept)
    size = titles._weights(sets[0], None).nbytes
    monkeypatch.setattr(rankings, "_KEPT_BYTES", 2 * size)
    for one in [*sets, *sets]:
        assert titles._weights(one, None).at_place.tolist() == one.weights[TRIE.items].tolist()
        assert sum(of.nbytes for _, _, of in kept.values()) <= 3 * size
    assert len(kept) > 1
