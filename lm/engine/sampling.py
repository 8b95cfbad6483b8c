"""Samples free text after prompts; the samples of a prompt share its keys and values.

Each sample has its own stream of random numbers, seeded by the call's seed, the row's seed and the sample's number.
A row's texts therefore do not depend on its neighbours, the batch or the partition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm.engine.batching import rows_within_budget
from lm.engine.device import batch_limits
from lm.engine.device_sampling import draw_on_device
from lm.engine.engine import Engine, load_engine
from lm.engine.kv_tree import ROOT, Floats, Ints, TokenRuns
from lm.engine.top_k_sampling import BLOCK_TOKENS, draw_top_k
from lm.text.prompt import PromptEncoder


@dataclass(frozen=True)
class Sampling:
    """Decoding settings in Hugging Face's terms and order: repetition penalty, temperature, top-k, top-p.

    Temperature 0 takes the most likely token; top_k 0 and top_p 1 exclude no token. Raises ValueError out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(f"{self}: use temperature >= 0, top_k >= 0, 0 < top_p <= 1 and repetition_penalty > 0")


class Sample(NamedTuple):
    """One continuation: its text without the stop sequence, its tokens, and the reason of its end."""

    text: str
    tokens: list[int]
    ended: Literal["end_token", "stop_sequence", "max_new_tokens"]


Constraint = Callable[[Tensor, Sequence[int], Sequence[Sequence[int]]], None]
"""Changes logits (n, vocabulary) in place, given the index of each row's prompt and its tokens so far."""


