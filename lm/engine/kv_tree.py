"""The tree of token rows computed after each prompt, and the rows that each of them may attend to.

The continuations of a prompt (beams, samples, candidate titles) form a tree with the prompt as its root. Every computed
token keeps its keys and values in one of the prompt's slots, and attends to the prompt and the slots of its ancestors.
A beam is the slot of its last token, so that no cache is ever copied.
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
"""The slot number of the prompt itself."""
SLOT_MULTIPLE = 32
"""The number of slots of a prompt is a multiple of this."""


class TokenRuns(NamedTuple):
    """M runs of tokens to compute in one pass, ordered by prompt; each run continues one row of the tree."""

    prompt: Ints  # (M,) which prompt, ascending
    parent: Ints  # (M,) slot of the row before the run's first token, or ROOT
    length: Ints  # (M,) tokens in the run, at least 1
    token: Ints  # (N,) the tokens of all runs, concatenated; N = sum of length
    keep: Bools  # (M,) whether later runs may continue it; other runs' slots are reused
    cut: Ints | None = None  # (M,) last tokens of the prompt that a run from ROOT does not follow; None: it follows all


class Placement(NamedTuple):
    """The slots of the N rows of a pass."""

    prompt: Ints  # (N,)
    slot: Ints  # (N,)
    depth: Ints  # (N,) answer tokens before it; its position is the prompt's length - cut + depth
    cut: Ints  # (N,) last tokens of the prompt that the row does not see
    last: Ints  # (M,) slot of each run's last row
    sees: Bools  # (N, slots) the slots that a row may attend to, its own included


class KVTree:
    """The slots of `prompts` prompts, at first `slots` each; the number grows when needed."""

    def __init__(self, prompts: int, slots: int) -> None:
        slots = round_up(slots, SLOT_MULTIPLE)
        self.slots = slots
        self.used: Ints = np.zeros(prompts, np.int64)  # kept rows, which have the first slots
        self._sees: Bools = np.zeros((prompts, slots, slots), np.bool_)
        self._depth: Ints = np.zeros((prompts, slots), np.int64)
        self._cut: Ints = np.zeros((prompts, slots), np.int64)

    def place(self, runs: TokenRuns) -> Placement:
        """Assign a slot to every row of the runs."""
        run = np.repeat(np.arange(len(runs.length)), runs.length)  # (N,)
        first = np.cumsum(runs.length) - runs.length  # (M,) row of each run's first token
        step = np.arange(len(run)) - first[run]  # (N,) index within its run
        prompt, keep = runs.prompt[run], runs.keep[run]

        # Kept rows take the next slots for good; the others use the slots behind them until the next pass.
        order = np.lexsort((~keep, prompt))
        begin = np.searchsorted(prompt, prompt[order])
        slot = np.empty(len(run), np.int64)
        slot[order] = self.used[prompt[order]] + np.arange(len(run)) - begin
        self._grow(int(slot.max(initial=-1)) + 1)
        np.add.at(self.used, runs.prompt[runs.keep], runs.length[runs.keep])

        follows = runs.parent >= 0  # (M,)
        parent = np.maximum(runs.parent, 0)
        before = np.where(follows, self._depth[runs.prompt, parent] + 1, 0)  # (M,)
        depth = before[run] + step
        cut = np.where(follows, self._cut[runs.prompt, parent], 0 if runs.cut is None else runs.cut)[run]
        sees = self._sees[prompt, parent[run]] & follows[run, None]  # (N, slots)
        row = np.repeat(np.arange(len(run)), step + 1)  # each row, once for every row of its run up to itself
        earlier = np.arange(len(row)) - (np.cumsum(step + 1) - step - 1)[row] + first[run[row]]
        sees[row, slot[earlier]] = True
        self._sees[prompt, slot] = sees
        self._depth[prompt, slot] = depth
        self._cut[prompt, slot] = cut
        return Placement(prompt, slot, depth, cut, slot[first + runs.length - 1], sees)

    def depth_after_cut(self, start: int, stop: int, slots: int) -> Ints:
        """Position of the first slots' rows behind the end of their prompt, for prompts start:stop: (prompts, slots).

        Negative where the row follows a cut prompt.
        """
        return self._depth[start:stop, :slots] - self._cut[start:stop, :slots]

    def forget(self) -> None:
        """Free the slots of all rows: no later run continues one of them."""
        self.used[:] = 0

    def _grow(self, slots: int) -> None:
        """Grow to at least `slots` slots a prompt, at least doubling the number."""
        if slots <= self.slots:
            return
        more = max(round_up(slots, SLOT_MULTIPLE), 2 * self.slots) - self.slots
        self._sees = np.pad(self._sees, ((0, 0), (0, more), (0, more)))
        self._depth = np.pad(self._depth, ((0, 0), (0, more)))
        self._cut = np.pad(self._cut, ((0, 0), (0, more)))
        self.slots += more
