"""Beam search over a trie with fake engines: exact with its proof, and without superfluous rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.engine.engine import Engine
from lm.engine.kv_tree import ROOT, Ints, KVTree, TokenRuns
from lm.recommend import beam_search, recommender
from lm.recommend.beam_search import Search
from lm.recommend.trie import Trie

VOCABULARY = 5


class PathModel:
    """A fake engine: the logits after a path are random numbers seeded by the path."""

    context, vocabulary, row_bytes = 99, VOCABULARY, 1

    def __init__(self, sharpness: float) -> None:
        self.sharpness = sharpness

    def after(self, prompt: int, path: tuple[int, ...]) -> torch.Tensor:
        rng = np.random.default_rng([prompt, *path, 7])
        return torch.tensor(rng.normal(size=VOCABULARY) * self.sharpness, dtype=torch.float32)

    def score(self, prompt: int, path: tuple[int, ...]) -> float:
        return sum(float(self.after(prompt, path[:d]).log_softmax(0)[t]) for d, t in enumerate(path))

    def logits(
        self, states: torch.Tensor, first: int = 0, count: int | None = None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        for row in range(len(states)):
            yield row, states[row : row + 1].clone()

    def log_probs(self, states: torch.Tensor, row: Ints, token: Ints) -> np.ndarray:
        return states.log_softmax(1)[row, token].double().numpy()


class PathState:
    def __init__(self, model: PathModel, prompts: int) -> None:
        self.model, self.tree = model, KVTree(prompts, 2)
        self.states = torch.stack([model.after(p, ()) for p in range(prompts)])
        self.paths: dict[tuple[int, int], tuple[int, ...]] = {}
        self.passes: list[int] = []  # rows of each

    def extend(self, chains: TokenRuns) -> tuple[torch.Tensor, Ints]:
        placement = self.tree.place(chains)
        self.passes.append(len(chains.token))
        rows, row = [], 0
        for prompt, parent, length in zip(chains.prompt, chains.parent, chains.length, strict=True):
            path = () if parent == ROOT else self.paths[int(prompt), int(parent)]
            for _ in range(length):
                path = (*path, int(chains.token[row]))
                self.paths[int(prompt), int(placement.slot[row])] = path
                rows.append(self.model.after(int(prompt), path))
                row += 1
        return torch.stack(rows), placement.last


def test_forced_stretches_take_one_pass_and_ends_none() -> None:
    """After the choice of a first token everything is forced: one pass, which leaves out each title's last token."""
    codes = [[0, 1, 2, 3, 4, 1], [1, 1, 1, 1], [2, 3]]
    trie = Trie.build(np.concatenate(codes).astype(np.int32), np.array([len(code) for code in codes]))
    state = PathState(PathModel(1.0), 2)
    hits = Search(PathModel(1.0), state, trie, [np.empty(0, np.int64)] * 2, 3).run(3, 0)
    assert len(hits.place) == 6
    assert state.passes == [2 * (5 + 3 + 1)]
    assert state.tree.used.tolist() == [0, 0]  # nothing can follow them, so their slots are free again


def test_forced_tokens_are_not_computed_for_beams_that_drop_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fewer passes no more rows than token by token."""
    codes = np.random.default_rng(0).integers(0, VOCABULARY, (40, 8)).astype(np.int32)
    trie = Trie.build(codes.ravel(), np.full(40, 8))
    passes = {}
    for chain in (1, beam_search.LONGEST_CHAIN):
        monkeypatch.setattr(beam_search, "LONGEST_CHAIN", chain)
        state = PathState(PathModel(1.0), 3)
        Search(PathModel(1.0), state, trie, [np.empty(0, np.int64)] * 3, 4).run(4, 0)
        passes[chain] = state.passes
    one, many = passes.values()
    assert sum(many) == sum(one)
    assert len(many) < len(one)


def test_a_proof_that_costs_too_much_is_not_begun() -> None:
    codes = np.random.default_rng(0).integers(0, VOCABULARY, (60, 4)).astype(np.int32)
    trie = Trie.build(codes.ravel(), np.full(60, 4))
    rows = {}
    for allowance in (0, 8, recommender.UNLIMITED):
        state = PathState(PathModel(0.1), 1)
        hits = Search(PathModel(0.1), state, trie, [np.empty(0, np.int64)], 2).run(2, allowance)
        rows[allowance] = sum(state.passes)
        assert hits.proven.tolist() == [allowance == recommender.UNLIMITED]
    assert rows[0] == rows[8] < rows[recommender.UNLIMITED]


sequences = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(
    sequences,
    st.integers(1, 12),
    st.integers(1, 6),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from([1, 2, 32]),
    st.data(),
)
def test_search_equals_brute_force_on_any_trie(
    codes: list[list[int]], k: int, width: int, sharpness: float, chain: int, data: st.DataObject
) -> None:
    """With an unlimited proof the best k exactly; without one, a list as long and never better."""
    model: Engine = PathModel(sharpness)
    trie = Trie.build(np.concatenate(codes).astype(np.int32), np.array([len(code) for code in codes]))
    prompts = 3
    subsets = st.sets(st.integers(0, len(codes) - 1))
    excluded = [data.draw(subsets, label="excluded") for _ in range(prompts)]
    places = [np.flatnonzero(np.isin(trie.items, list(out))) for out in excluded]
    longest, beam_search.LONGEST_CHAIN = beam_search.LONGEST_CHAIN, chain
    try:
        exact = Search(model, PathState(model, prompts), trie, places, k).run(width, recommender.UNLIMITED)
        quick = Search(model, PathState(model, prompts), trie, places, k).run(width, 0)
    finally:
        beam_search.LONGEST_CHAIN = longest
    assert exact.proven.all()
    for p in range(prompts):
        allowed = [model.score(p, tuple(code)) for i, code in enumerate(codes) if i not in excluded[p]]
        expected = sorted(allowed, reverse=True)[:k]
        for hits in (exact, quick):
            mine = slice(hits.ptr[p], hits.ptr[p + 1])
            items = trie.items[hits.place[mine]].tolist()
            assert len(set(items)) == len(items) >= len(expected)
            assert not set(items) & excluded[p]
            true = [model.score(p, tuple(codes[item])) for item in items]
            np.testing.assert_allclose(hits.score[mine], true, atol=1e-5)
            assert (np.diff(hits.score[mine]) <= 0).all()
            if hits is exact or hits.proven[p]:
                np.testing.assert_allclose(hits.score[mine][: len(expected)], expected, atol=1e-5)
