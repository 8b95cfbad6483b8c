"""Writes answers to customers' questions: samples each prompt several times and keeps the best grounded sample.

Decoding can only copy facts: digits, names inside a sentence and the slots of other prompts have probability 0. Each
sample is checked again as text (lm.answers.answer_check). Samples are ranked by their agreement, which is minimum Bayes
risk decoding (Kumar & Byrne, NAACL 2004), and by the share of their words that the prompt has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm.answers import answer_prompt
from lm.answers.answer_check import unsupported
from lm.answers.answer_overlap import agreements, bigrams, covered_share, overlap_words, repeats_itself, without_repeats
from lm.answers.fact_slots import JOIN, Slots, SlotTokenizer
from lm.answers.grounding import is_chinese
from lm.answers.model_file import read_settings
from lm.answers.quantities import NUMBER_WORDS
from lm.engine.sampling import Sample, Sampler, Sampling, seed_from_prompt

_CAPITAL = re.compile("[A-Z]")
_LATIN = re.compile("[A-Za-z]")
#: First bytes of Chinese characters in UTF-8, in GPT-2's byte alphabet.
_CJK_BYTES = re.compile("[\u00e3-\u00ef]")
_SENTENCE_END = re.compile(r".*[.!?。！？](?=\s|$|[”\"')])|.*[。！？]", re.DOTALL)
#: No answer repeats a run of so many tokens: small models fall into loops.
REPEAT = 6
#: Positions of the next token; each forbids other tokens.
INSIDE, OPENING, AFTER_FACT, AFTER_STEP, CHINESE = range(5)
#: Marks a token that does not change the position, such as a quotation mark.
KEEPS = -1


class WrittenAnswer(NamedTuple):
    """The best grounded answer (None where no sample is grounded), its score, and the number of grounded texts."""

    text: str | None
    score: float
    grounded: int


class GroundedConstraint:
    """The constraint of a batch of prompts for lm.engine.sampling: an answer states only facts of its prompt."""

    def __init__(self, vocabulary: Vocabulary, prompts: Sequence[tuple[str, Slots]]) -> None:
        self.vocabulary = vocabulary
        has = np.zeros((len(prompts), len(vocabulary.slot_ids)), np.bool_)
        for row, (_, slots) in enumerate(prompts):
            own = [token for token in slots.texts if slots.is_supported(token)]
            has[row, [vocabulary.slot_column[token] for token in own]] = True
        has[:, vocabulary.slot_column[JOIN]] = has.any(axis=1)
        self.slots = torch.from_numpy(np.where(has, np.float32(0), np.float32(-np.inf)))
        # The article decides the language: a customer of an English shop may have bought a Chinese title.
        self.chinese = [is_chinese(answer_prompt.article_of(prompt)) for prompt, _ in prompts]

    def __call__(self, logits: Tensor, prompt: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Set the logits (n, V) of forbidden tokens to -inf, in place, for samples with these `tokens` so far."""
        known = self.vocabulary
        position = [CHINESE if self.chinese[p] else known.position(own) for p, own in zip(prompt, tokens, strict=True)]
        logits += known.forbidden[position, : logits.shape[1]].to(logits.device)
        logits[:, known.slot_ids] += self.slots[list(prompt)].to(logits.device)
        for row, written in enumerate(tokens):
            for token in repeated_run_ends(written):
                logits[row, token] = -torch.inf


class Vocabulary:
    """The tokens that an answer may use at each position."""

    def __init__(self, tokenizer: SlotTokenizer, size: int, end_token: int) -> None:
        self.slot_column = {token: column for column, token in enumerate(tokenizer.ids)}
        self.slot_ids = torch.tensor(list(tokenizer.ids.values()))
        forbidden = np.zeros((5, size), np.bool_)
        self._after = np.full(size, INSIDE, np.int8)
        for number in range(size):
            text = tokenizer.tokenizer.id_to_token(number)
            if number == end_token or number in tokenizer.names:
                self._after[number] = _after_slot(tokenizer.names.get(number))
                continue
            if text is None:  # a row that only pads the vocabulary
                forbidden[:, number] = True
                continue
            forbidden[:, number] = _never(text)
            forbidden[[INSIDE, AFTER_FACT], number] |= text != "ĠI" and _CAPITAL.search(text) is not None
            forbidden[[OPENING, AFTER_STEP], number] |= len(_CAPITAL.findall(text)) > 1
            # "2" and "nd" would make "2nd", another number.
            forbidden[[AFTER_FACT, AFTER_STEP], number] |= _LATIN.match(text) is not None
            forbidden[:CHINESE, number] |= _CJK_BYTES.search(text) is not None
            forbidden[CHINESE, number] |= _LATIN.search(text) is not None
            self._after[number] = _after(text)
        self.forbidden = torch.from_numpy(np.where(forbidden, np.float32(-np.inf), np.float32(0)))

    def position(self, written: Sequence[int]) -> int:
        """The position of the token after these."""
        for token in reversed(written):
            after = int(self._after[token])
            if after != KEEPS:
                return after
        return OPENING


