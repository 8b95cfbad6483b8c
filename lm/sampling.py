"""Free text after a prompt: several samples that share the prompt's keys and values.

Each sample draws from its own stream of random numbers, seeded by the call's seed, the row's seed and the
sample's number, so that a row's texts do not depend on its neighbours, the batch or the partition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm.batching import fitting
from lm.engine import Engine, load_engine
from lm.prompt import PromptEncoder
from lm.tree import ROOT, Chains, Floats, Ints

BATCH_TOKENS = 8192
CACHE_BYTES = 1 << 30
"""Of keys and values of one batch."""
SORTED = (64, 1024)
"""How many of the most likely tokens are sorted at first; rows for which that is too few sort all."""
BLOCK = 256
"""Tokens whose probabilities are summed before one of them is looked for."""


@dataclass(frozen=True)
class Sampling:
    """How to draw, in Hugging Face's terms and order: repetition penalty, temperature, top-k, top-p.

    A temperature of 0 takes the most likely token; top_k 0 and top_p 1 cut nothing off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(f"{self}: temperature, top_k >= 0, 0 < top_p <= 1 and repetition_penalty > 0 are needed")


class Sample(NamedTuple):
    """One continuation: its text without the stop sequence, its tokens, and why it ended."""

    text: str
    tokens: list[int]
    ended: Literal["end_token", "stop_sequence", "max_new_tokens"]


