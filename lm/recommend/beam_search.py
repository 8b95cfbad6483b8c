"""The most likely titles after each prompt: beam search over the trie of titles, then a proof of optimality.

A node's score is the sum of the full-vocabulary log-probabilities of the tokens up to it. At every depth the beam
search keeps the `width` best unfinished nodes of a prompt, as Hugging Face's constrained beam search does.
Log-probabilities are <= 0, so a node's score bounds the scores of all titles below it: an admissible heuristic in the
sense of A*. Where rules weight titles, the bound is the node's score plus the greatest weight below it. The proof
expands dropped nodes whose bound is above the k-th best title, best first. It ends when no such node is left (the list
is the exact top k) or when it would cost more than the caller allows.

All prompts of a batch advance together, in flat arrays ordered by prompt. The search of one prompt never depends on
the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lm.engine.engine import Engine, Prefilled
from lm.engine.kv_tree import ROOT, Bools, Floats, Ints, TokenRuns
from lm.recommend.place_weights import PlaceWeights
from lm.recommend.trie import Trie

LONGEST_CHAIN = 32
"""Most forced tokens (nodes with one child) that one pass computes ahead."""
PROOF_WIDTH = 32
"""Most nodes of a prompt that one pass of the proof expands."""
UNBOUNDED = 1 << 40
ROWS_PER_NODE = 4
"""Estimated rows to close one open node of the proof; too high an estimate gives up too early."""


class Hits(NamedTuple):
    """The items found for all prompts, ordered by prompt, best first; those of prompt p are ptr[p]:ptr[p + 1]."""

    ptr: Ints  # (B + 1,)
    place: Ints  # in `Trie.items`; ties with the k-th score are all kept
    score: Floats  # natural log
    proven: Bools  # (B,) whether the list is certainly the best k


class Nodes(NamedTuple):
    """Trie nodes that a search has reached, ordered by prompt."""

    prompt: Ints
    node: Ints
    token: Ints  # of the edge into the node
    score: Floats
    parent: Ints  # key-value slot of the row before the node, or ROOT
    row: Ints  # the node's row in the table of computed rows, or -1

    def take(self, which: Bools | Ints) -> Nodes:
        """The nodes at the indices, or where the mask is true."""
        return _nodes(column[which] for column in self)


def _nodes(columns: Iterable[Any]) -> Nodes:
    return Nodes(*columns)


def merge(*several: Nodes) -> Nodes:
    """Concatenate nodes and order them by prompt."""
    whole = _nodes(np.concatenate(columns) for columns in zip(*several, strict=True))
    return whole.take(np.argsort(whole.prompt, kind="stable"))


def ranges(start: Ints, count: Ints) -> tuple[Ints, Ints]:
    """The concatenated ranges start[i] … start[i] + count[i] - 1, and the i of each number."""
    owner = np.repeat(np.arange(len(count)), count)
    return np.arange(len(owner)) - (np.cumsum(count) - count)[owner] + start[owner], owner


def rank_within(prompt: Ints, score: Floats) -> tuple[Ints, Ints]:
    """The stable order by prompt and descending score, and each entry's rank within its prompt, from 0."""
    order = np.lexsort((-score, prompt))
    return order, np.arange(len(order)) - np.searchsorted(prompt, prompt[order])


