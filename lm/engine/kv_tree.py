"""Answers that share beginnings: which token rows were computed after each prompt, and what each may see.

The continuations of a prompt (beams, samples, candidate titles) form a tree whose root is the prompt. Every
computed token keeps its keys and values in a slot of the prompt's own; a token sees its prompt and the
slots of its ancestors. So beams never copy a cache: a beam is its last token's slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.engine.batching import round_up

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

ROOT = -1
"""The slot number that stands for the prompt itself."""
SLOT_MULTIPLE = 32
"""Prompts have a multiple of this many slots."""


class TokenRuns(NamedTuple):
    """M runs of tokens to compute in one pass, ordered by prompt; each run follows one row of the tree."""

    prompt: Ints  # (M,) which prompt, ascending
    parent: Ints  # (M,) slot of the row before the run's first token, or ROOT
    length: Ints  # (M,) tokens in the run, at least 1
    token: Ints  # (N,) the runs' tokens, one run after the other; N = sum of length
    keep: Bools  # (M,) whether later runs may follow; the slots of others are used again


class Placement(NamedTuple):
    """Where the N rows of a pass go."""

    prompt: Ints  # (N,)
    slot: Ints  # (N,)
    depth: Ints  # (N,) answer tokens before it: its position is the prompt's length + depth
    last: Ints  # (M,) slot of each run's last row
    sees: Bools  # (N, slots) the slots that a row may look at, its own included


class KVTree:
    """The slots of `prompts` prompts, each with room for `slots` rows at first; more are made when needed."""

    def __init__(self, prompts: int, slots: int) -> None:
        slots = round_up(slots, SLOT_MULTIPLE)
        self.slots = slots
        self.used: Ints = np.zeros(prompts, np.int64)  # kept rows, which come first
        self._sees: Bools = np.zeros((prompts, slots, slots), np.bool_)
        self._depth: Ints = np.zeros((prompts, slots), np.int64)

    def place(self, chains: TokenRuns) -> Placement:
        """Give every row of the runs a slot."""
        run = np.repeat(np.arange(len(chains.length)), chains.length)  # (N,)
        first = np.cumsum(chains.length) - chains.length  # (M,) row of each run's first token
        step = np.arange(len(run)) - first[run]  # (N,) place in its run
        prompt, keep = chains.prompt[run], chains.keep[run]

        # Kept rows take the next slots for good, the others lie behind them until the next pass.
        order = np.lexsort((~keep, prompt))
        begin = np.searchsorted(prompt, prompt[order])
        slot = np.empty(len(run), np.int64)
        slot[order] = self.used[prompt[order]] + np.arange(len(run)) - begin
        self._grow(int(slot.max(initial=-1)) + 1)
        np.add.at(self.used, chains.prompt[chains.keep], chains.length[chains.keep])

        follows = chains.parent >= 0  # (M,)
        parent = np.maximum(chains.parent, 0)
        before = np.where(follows, self._depth[chains.prompt, parent] + 1, 0)  # (M,)
        depth = before[run] + step
        sees = self._sees[prompt, parent[run]] & follows[run, None]  # (N, slots)
        row = np.repeat(np.arange(len(run)), step + 1)  # each row with every row of its run up to itself
        earlier = np.arange(len(row)) - (np.cumsum(step + 1) - step - 1)[row] + first[run[row]]
        sees[row, slot[earlier]] = True
        self._sees[prompt, slot] = sees
        self._depth[prompt, slot] = depth
        return Placement(prompt, slot, depth, slot[first + chains.length - 1], sees)

    def _grow(self, slots: int) -> None:
        """Have at least `slots` slots a prompt, and twice as many as before when these do not suffice."""
        if slots <= self.slots:
            return
        more = max(round_up(slots, SLOT_MULTIPLE), 2 * self.slots) - self.slots
        self._sees = np.pad(self._sees, ((0, 0), (0, more), (0, more)))
        self._depth = np.pad(self._depth, ((0, 0), (0, more)))
        self.slots += more
