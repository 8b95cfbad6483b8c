"""Answers to customers' questions: several samples of each prompt, none with a fact of its own, the best one kept.

Decoding can only copy facts: digits, names inside a sentence and the slots of other prompts have probability 0. What
comes out is checked again as text (lm.answers.grounding), and ranked by what the samples of a prompt agree on, which is
minimum Bayes risk decoding (Kumar & Byrne, NAACL 2004), and by how much of it the article supports.
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
from lm.answers.answer_overlap import agreements, bigrams, once, says_twice, share, words_of
from lm.answers.fact_slots import JOIN, Slots, SlotTokenizer
from lm.answers.grounding import SPELLED_NUMBERS, is_chinese, ungrounded
from lm.answers.model_file import read_settings
from lm.engine.sampling import Sample, Sampler, Sampling, seed_from_prompt
from lm.text.redact import PLACEHOLDERS

_CAPITAL = re.compile("[A-Z]")
_LATIN = re.compile("[A-Za-z]")
#: Of GPT-2's byte alphabet: the first bytes of Chinese characters in UTF-8.
_CJK_BYTES = re.compile("[\u00e3-\u00ef]")
_SENTENCE_END = re.compile(r".*[.!?。！？](?=\s|$|[”\"')])|.*[。！？]", re.DOTALL)
#: No answer says the same so many tokens twice: small models run in circles.
REPEAT = 6
#: Where the next token stands; each place forbids other tokens.
INSIDE, OPENING, AFTER_FACT, AFTER_STEP, CHINESE = range(5)
#: A token that changes nothing about that, such as a quotation mark.
KEEPS = -1


class Written(NamedTuple):
    """The best grounded answer, None where no sample is grounded; what it scored, and how many samples were."""

    text: str | None
    score: float
    grounded: int


class Grounded:
    """The constraint of a batch of prompts, as lm.engine.sampling wants it: only what a prompt states can be stated."""

    def __init__(self, vocabulary: Vocabulary, prompts: Sequence[tuple[str, Slots]]) -> None:
        self.vocabulary = vocabulary
        has = np.zeros((len(prompts), len(vocabulary.slot_ids)), np.bool_)
        for row, (_, slots) in enumerate(prompts):
            own = [token for token, text in slots.texts.items() if text not in PLACEHOLDERS]
            has[row, [vocabulary.slot_column[token] for token in own]] = True
        has[:, vocabulary.slot_column[JOIN]] = has.any(axis=1)
        self.slots = torch.from_numpy(np.where(has, np.float32(0), np.float32(-np.inf)))
        # A customer of an English shop may have bought what has a Chinese title.
        self.chinese = [is_chinese(answer_prompt.article_of(prompt)) for prompt, _ in prompts]

    def __call__(self, logits: Tensor, prompt: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Forbid, in place: logits (n, V), of samples of these prompts with these tokens so far."""
        known = self.vocabulary
        rule = [CHINESE if self.chinese[p] else known.place(written) for p, written in zip(prompt, tokens, strict=True)]
        logits += known.forbidden[rule, : logits.shape[1]].to(logits.device)
        logits[:, known.slot_ids] += self.slots[list(prompt)].to(logits.device)
        for row, written in enumerate(tokens):
            for token in repeats(written):
                logits[row, token] = -torch.inf


class Vocabulary:
    """What each token of a tokenizer may be used for in an answer."""

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
            if text is None:  # rows that only pad the vocabulary
                forbidden[:, number] = True
                continue
            forbidden[:, number] = _never(text)
            forbidden[[INSIDE, AFTER_FACT], number] |= text != "ĠI" and _CAPITAL.search(text) is not None
            forbidden[[OPENING, AFTER_STEP], number] |= len(_CAPITAL.findall(text)) > 1
            # "2" and "nd" would make another number.
            forbidden[[AFTER_FACT, AFTER_STEP], number] |= _LATIN.match(text) is not None
            forbidden[:CHINESE, number] |= _CJK_BYTES.search(text) is not None
            forbidden[CHINESE, number] |= _LATIN.search(text) is not None
            self._after[number] = _after(text)
        self.forbidden = torch.from_numpy(np.where(forbidden, np.float32(-np.inf), np.float32(0)))

    def place(self, written: Sequence[int]) -> int:
        """Where the token after these stands."""
        for token in reversed(written):
            after = int(self._after[token])
            if after != KEEPS:
                return after
        return OPENING


