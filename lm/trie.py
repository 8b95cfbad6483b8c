"""A trie over token sequences as flat arrays, built without a loop over sequences.

Nodes are numbered depth first from the root, 0, so that a node's subtree is a range of nodes, a forced
stretch is a slice of `token`, and the items below a node are a slice of `items`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


class _Level(NamedTuple):
    """The nodes of one depth: their parents, the tokens that lead to them, the range of places below them."""

    parent: Int64s
    label: Int64s
    lo: Int64s
    hi: Int64s

    @classmethod
    def root(cls, sequences: int) -> _Level:
        zero = np.zeros(1, np.int64)
        return cls(zero, zero, zero, zero + sequences)


@dataclass(frozen=True, eq=False)
class Trie:
    """N nodes, N - 1 edges and I items (sequences), in CSR form.

    Node n's edges are `ptr[n]:ptr[n + 1]`, ascending by `token`; edge e leads to node `child[e]`.
    The items that end at n are `items[lo[n]:own[n]]`, all below it, with those, `items[lo[n]:hi[n]]`.
    From n, `chain[n]` edges are forced (one child, no item ends before it): their tokens are
    `token[ptr[n]:ptr[n] + chain[n]]` and they lead to node `n + chain[n]`.
    """

    ptr: Int64s  # (N + 1,)
    token: Int32s  # (N - 1,)
    child: Int32s  # (N - 1,)
    chain: Int16s  # (N,)
    lo: Int32s  # (N,)
    own: Int32s  # (N,)
    hi: Int32s  # (N,)
    items: Int32s  # (I,) item numbers in the order of their sequences; equal sequences by item number

    @classmethod
    def build(cls, tokens: Int32s, lengths: Int64s) -> Trie:
        """The trie of I sequences of `lengths` (I,) that lie one after the other in `tokens`.

        Level by level: one sort of (node, next token) puts all sequences in order and groups them into the
        next level's nodes. Time grows with the number of tokens, memory with the number of nodes.
        """
        start = np.cumsum(lengths) - lengths
        items = np.arange(len(lengths), dtype=np.int32)
        place: Int64s = np.arange(len(lengths))  # of the sequences that reach this level, in order
        node: Int64s = np.zeros(len(lengths), np.int64)  # where each of them stands
        levels = [_Level.root(len(lengths))]
        nodes = 1
        ended = [np.zeros(0, np.int64)]
        while len(place):
            depth = len(levels) - 1
            item = items[place]
            longer = lengths[item] > depth
            following: Int64s = np.full(len(item), -1, np.int64)  # an end comes before every token
            following[longer] = tokens[start[item[longer]] + depth]
            order = np.argsort((node << 32) + following, kind="stable")
            items[place] = item[order]
            node, following = node[order], following[order]
            goes_on = following >= 0
            ended.append(node[~goes_on])
            place, node, following = place[goes_on], node[goes_on], following[goes_on]
            first = np.flatnonzero(np.diff(node, prepend=-1) | np.diff(following, prepend=-1))
            count = np.diff(first, append=len(place))
            levels.append(_Level(node[first], following[first], place[first], place[first] + count))
            node = nodes + np.repeat(np.arange(len(first)), count)
            nodes += len(first)
        level = np.repeat(np.arange(len(levels)), [len(level.lo) for level in levels])
        parent, label, lo, hi = (np.concatenate(arrays) for arrays in zip(*levels, strict=True))
        own = lo + np.bincount(np.concatenate(ended), minlength=nodes)
        # Depth first: a subtree's root has its least item, and of nodes with the same one the highest comes first.
        order = np.argsort((lo << 16) + level, kind="stable")
        number = np.empty(nodes, np.int32)
        number[order] = np.arange(nodes, dtype=np.int32)
        return cls._linked(number[parent[order[1:]]], label[order], lo[order], own[order], hi[order], items)

    @classmethod
    def _linked(cls, parent: Int32s, label: Int64s, lo: Int64s, own: Int64s, hi: Int64s, items: Int32s) -> Trie:
        """The edges of nodes that are in depth-first order; `parent` is that of every node but the root."""
        nodes = len(lo)
        ptr = np.zeros(nodes + 1, np.int64)
        np.cumsum(np.bincount(parent, minlength=nodes), out=ptr[1:])
        child = np.argsort(parent, kind="stable") + 1
        stops = np.flatnonzero((np.diff(ptr) != 1) | (own > lo))  # a forced node's child is the next node
        chain = stops[np.searchsorted(stops, np.arange(nodes))] - np.arange(nodes)
        return cls(
            ptr=ptr,
            token=label[child].astype(np.int32),
            child=child.astype(np.int32),
            chain=chain.astype(np.int16),
            lo=lo.astype(np.int32),
            own=own.astype(np.int32),
            hi=hi.astype(np.int32),
            items=items,
        )

    @property
    def nodes(self) -> int:
        """How many nodes there are, the root included."""
        return len(self.lo)

    def items_below(self, node: Int64s) -> Int32s:
        """How many items end at or below each node."""
        return self.hi[node] - self.lo[node]

    def save(self, folder: Path) -> None:
        """One .npy file for each array."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Trie:
        """The arrays mapped from disk: workers of a host share the pages; what one writes stays its own."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in names})