def _never(text: str) -> bool:
    """Whether a token states a fact outside a slot: a digit, a spelled number, or a placeholder's bracket."""
    word = text.removeprefix("Ġ").lower()
    return any(character in "0123456789{}[]" for character in text) or word in NUMBER_WORDS


def _after(text: str) -> int:
    """The position after a token of text, or KEEPS."""
    bare = text.rstrip("Ġ\"'(*-")
    if not bare:
        return KEEPS
    return OPENING if bare[-1] in ".!?:Ċ" else INSIDE


def _after_slot(token: str | None) -> int:
    if token == JOIN:
        return KEEPS
    return AFTER_STEP if token is not None and token.startswith("<|s:") else AFTER_FACT


def repeated_run_ends(written: Sequence[int]) -> list[int]:
    """The tokens that would complete a run of REPEAT tokens a second time (Paulus et al., ICLR 2018)."""
    if len(written) < REPEAT:
        return []
    before, last = REPEAT - 1, written[-1]
    newest = list(written[-before:])
    return [
        written[i + 1]
        for i in range(before - 1, len(written) - 1)
        if written[i] == last and list(written[i + 1 - before : i + 1]) == newest
    ]


class AnswerWriter:
    """Writes answers with one model. Not thread-safe."""

    def __init__(self, sampler: Sampler, words: Collection[str]) -> None:
        self.sampler = sampler
        self.words = frozenset(words)
        self.tokenizer = SlotTokenizer(sampler.encoder.tokenizer)
        self.vocabulary = Vocabulary(self.tokenizer, sampler.engine.vocabulary, sampler.encoder.end_token)

    @classmethod
    def load(
        cls, model_dir: Path | str, *, dtype: str = "auto", threads: int | None = None, device: str = "auto"
    ) -> AnswerWriter:
        """Open a folder that `regulars train --task answers` wrote. Raises CheckpointError for any other folder."""
        path = Path(model_dir)
        return cls(Sampler.load(path, dtype=dtype, threads=threads, device=device), read_settings(path).words)

    def write(
        self,
        prompts: Sequence[str],
        *,
        candidates: int,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        support: float = 0.5,
        seed: int = 0,
    ) -> list[WrittenAnswer]:
        """The best of `candidates` samples of each prompt. Equal prompts get equal answers.

        `support` is the weight of the share of an answer's words that the prompt has; agreement has the weight 1.
        """
        encoded, sampled = self.sample(
            prompts,
            candidates=candidates,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        return [
            self.best(prompt, slots, samples, support)
            for prompt, (_, slots), samples in zip(prompts, encoded, sampled, strict=True)
        ]

    def sample(
        self,
        prompts: Sequence[str],
        *,
        candidates: int,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int = 0,
        constrained: bool = True,
    ) -> tuple[list[tuple[list[int], Slots]], list[list[Sample]]]:
        """The (token ids, slots) of each prompt, and its samples. Unconstrained samples are for comparisons only."""
        encoded = answer_prompt.encode_many(prompts, self.tokenizer)
        with_slots = [(prompt, slots) for prompt, (_, slots) in zip(prompts, encoded, strict=True)]
        constraint = GroundedConstraint(self.vocabulary, with_slots)
        sampled = self.sampler.sample(
            [ids for ids, _ in encoded],
            Sampling(temperature=temperature, top_p=top_p),
            max_new_tokens=max_new_tokens,
            num_return_sequences=candidates,
            seed=seed,
            row_seeds=[seed_from_prompt(prompt) for prompt in prompts],
            constrain=constraint if constrained else None,
        )
        return encoded, sampled

    def text(self, sample: Sample, slots: Slots) -> str:
        """The text of a sample without repeated sentences; only whole sentences of a sample that was cut off."""
        text = self.tokenizer.decode(sample.tokens, slots).strip()
        if sample.ended == "max_new_tokens":
            whole = _SENTENCE_END.match(text)
            text = whole[0] if whole else ""
        return without_repeats(text)

    def best(self, prompt: str, slots: Slots, samples: Sequence[Sample], support: float) -> WrittenAnswer:
        """The grounded sample with the highest score; the first of equals.

        A sample that repeats itself is taken only where all do.
        """
        counts = Counter(self.text(sample, slots) for sample in samples)
        grounded = [text for text in counts if text and not unsupported(text, prompt, self.words)]
        if not grounded:
            return WrittenAnswer(None, 0.0, 0)
        agreement = agreements([bigrams(text) for text in grounded], [counts[text] for text in grounded])
        stated = set(overlap_words(prompt))
        supported = np.array([covered_share(overlap_words(text), stated) for text in grounded])
        scores = agreement + support * supported
        looping = np.array([repeats_itself(text) for text in grounded])
        if not looping.all():
            scores[looping] = -np.inf
        first = int(scores.argmax())
        return WrittenAnswer(grounded[first], float(scores[first]), len(grounded))
