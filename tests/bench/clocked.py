"""An engine that counts and times what is asked of it, so that a benchmark can say where the time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import Tensor

from lm.engine.engine import Engine, Prefilled
from lm.engine.kv_tree import Floats, Ints, TokenRuns
from tests.bench.measure import gpt2_flops, now

N_EMBD, N_LAYER = 768, 12
ANSWER = 8  # tokens of the answer that a token sees, for the count of operations: a small part of it


class Clocked:
    """Implements lm.engine.engine.Engine by another one; `seconds` and `flops` by part: prefill, decode, logits."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.context, self.vocabulary, self.row_bytes = engine.context, engine.vocabulary, engine.row_bytes
        self.device = engine.device
        self.seconds: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()

    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> ClockedPrefilled:
        """As lm.engine.engine.Engine.prefill."""
        started = now()
        prefilled = self.engine.prefill(prompts, slots)
        self.seconds["prefill"] += now() - started
        self.flops["prefill"] += sum(prefill_flops(len(ids)) for ids in prompts)
        return ClockedPrefilled(self, prefilled, [len(ids) for ids in prompts])

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """As lm.engine.engine.Engine.logits; a caller's work between two tensors is not counted."""
        count = self.vocabulary - first if count is None else count
        self.flops["logits"] += 2 * states.shape[1] * count * len(states)
        parts = self.engine.logits(states, first, count)
        while True:
            started = now()
            part = next(parts, None)
            self.seconds["logits"] += now() - started
            if part is None:
                return
            yield part

    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """As lm.engine.engine.Engine.log_probs."""
        started = now()
        found = self.engine.log_probs(states, row, token)
        self.seconds["logits"] += now() - started
        self.flops["logits"] += 2 * states.shape[1] * self.vocabulary * len(states)
        return found

    def shares(self, seconds: float, ceiling: float) -> dict[str, dict[str, float]]:
        """Of `seconds` in all: each part's share, and the fraction of `ceiling` FLOP/s that it reached in its own."""
        shares = {
            name: {"share": spent / seconds, "ceiling_fraction": self.flops[name] / spent / ceiling}
            for name, spent in self.seconds.items()
        }
        rest = seconds - sum(self.seconds.values())
        return shares | {"search": {"share": rest / seconds, "ceiling_fraction": 0.0}}


class ClockedPrefilled:
    """Implements lm.engine.engine.Prefilled."""

    def __init__(self, clocked: Clocked, prefilled: Prefilled, lengths: list[int]) -> None:
        self._clocked, self._prefilled, self._lengths = clocked, prefilled, lengths
        self.states, self.tree = prefilled.states, prefilled.tree

    def extend(self, chains: TokenRuns) -> tuple[Tensor, Ints]:
        """As lm.engine.engine.Prefilled.extend."""
        started = now()
        found = self._prefilled.extend(chains)
        self._clocked.seconds["decode"] += now() - started
        for prompt, length in zip(chains.prompt.tolist(), chains.length.tolist(), strict=True):
            self._clocked.flops["decode"] += gpt2_flops(length, self._lengths[prompt] + ANSWER)
        return found


def prefill_flops(tokens: int) -> float:
    """What lm.engine.gpt2_engine computes of a prompt: of the last layer only keys, values and the last row."""
    before = gpt2_flops(tokens, tokens / 2, n_layer=N_LAYER - 1)
    last = tokens * 4 * N_EMBD**2 + 20 * N_EMBD**2 + 4 * N_EMBD * tokens
    return before + last