class Sampler:
    """Continues prompts by one model; for one thread at a time."""

    def __init__(self, engine: Engine, encoder: PromptEncoder, *, batch_tokens: int = BATCH_TOKENS) -> None:
        self.engine, self.encoder, self.batch_tokens = engine, encoder, batch_tokens
        # Product tokens and rows that only pad the vocabulary spell no text.
        self._texts = min(encoder.tokenizer.get_vocab_size(), engine.vocabulary)

    @classmethod
    def load(
        cls, model_dir: Path | str, *, dtype: str = "auto", threads: int | None = None, device: str = "auto"
    ) -> Sampler:
        """Open a model directory; options as those of lm.generate.Recommender.load."""
        path = Path(model_dir)
        return cls(load_engine(path, dtype=dtype, threads=threads, device=device), PromptEncoder.load(path))

    def sample(
        self,
        prompts: Sequence[str],
        sampling: Sampling | Sequence[Sampling] = Sampling(),
        *,
        max_new_tokens: int = 64,
        num_return_sequences: int = 1,
        stop_sequences: Sequence[str] = (),
        seed: int = 0,
        row_seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """`num_return_sequences` continuations of each prompt.

        `sampling` is one for all or one for each prompt; `row_seeds` (non-negative) default to a hash of each
        prompt. Of a prompt that leaves no room for `max_new_tokens` in the context the beginning is dropped.
        """
        each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        seeds = [_hash(prompt) for prompt in prompts] if row_seeds is None else list(row_seeds)
        if not len(prompts) == len(each) == len(seeds):
            raise ValueError(f"{len(prompts)} prompts, {len(each)} samplings, {len(seeds)} row_seeds")
        if not 0 < max_new_tokens < self.engine.context or num_return_sequences < 1:
            raise ValueError(
                f"max_new_tokens {max_new_tokens} must be from 1 to {self.engine.context - 1}, "
                f"num_return_sequences {num_return_sequences} at least 1"
            )
        if "" in stop_sequences:
            raise ValueError("a stop sequence is empty")
        longest = self.engine.context - max_new_tokens
        encoded = [ids[-longest:] or [self.encoder.end_token] for ids in self.encoder.encode_many(prompts)]
        slots = num_return_sequences * max_new_tokens
        samples: list[list[Sample]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(encoded[i]))
        while order:
            lengths = (len(encoded[i]) for i in order)
            size = fitting(lengths, self.batch_tokens, slots, CACHE_BYTES // self.engine.row_bytes)
            batch, order = order[:size], order[size:]
            streams = [[(seed, seeds[i], n) for n in range(num_return_sequences)] for i in batch]
            uniform = np.array([[_uniform(s, max_new_tokens) for s in streams_of] for streams_of in streams])
            rows = [encoded[i] for i in batch]
            found = self._continue(rows, [each[i] for i in batch], uniform, list(stop_sequences))
            for i, one in zip(batch, found, strict=True):
                samples[i] = one
        return samples

    def _continue(
        self, prompts: list[list[int]], samplings: list[Sampling], uniform: Floats, stops: list[str]
    ) -> list[list[Sample]]:
        """One batch; `uniform` (B, samples, max_new_tokens) are the numbers that decide each draw."""
        B, R, limit = uniform.shape
        prefilled = self.engine.prefill(prompts, R * limit)
        tokens: list[list[int]] = [[] for _ in range(B * R)]
        ended: list[Literal["end_token", "stop_sequence", "max_new_tokens"]] = ["max_new_tokens"] * (B * R)
        live = np.arange(B * R)  # samples, R of a prompt side by side
        states, state, parent = prefilled.states, live // R, np.full(B * R, ROOT)
        for step in range(limit):
            context = [prompts[i // R] + tokens[i] for i in live]
            rules = [samplings[i // R] for i in live]
            drawn = self._draw(states, state, context, rules, uniform.reshape(B * R, limit)[live, step])
            goes_on = np.ones(len(live), np.bool_)
            for n, (i, token) in enumerate(zip(live.tolist(), drawn.tolist(), strict=True)):
                if token == self.encoder.end_token:
                    ended[i] = "end_token"
                else:
                    tokens[i].append(token)
                    if self._stops(tokens[i], stops):
                        ended[i] = "stop_sequence"
                goes_on[n] = ended[i] == "max_new_tokens"
            live, parent, drawn = live[goes_on], parent[goes_on], drawn[goes_on]
            if step == limit - 1 or not len(live):
                break
            one = np.ones(len(live), np.int64)
            states, parent = prefilled.extend(Chains(live // R, parent, one, drawn, one > 0))
            state = np.arange(len(live))
        results = [Sample(self._text(t, stops), t, e) for t, e in zip(tokens, ended, strict=True)]
        return [results[p * R : (p + 1) * R] for p in range(B)]

    def _draw(
        self, states: Tensor, state: Ints, context: list[list[int]], rules: list[Sampling], uniform: Floats
    ) -> Ints:
        """The next token of each sample; `state` (ascending) is its row in `states`."""
        drawn = np.empty(len(state), np.int64)
        for start, logits in self.engine.logits(states, 0, self._texts):
            here = np.flatnonzero((state >= start) & (state < start + len(logits)))
            if len(here):
                rows = logits[torch.from_numpy(state[here] - start).to(logits.device)]
                for n, i in enumerate(here.tolist()):
                    penalise(rows[n], context[i], rules[i].repetition_penalty)
                drawn[here] = next_tokens(rows, [rules[i] for i in here], uniform[here])
        return drawn

    def _stops(self, tokens: list[int], stops: list[str]) -> bool:
        if not stops:
            return False
        # A token is at least a byte: only the newest tokens can complete a stop sequence.
        newest = self.encoder.tokenizer.decode(tokens[-max(len(stop.encode()) for stop in stops) :])
        return any(stop in newest for stop in stops)

    def _text(self, tokens: list[int], stops: list[str]) -> str:
        text = self.encoder.tokenizer.decode(tokens)
        return text[: min([text.find(stop) for stop in stops if stop in text], default=len(text))]


def penalise(logits: Tensor, seen: list[int], penalty: float) -> None:
    """Lower, in place, the logits (vocabulary,) of tokens that occurred (Keskar et al. 2019, as in Hugging Face)."""
    if penalty != 1.0:
        ids = torch.tensor(sorted({token for token in seen if token < len(logits)}), device=logits.device)
        before = logits[ids]
        logits[ids] = torch.where(before < 0, before * penalty, before / penalty)


def next_tokens(logits: Tensor, rules: Sequence[Sampling], uniform: Floats) -> Ints:
    """Draw one token a row: logits (n, vocabulary) float32, uniform (n,) in [0, 1) -> (n,).

    Every row is drawn for itself: of equal logits, rule and number the token is the same in any company.
    """
    drawn = np.empty(len(rules), np.int64)
    greedy = np.array([rule.temperature == 0 for rule in rules], np.bool_)
    if greedy.any():
        drawn[greedy] = logits[torch.from_numpy(greedy)].argmax(dim=1).cpu().numpy()
    temperature = torch.tensor([rule.temperature or 1.0 for rule in rules], device=logits.device)
    scaled = logits / temperature[:, None]
    vocabulary = logits.shape[1]
    top_k = np.array([rule.top_k if 0 < rule.top_k < vocabulary else 0 for rule in rules])
    top_p = np.array([rule.top_p for rule in rules])
    whole = ~greedy & (top_k == 0) & (top_p == 1)
    if whole.any():
        drawn[whole] = _from_all(scaled[torch.from_numpy(whole)].softmax(dim=1), uniform[whole])
    waiting = ~greedy & ~whole
    for width in (*SORTED, vocabulary):
        tried = waiting if width == vocabulary else waiting & ((top_k <= width) & ((top_k > 0) | (width > SORTED[0])))
        if tried.any():
            rows = np.flatnonzero(tried)
            token = _from_best(scaled[torch.from_numpy(rows)], top_k[rows], top_p[rows], uniform[rows], width)
            drawn[rows] = token
            waiting[rows[token >= 0]] = False
    return drawn


def _from_all(p: Tensor, uniform: Floats) -> Ints:
    """Draw from probabilities (n, vocabulary): first the block of tokens, then the token."""
    n, vocabulary = p.shape
    main = vocabulary // BLOCK * BLOCK
    sums = torch.cat([p[:, :main].view(n, -1, BLOCK).sum(dim=2), p[:, main:].sum(dim=1, keepdim=True)], dim=1)
    mass = sums.double().cumsum(dim=1).cpu().numpy()  # (n, blocks)
    aim = uniform * mass[:, -1]
    block = (mass <= aim[:, None]).sum(axis=1)
    block = np.minimum(block, (sums > 0).cpu().numpy().cumsum(axis=1).argmax(axis=1))  # rounding: no empty block
    before = np.where(block > 0, mass[np.arange(n), block - 1], 0.0)
    drawn = np.empty(n, np.int64)
    for row, first in enumerate((block * BLOCK).tolist()):
        inside = p[row, first : first + BLOCK].double().cumsum(dim=0).cpu().numpy()
        place = int((inside <= aim[row] - before[row]).sum())
        drawn[row] = first + min(place, int(inside.argmax()))
    return drawn


def _from_best(scaled: Tensor, top_k: Ints, top_p: Floats, uniform: Floats, width: int) -> Ints:
    """Draw after cutting off by rank and by mass; -1 where more than the `width` best tokens are wanted."""
    logp, token = scaled.log_softmax(dim=1).topk(min(width, scaled.shape[1]), dim=1)  # (n, width)
    p = logp.double().exp().cpu().numpy()
    rank = np.arange(p.shape[1])
    p[(top_k[:, None] > 0) & (rank >= top_k[:, None])] = 0
    total = np.where(top_k > 0, p.sum(axis=1), 1.0)
    mass = p.cumsum(axis=1)
    kept = (mass - p < top_p[:, None] * total[:, None]) & (p > 0)
    kept[:, 0] = True
    enough = (top_k > 0) | ~kept[:, -1] | (p.shape[1] == scaled.shape[1])
    last = kept.sum(axis=1) - 1
    aim = uniform * mass[np.arange(len(p)), last]
    place = np.minimum((mass <= aim[:, None]).sum(axis=1), last)
    return np.where(enough, token.cpu().numpy()[np.arange(len(p)), place], -1)


def _hash(prompt: str) -> int:
    return int.from_bytes(hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _uniform(stream: tuple[int, ...], count: int) -> Floats:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(stream))).random(count)