class Sampler:
    """Continues prompts by one model; must not be shared between threads."""

    def __init__(self, engine: Engine, encoder: PromptEncoder, *, batch_tokens: int | None = None) -> None:
        self.engine, self.encoder = engine, encoder
        self._limits = batch_limits(engine.device)
        self.batch_tokens = batch_tokens or self._limits.tokens
        # Item tokens and padding rows of the vocabulary are no text.
        self._text_tokens = min(encoder.tokenizer.get_vocab_size(), engine.vocabulary)

    @classmethod
    def load(
        cls, model_dir: Path | str, *, dtype: str = "auto", threads: int | None = None, device: str = "auto"
    ) -> Sampler:
        """Load a model directory; options as in `load_engine`. Raises CheckpointError."""
        path = Path(model_dir)
        return cls(load_engine(path, dtype=dtype, threads=threads, device=device), PromptEncoder.load(path))

    def sample(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] = Sampling(),
        *,
        max_new_tokens: int = 64,
        num_return_sequences: int = 1,
        stop_sequences: Sequence[str] = (),
        seed: int = 0,
        row_seeds: Sequence[int] | None = None,
        constrain: Constraint | None = None,
    ) -> list[list[Sample]]:
        """Draw `num_return_sequences` continuations of each prompt; prompts are all texts or all token ids.

        `sampling` is one for all or one for each prompt; `row_seeds` (non-negative) default to a hash of each prompt.
        A prompt that leaves no room for `max_new_tokens` in the context loses its beginning. `constrain` changes the
        logits of every draw before the repetition penalty. Raises ValueError for values out of range.
        """
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        seeds = [seed_from_prompt(prompt) for prompt in prompts] if row_seeds is None else list(row_seeds)
        if not len(prompts) == len(samplings) == len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts, {len(samplings)} samplings, {len(seeds)} row_seeds: use equal counts"
            )
        if not 0 < max_new_tokens < self.engine.context or num_return_sequences < 1:
            raise ValueError(
                f"max_new_tokens {max_new_tokens} must be from 1 to {self.engine.context - 1}, "
                f"num_return_sequences {num_return_sequences} at least 1"
            )
        if "" in stop_sequences:
            raise ValueError("a stop sequence is empty: remove it")
        longest = self.engine.context - max_new_tokens
        encoded = [self.encoder.newest_tokens(ids, longest) for ids in self._encode(prompts)]
        slots = num_return_sequences * max_new_tokens
        samples: list[list[Sample]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(encoded[i]))
        while order:
            lengths = (len(encoded[i]) for i in order)
            size = rows_within_budget(
                lengths, self.batch_tokens, slots, self._limits.cache_bytes // self.engine.row_bytes
            )
            batch, order = order[:size], order[size:]
            streams = [[(seed, seeds[i], n) for n in range(num_return_sequences)] for i in batch]
            uniform = np.array([[_uniform(s, max_new_tokens) for s in streams_of] for streams_of in streams])
            rows = [encoded[i] for i in batch]
            renumbered = _for_batch(batch, constrain)
            found = self._continue(rows, [samplings[i] for i in batch], uniform, list(stop_sequences), renumbered)
            for i, of_prompt in zip(batch, found, strict=True):
                samples[i] = of_prompt
        return samples

    def _encode(self, prompts: Sequence[str] | Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if texts and len(texts) < len(prompts):
            raise ValueError("prompts mix texts and token ids: use one kind")
        return self.encoder.encode_many(texts) if texts else [p for p in prompts if not isinstance(p, str)]

    def _continue(
        self,
        prompts: list[list[int]],
        samplings: list[Sampling],
        uniform: Floats,
        stops: list[str],
        constrain: Constraint | None,
    ) -> list[list[Sample]]:
        """Continue one batch; `uniform` (B, samples, max_new_tokens) are the random numbers of the draws."""
        B, R, limit = uniform.shape
        prefilled = self.engine.prefill(prompts, R * limit)
        tokens: list[list[int]] = [[] for _ in range(B * R)]
        ended: list[Literal["end_token", "stop_sequence", "max_new_tokens"]] = ["max_new_tokens"] * (B * R)
        live = np.arange(B * R)  # unfinished samples, numbered prompt by prompt
        states, state, parent = prefilled.states, live // R, np.full(B * R, ROOT)
        for step in range(limit):
            context = [prompts[i // R] + tokens[i] for i in live]
            rules = [samplings[i // R] for i in live]
            bound = constrain and _for_rows((live // R).tolist(), [tokens[i] for i in live], constrain)
            drawn = self._draw(states, state, context, rules, uniform.reshape(B * R, limit)[live, step], bound)
            unfinished = np.ones(len(live), np.bool_)
            for n, (i, token) in enumerate(zip(live.tolist(), drawn.tolist(), strict=True)):
                if token == self.encoder.end_token:
                    ended[i] = "end_token"
                else:
                    tokens[i].append(token)
                    if self._stops(tokens[i], stops):
                        ended[i] = "stop_sequence"
                unfinished[n] = ended[i] == "max_new_tokens"
            live, parent, drawn = live[unfinished], parent[unfinished], drawn[unfinished]
            if step == limit - 1 or not len(live):
                break
            one = np.ones(len(live), np.int64)
            states, parent = prefilled.extend(TokenRuns(live // R, parent, one, drawn, one > 0))
            state = np.arange(len(live))
        results = [Sample(self._text(t, stops), t, e) for t, e in zip(tokens, ended, strict=True)]
        return [results[p * R : (p + 1) * R] for p in range(B)]

    def _draw(
        self,
        states: Tensor,
        state: Ints,
        context: list[list[int]],
        rules: list[Sampling],
        uniform: Floats,
        constrain: Callable[[Tensor, Ints], None] | None,
    ) -> Ints:
        """Draw the next token of each sample; `state` (ascending) is its row in `states`."""
        drawn = np.empty(len(state), np.int64)
        for start, logits in self.engine.logits(states, 0, self._text_tokens):
            here = np.flatnonzero((state >= start) & (state < start + len(logits)))
            if len(here):
                rows = logits[torch.from_numpy(state[here] - start).to(logits.device)]
                if constrain:
                    constrain(rows, here)
                for n, i in enumerate(here.tolist()):
                    penalise(rows[n], context[i], rules[i].repetition_penalty)
                drawn[here] = next_tokens(rows, [rules[i] for i in here], uniform[here])
        return drawn

    def _stops(self, tokens: list[int], stops: list[str]) -> bool:
        if not stops:
            return False
        # A token is at least one byte, so only this many of the newest tokens can complete a stop sequence.
        newest = self.encoder.tokenizer.decode(tokens[-max(len(stop.encode()) for stop in stops) :])
        return any(stop in newest for stop in stops)

    def _text(self, tokens: list[int], stops: list[str]) -> str:
        text = self.encoder.tokenizer.decode(tokens)
        return text[: min([text.find(stop) for stop in stops if stop in text], default=len(text))]


def penalise(logits: Tensor, seen: Sequence[int], penalty: float) -> None:
    """Lower the logits (vocabulary,) of the tokens in `seen`, in place. Source: Keskar et al. (2019)."""
    if penalty != 1.0:
        ids = np.unique(seen)
        tokens = torch.from_numpy(ids[ids < len(logits)]).to(logits.device)
        before = logits[tokens]
        logits[tokens] = torch.where(before < 0, before * penalty, before / penalty)


def next_tokens(logits: Tensor, rules: Sequence[Sampling], uniform: Floats) -> Ints:
    """Draw one token a row: logits (n, vocabulary) float32, uniform (n,) in [0, 1) -> (n,).

    A row's token depends on its own logits, rule and number alone.
    """
    temperature = torch.tensor([rule.temperature or 1.0 for rule in rules], device=logits.device)
    scaled = logits if bool((temperature == 1).all()) else logits / temperature[:, None]
    few = np.array([1 if rule.temperature == 0 else rule.top_k for rule in rules])
    uniform = np.where([rule.temperature == 0 for rule in rules], 0.0, uniform)  # takes the lowest id among ties
    if logits.is_cuda:
        return draw_on_device(scaled, few, [rule.top_p for rule in rules], uniform)
    among_few = (few > 0) & (few < logits.shape[1])
    drawn = np.empty(len(rules), np.int64)
    for is_few in (True, False):
        here = np.flatnonzero(among_few == is_few)
        if not len(here):
            continue
        rows = scaled if len(here) == len(rules) else scaled[torch.from_numpy(here).to(logits.device)]
        top_p = [rules[n].top_p for n in here.tolist()]
        if is_few:
            drawn[here] = draw_top_k(rows, few[here], top_p, uniform[here])
        else:
            p = rows.softmax(dim=1).cpu().numpy()
            for n in np.flatnonzero(np.array(top_p) < 1).tolist():
                keep_top_p(p[n], top_p[n])
            drawn[here] = draw(p, uniform[here])
    return drawn


def keep_top_p(p: NDArray[np.float32], top_p: float) -> None:
    """Set all but the fewest most likely tokens with the share `top_p` to zero, in place.

    Source: Holtzman et al. (2020).
    p (vocabulary,) is not sorted as a whole, which takes thirty times as long. Positive floats are ordered like their
    bits, so a histogram over their upper halves finds the cut.
    """
    bucket = p.view(np.int32) >> 16
    mass = np.bincount(bucket, weights=p)[::-1].cumsum()  # from the most likely bucket on
    wanted = top_p * mass[-1]
    cut = int(np.searchsorted(mass, wanted))
    at_cut = np.flatnonzero(bucket == len(mass) - 1 - cut)
    at_cut = at_cut[np.argsort(-p[at_cut], kind="stable")]
    share = (mass[cut - 1] if cut else 0.0) + p[at_cut].cumsum(dtype=np.float64)
    p[bucket < len(mass) - 1 - cut] = 0
    p[at_cut[np.searchsorted(share, wanted) + 1 :]] = 0


def draw(p: NDArray[np.float32], uniform: Floats) -> Ints:
    """Draw a token a row from weights p (n, vocabulary) by inversion, uniform (n,) in [0, 1) -> (n,).

    The cumulated weights of whole blocks of tokens find the block, those within it find the token.
    """
    blocks = np.add.reduceat(p, np.arange(0, p.shape[1], BLOCK_TOKENS), axis=1, dtype=np.float64)
    drawn = np.empty(len(p), np.int64)
    for n, (row, masses) in enumerate(zip(p, blocks.cumsum(axis=1), strict=True)):
        target = uniform[n] * masses[-1]
        block = _first_above(masses, target)
        inside = row[block * BLOCK_TOKENS : (block + 1) * BLOCK_TOKENS].cumsum(dtype=np.float64)
        drawn[n] = block * BLOCK_TOKENS + _first_above(inside, target - (masses[block - 1] if block else 0.0))
    return drawn


def _first_above(masses: Floats, target: float) -> int:
    """The first index with a cumulated mass above `target`, at most the last index with a mass of its own."""
    last = int(np.searchsorted(masses, masses[-1]))
    return min(int(np.searchsorted(masses, target, side="right")), last)


def _for_batch(batch: Sequence[int], constrain: Constraint | None) -> Constraint | None:
    """The constraint for prompts that are numbered within their batch."""
    if constrain is None:
        return None
    return lambda logits, prompt, tokens: constrain(logits, [batch[number] for number in prompt], tokens)


def _for_rows(prompt: list[int], tokens: list[list[int]], constrain: Constraint) -> Callable[[Tensor, Ints], None]:
    """The constraint for some of the unfinished samples."""

    def bound(logits: Tensor, here: Ints) -> None:
        constrain(logits, [prompt[i] for i in here], [tokens[i] for i in here])

    return bound


def seed_from_prompt(prompt: str | Sequence[int]) -> int:
    """A row's seed, a 64-bit hash of its prompt."""
    if not isinstance(prompt, str):
        prompt = " ".join(map(str, prompt))
    return int.from_bytes(hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _uniform(stream: tuple[int, ...], count: int) -> Floats:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(stream))).random(count)
