"""A trie over token sequences as flat arrays, built without a loop over sequences.

Nodes are numbered depth first from the root, 0. A subtree is a range of nodes, a forced stretch is a slice of
`token`, and the items below a node are a slice of `items`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

NOTHING: Int32s = np.zeros(0, np.int32)


class _Level(NamedTuple):
    """The nodes of one depth in order: the edges into them and the items below them."""

    parent: Int32s  # index in the level above
    token: Int32s
    lo: Int32s
    own: Int32s
    hi: Int32s


@dataclass(frozen=True, eq=False)
class Trie:
    """N nodes, N - 1 edges and I items (sequences), in CSR form.

    Node n's edges are `ptr[n]:ptr[n + 1]`, ascending by `token`; edge e leads to node `child[e]`.
    The items that end at n are `items[lo[n]:own[n]]`; those that end at n or below it are `items[lo[n]:hi[n]]`.
    From n, `chain[n]` edges are forced: each leaves a node with one child where no item ends. Their tokens are
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
        """The trie of I sequences of `lengths` (I,), concatenated in `tokens`.

        Each level takes one sort of (node, next token): it orders the sequences and groups them into the next
        level's nodes. Time grows with the number of tokens, memory with the number of nodes.
        """
        start = np.cumsum(lengths) - lengths
        items = np.arange(len(lengths), dtype=np.int32)
        place: Int64s = np.arange(len(lengths))  # of each sequence that reaches this level
        node: Int64s = np.zeros(len(lengths), np.int64)  # the node of each of them in the level
        parent = token = lo = np.zeros(1, np.int64)
        hi = lo + len(lengths)
        levels: list[_Level] = []
        while len(lo):
            item = items[place]
            longer = lengths[item] > len(levels)
            following: Int64s = np.full(len(item), -1, np.int64)  # -1 is an end: it sorts before every token
            following[longer] = tokens[start[item[longer]] + len(levels)]
            order = np.argsort((node << 32) + following, kind="stable")
            items[place] = item[order]
            node, following = node[order], following[order]
            goes_on = following >= 0
            own = lo + np.bincount(node[~goes_on], minlength=len(lo))
            levels.append(_Level(*(array.astype(np.int32) for array in (parent, token, lo, own, hi))))
            place, node, following = place[goes_on], node[goes_on], following[goes_on]
            first = np.flatnonzero(np.diff(node, prepend=-1) | np.diff(following, prepend=-1))
            count = np.diff(first, append=len(place))
            parent, token, lo, hi = node[first], following[first], place[first], place[first] + count
            node = np.repeat(np.arange(len(first)), count)
        return cls._depth_first(levels, lengths[items], items)

    @classmethod
    def _depth_first(cls, levels: list[_Level], lengths: Int64s, items: Int32s) -> Trie:
        """Number the nodes of all levels depth first and fill the arrays in that order.

        Sequence 0 brings the first nodes; each later sequence brings the nodes that it does not share with earlier
        ones, at the end of its path. `lengths` are in the order of `items`.
        """
        first_depth = np.full(len(items) + 1, -1, np.int64)
        for depth, level in enumerate(levels):
            new = level.lo[first_depth[level.lo] < 0]
            first_depth[new] = depth
        added = np.where(first_depth[:-1] >= 0, lengths - first_depth[:-1] + 1, 0)
        number = np.concatenate([[0], np.cumsum(added)]) - first_depth  # a node has the number number[lo] + depth
        nodes = sum(len(level.lo) for level in levels)
        lo, own, hi, degree = (np.empty(nodes, np.int32) for _ in range(4))
        for depth, level in enumerate(levels):
            here = number[level.lo] + depth
            lo[here], own[here], hi[here] = level.lo, level.own, level.hi
            following = levels[depth + 1].parent if depth + 1 < len(levels) else NOTHING
            degree[here] = np.bincount(following, minlength=len(here))
            levels[depth] = level._replace(own=NOTHING, hi=NOTHING)  # frees memory: a big shop has ten million nodes
        ptr = np.zeros(nodes + 1, np.int64)
        np.cumsum(degree, out=ptr[1:])
        token, child = (np.empty(nodes - 1, np.int32) for _ in range(2))
        for depth, (above, level) in enumerate(pairwise(levels)):
            sibling = np.arange(len(level.lo)) - np.searchsorted(level.parent, level.parent)
            edge = ptr[number[above.lo[level.parent]] + depth] + sibling
            token[edge], child[edge] = level.token, number[level.lo] + depth + 1
        levels.clear()
        forced = (degree == 1) & (own == lo)  # the child of a forced node is the next node
        stop = np.where(forced, np.int32(nodes), np.arange(nodes, dtype=np.int32))
        stop = np.minimum.accumulate(stop[::-1])[::-1]  # the next node that is not forced, for each node
        chain = (stop - np.arange(nodes, dtype=np.int32)).astype(np.int16)
        return cls(ptr, token, child, chain, lo, own, hi, items)

    @property
    def nodes(self) -> int:
        """The number of nodes, including the root."""
        return len(self.lo)

    def items_below(self, node: Int64s) -> Int32s:
        """The number of items that end at each node or below it."""
        return self.hi[node] - self.lo[node]

    def save(self, folder: Path) -> None:
        """Write one .npy file for each array."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Trie:
        """Map the arrays from disk copy-on-write: the workers of a host share the pages."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in names})