def _never(text: str) -> bool:
    """Whether a token can only state what a slot should: digits, spelled numbers, placeholders' brackets."""
    word = text.removeprefix("Ġ").lower()
    return any(character in "0123456789{}[]" for character in text) or word in SPELLED_NUMBERS


def _after(text: str) -> int:
    """Where the token after one of text stands."""
    bare = text.rstrip("Ġ\"'(*-")
    if not bare:
        return KEEPS
    return OPENING if bare[-1] in ".!?:Ċ" else INSIDE


def _after_slot(token: str | None) -> int:
    if token == JOIN:
        return KEEPS
    return AFTER_STEP if token is not None and token.startswith("<|s:") else AFTER_FACT


def repeats(written: Sequence[int]) -> list[int]:
    """The tokens that would end a run of REPEAT tokens that was written before (Paulus et al., ICLR 2018)."""
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
    """Writes answers by one model; for one thread at a time."""

    def __init__(self, sampler: Sampler, words: Collection[str]) -> None:
        self.sampler = sampler
        self.words = frozenset(words)
        self.tokenizer = SlotTokenizer(sampler.encoder.tokenizer)
        self.vocabulary = Vocabulary(self.tokenizer, sampler.engine.vocabulary, sampler.encoder.end_token)

    @classmethod
    def load(cls, model_dir: Path | str, *, dtype: str = "auto", threads: int | None = None) -> AnswerWriter:
        """Open a folder that `regulars train --task answers` wrote; CheckpointError where it is none."""
        path = Path(model_dir)
        return cls(Sampler.load(path, dtype=dtype, threads=threads), read_settings(path).words)

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
    ) -> list[Written]:
        """The best of `candidates` samples of each prompt; equal prompts get equal answers.

        `support` weighs the share of an answer's words that the prompt has against the samples' agreement.
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
        """Each prompt's tokens and slots, and its samples; unconstrained ones only to show what they would state."""
        encoded = answer_prompt.encode_many(prompts, self.tokenizer)
        bound = Grounded(self.vocabulary, [(p, slots) for p, (_, slots) in zip(prompts, encoded, strict=True)])
        sampled = self.sampler.sample(
            [ids for ids, _ in encoded],
            Sampling(temperature=temperature, top_p=top_p),
            max_new_tokens=max_new_tokens,
            num_return_sequences=candidates,
            seed=seed,
            row_seeds=[seed_from_prompt(prompt) for prompt in prompts],
            constrain=bound if constrained else None,
        )
        return encoded, sampled

    def text(self, sample: Sample, slots: Slots) -> str:
        """A sample's text, no sentence twice; of one that had no room to end, its whole sentences."""
        text = self.tokenizer.decode(sample.tokens, slots).strip()
        if sample.ended == "max_new_tokens":
            whole = _SENTENCE_END.match(text)
            text = whole[0] if whole else ""
        return once(text)

    def best(self, prompt: str, slots: Slots, samples: Sequence[Sample], support: float) -> Written:
        """The sample that is grounded and scores highest; of equals the first.

        One that says something twice is taken only where all do.
        """
        counts = Counter(self.text(sample, slots) for sample in samples)
        grounded = [text for text in counts if text and not ungrounded(text, prompt, self.words)]
        if not grounded:
            return Written(None, 0.0, 0)
        agreement = agreements([bigrams(text) for text in grounded], [counts[text] for text in grounded])
        stated = set(words_of(prompt))
        supported = np.array([share(words_of(text), stated) for text in grounded])
        scores = agreement + support * supported
        circling = np.array([says_twice(text) for text in grounded])
        if not circling.all():
            scores[circling] = -np.inf
        first = int(scores.argmax())
        return Written(grounded[first], float(scores[first]), len(grounded))