class Search:
    """The search of one batch. `excluded[p]` are the places in `trie.items` that prompt p must not get.

    `weights` are added to the scores of titles; no excluded place may be one that they deny.
    """

    def __init__(
        self,
        engine: Engine,
        prefilled: Prefilled,
        trie: Trie,
        excluded: list[Ints],
        k: int,
        weights: PlaceWeights | None = None,
    ) -> None:
        self.engine, self.prefilled, self.trie, self.k = engine, prefilled, trie, k
        self.weights = weights
        self.prompts = len(excluded)
        self.places = max(len(trie.items), 1)
        # each (prompt, place) pair as one number, sorted
        parts = [np.unique(places) + p * self.places for p, places in enumerate(excluded)]
        self._excluded: Ints = np.concatenate([np.empty(0, np.int64), *parts])
        # For each computed row: its children in `_child`, and its key-value slot.
        self._first: Ints = np.empty(0, np.int64)
        self._count: Ints = np.empty(0, np.int64)
        self._slot: Ints = np.empty(0, np.int64)
        self._child = _nodes(np.empty(0, t) for t in (np.int64,) * 3 + (np.float64,) + (np.int64,) * 2)
        self._found = self._child
        self.kth: Floats = np.full(self.prompts, -np.inf)
        self.spent: Ints = np.zeros(self.prompts, np.int64)  # rows computed for each prompt

    def run(self, width: int, proof_rows: int) -> Hits:
        """Search with beams of at least k; the proof may compute `proof_rows` rows for each prompt."""
        dropped = self._beam(max(width, self.k))
        proven = self._prove(dropped, proof_rows)
        order, _ = rank_within(self._found.prompt, self._found.score)
        found = self._found.take(order)
        ptr = np.searchsorted(found.prompt, np.arange(self.prompts + 1))
        return Hits(ptr, found.node, found.score, proven)

    def _beam(self, width: int) -> Nodes:
        """Run the beam search and return the nodes that it dropped."""
        live, dropped = self._roots(), [self._roots().take(np.empty(0, np.int64))]
        while len(live.prompt):
            waits = np.zeros(self.prompts, np.bool_)
            waits[live.prompt[live.row < 0]] = True
            ready = ~waits[live.prompt]
            if not ready.any():
                live = self._compute(live, width)
                continue
            children = self._step(live.take(ready))
            order, rank = rank_within(children.prompt, self._bound(children))
            dropped.append(children.take(order[rank >= width]))
            live = merge(live.take(~ready), children.take(order[rank < width]))
        return merge(*dropped)

    def _prove(self, open_nodes: Nodes, allowance: int) -> Bools:
        """Expand dropped nodes, best first, and return (B,) whether each prompt's list is certainly the best k."""
        begun = self.spent.copy()
        proven = np.ones(self.prompts, np.bool_)
        while True:
            open_nodes = open_nodes.take(self._bound(open_nodes) >= self.kth[open_nodes.prompt])
            left = np.bincount(open_nodes.prompt, minlength=self.prompts)
            hopeless = left * ROWS_PER_NODE > allowance - (self.spent - begun)
            proven &= ~hopeless | (left == 0)
            open_nodes = open_nodes.take(proven[open_nodes.prompt])
            if not len(open_nodes.prompt):
                return proven
            order, rank = rank_within(open_nodes.prompt, self._bound(open_nodes))
            rest = [open_nodes.take(np.sort(order[rank >= PROOF_WIDTH]))]
            live = self._compute(open_nodes.take(np.sort(order[rank < PROOF_WIDTH])), UNBOUNDED)
            while len(live.prompt):
                children = self._step(live)
                rest.append(children.take(children.row < 0))
                live = children.take(children.row >= 0)
            open_nodes = merge(*rest)

    def _roots(self) -> Nodes:
        """The root of each prompt that may get any item."""
        prompt = np.arange(self.prompts)
        zero = np.zeros(self.prompts, np.int64)
        if not len(self._first):
            self._add_rows(self.prefilled.states, prompt, zero, zero - 1, zero + ROOT)
        alive = (self.trie.hi[zero] > 0) & ~self._is_dead(prompt, zero)
        return Nodes(prompt, zero, zero, np.zeros(self.prompts), zero + ROOT, prompt).take(alive)

    def _step(self, nodes: Nodes) -> Nodes:
        """Go from computed nodes to their children, record the items that end there, and drop the leaves."""
        at, parent = ranges(self._first[nodes.row], self._count[nodes.row])
        children = self._child.take(at)._replace(
            prompt=nodes.prompt[parent],
            score=nodes.score[parent] + self._child.score[at],
            parent=self._slot[nodes.row[parent]],
        )
        children = children.take(self._bound(children) >= self.kth[children.prompt])
        self._find(children.take(self.trie.own[children.node] > self.trie.lo[children.node]))
        inner = self.trie.ptr[children.node + 1] > self.trie.ptr[children.node]
        return children.take(inner & (self._bound(children) >= self.kth[children.prompt]))

    def _bound(self, nodes: Nodes) -> Floats:
        """The score that no item below each node exceeds."""
        if self.weights is None:
            return nodes.score
        return nodes.score + self.weights.bound(nodes.prompt, nodes.node)

    def _find(self, ended: Nodes) -> None:
        """Record the allowed items that end at the nodes; keep the best k of each prompt, with ties."""
        if not len(ended.prompt):
            return
        lo = self.trie.lo[ended.node].astype(np.int64)
        place, owner = ranges(lo, self.trie.own[ended.node] - lo)
        number = ended.prompt[owner] * self.places + place
        allowed = np.append(self._excluded, -1)[np.searchsorted(self._excluded, number)] != number
        # From here on `node` holds a place in `trie.items`.
        ends = ended.take(owner[allowed])._replace(node=place[allowed])
        if self.weights is not None:
            ends = ends._replace(score=ends.score + self.weights.of_places(ends.prompt, ends.node))
            ends = ends.take(ends.score > -np.inf)
        found = merge(self._found, ends)
        order, rank = rank_within(found.prompt, found.score)
        at_kth = order[rank == self.k - 1]
        self.kth[found.prompt[at_kth]] = found.score[at_kth]
        self._found = found.take(found.score >= self.kth[found.prompt])

    def _is_dead(self, prompt: Ints, node: NDArray[Any]) -> Bools:
        """Whether every item at a node or below it is excluded for the prompt."""
        if not len(self._excluded) and self.weights is None:
            return np.zeros(len(node), np.bool_)
        lo, hi = self.trie.lo[node], self.trie.hi[node]
        first, last = (np.searchsorted(self._excluded, prompt * self.places + bound) for bound in (lo, hi))
        allowed = hi - lo if self.weights is None else self.weights.allowed(prompt, lo, hi)
        return last - first == allowed

    def _compute(self, nodes: Nodes, width: int) -> Nodes:
        """Compute rows in one pass for the nodes that have none, with the forced tokens after them.

        Forced tokens are computed ahead only as far as a beam of `width` certainly reaches.
        """
        missing = np.flatnonzero(nodes.row < 0)
        if not len(missing):
            return nodes
        new = nodes.take(missing)
        length = np.minimum(self._chain_lengths(new.node), 1 + self._horizon(nodes, width)[new.prompt])
        node, owner = ranges(new.node, length)  # forced nodes have consecutive numbers
        token = self._tokens(new, node, owner)
        last = np.cumsum(length) - 1
        base = len(self._first)
        following = np.arange(base + 1, base + 1 + len(node))  # row of the next token in its chain
        following[last] = -1
        keep = self._has_inner_child(new.prompt, node[last])
        chains = TokenRuns(new.prompt, new.parent, length, token, keep)
        states, slots = self.prefilled.extend(chains)
        slot = np.full(len(node), ROOT)
        slot[last] = slots
        self._add_rows(states, new.prompt[owner], node, following, slot)
        np.add.at(self.spent, new.prompt, length)
        row = nodes.row.copy()
        row[missing] = base + last - length + 1
        return nodes._replace(row=row)

    def _chain_lengths(self, node: Ints) -> Ints:
        """The number of rows from each node on: the node itself and the inner nodes that must follow."""
        chain = self.trie.chain[node].astype(np.int64)
        last = node + chain
        is_leaf = self.trie.ptr[last + 1] == self.trie.ptr[last]  # a leaf has no children and needs no row
        return np.minimum(chain + ~is_leaf, LONGEST_CHAIN)

    def _horizon(self, nodes: Nodes, width: int) -> Ints:
        """(B,) the depth below the nodes down to which a beam of `width` drops none of a prompt's nodes.

        Forced tokens beyond that depth may be computed in vain. Within its forced stretch a node has one descendant
        at each depth; after it, at most as many as items end below.
        """
        chain = self.trie.chain[nodes.node].astype(np.int64)
        order = np.lexsort((chain, nodes.prompt))
        prompt, chain = nodes.prompt[order], chain[order]
        more = np.cumsum(self.trie.items_below(nodes.node[order]).astype(np.int64) - 1)
        first = np.searchsorted(prompt, prompt)
        more = more - np.where(first > 0, more[first - 1], 0)  # possible growth of the prompt's nodes up to this one
        crowded = np.bincount(prompt)[prompt] + more > width
        horizon = np.full(self.prompts, LONGEST_CHAIN)
        np.minimum.at(horizon, prompt[crowded], chain[crowded])
        return horizon

    def _tokens(self, first: Nodes, node: Ints, owner: Ints) -> Ints:
        """The tokens of the edges into chained nodes; `first` are the nodes at which the chains begin."""
        begins = node == first.node[owner]
        edge = self.trie.ptr[np.where(begins, 0, node - 1)]
        return np.where(begins, first.token[owner], self.trie.token[edge])

    def _children(self, prompt: Ints, node: Ints) -> tuple[Ints, Ints]:
        """The edges to the allowed children of the nodes, and the index of the node that each edge leaves."""
        start = self.trie.ptr[node]
        edge, owner = ranges(start, self.trie.ptr[node + 1] - start)
        alive = ~self._is_dead(prompt[owner], self.trie.child[edge])
        return edge[alive], owner[alive]

    def _has_inner_child(self, prompt: Ints, node: Ints) -> Bools:
        edge, owner = self._children(prompt, node)
        child = self.trie.child[edge]
        inner = self.trie.ptr[child + 1] > self.trie.ptr[child]
        return np.bincount(owner[inner], minlength=len(node)) > 0

    def _add_rows(self, states: Tensor, prompt: Ints, node: Ints, following: Ints, slot: Ints) -> None:
        """Add computed rows, their children, and the children's log-probabilities to the table."""
        edge, owner = self._children(prompt, node)
        token = self.trie.token[edge].astype(np.int64)
        logp = self.engine.log_probs(states, owner, token)
        count = np.bincount(owner, minlength=len(node))
        first = np.cumsum(count) - count + len(self._child.node)
        self._first, self._count, self._slot = (
            np.concatenate(pair) for pair in ((self._first, first), (self._count, count), (self._slot, slot))
        )
        zero = np.zeros(len(edge), np.int64)
        children = Nodes(zero, self.trie.child[edge].astype(np.int64), token, logp, zero, following[owner])
        self._child = _nodes(np.concatenate(pair) for pair in zip(self._child, children, strict=True))
