"""Renders histories as prompts within a token budget, and encodes prompts, titles and reviews.

The wording is in `lm.text.template`. With coding item_tokens a purchase is the one token `<|item:ID|>`, which also
replaces the title in a review. There is no cue, because the state after the last purchase predicts the next one.
Purchases come last, after searches and reviews: small models learn sequences better from adjacent item tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from lm.checkpoint.checkpoint import (
    END_OF_TEXT,
    CheckpointError,
    context_tokens,
    load_tokenizer,
    read_config,
    special_tokens,
)
from lm.checkpoint.item_ids import item_tokens
from lm.checkpoint.manifest import Manifest, read_manifest
from lm.redaction.redact import redact
from lm.text.history_batch import HistoryBatch, Ints
from lm.text.line_encoder import LineEncoder
from lm.text.template import LABEL, TEMPLATES, Event, clean, event_line, item_marker, product_text

__all__ = ["Event", "PromptEncoder", "RenderedPrompt"]

LINE_TOKENS = 96
"""The most tokens of one event, so that one long review does not displace a whole history."""
TITLE_TOKENS = 64
"""The most tokens of a title with its newline; longer titles are cut, and equal cut titles share an answer."""
BROWSING_PART = 8
"""Browsing takes at most this part of a prompt's budget: 32 of 256 tokens, about ten products with item tokens."""
CACHED_EVENTS = 200_000
EVENTS_AT_ONCE = 4


class RenderedPrompt(NamedTuple):
    """A prompt, its length in tokens, and the numbers of events that it contains and leaves out."""

    prompt: str
    tokens: int
    events_used: int
    events_dropped: int


class PromptColumns(NamedTuple):
    """C prompts, their lengths in tokens, and the events that they contain."""

    prompt: pa.StringArray
    tokens: Ints  # (C,)
    events_used: Ints  # (C,) number of events
    source: Ints  # place of each of these events in the histories, prompt by prompt, line by line
    code: Ints  # code of each of them


class PromptEncoder:
    """Renders histories and encodes prompts, answers and reviews for one model.

    `context_tokens` is the model's number of positions; a prompt leaves room in it for the longest answer.
    `prefix` and `suffix` are the special tokens that the tokenizer adds before and after a text: Llama's and Gemma's
    BOS is a prefix. Lines are cached, so an encoder must not be shared between threads.
    """

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest, *, context_tokens: int = 1024) -> None:
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.context_tokens = context_tokens
        self.template = TEMPLATES[manifest.language]
        coded = manifest.coding == "item_tokens"
        self.item_tokens = item_tokens(manifest.item_ids if coded else [], manifest.first_item_token)
        self._lines = LineEncoder(tokenizer, self.item_tokens)
        self.prefix, self.suffix = special_tokens(tokenizer)
        self._events: dict[Event, tuple[str, int]] = {}
        self.reads_browsing = manifest.reads_browsing
        self.header = self.template.header
        self.cue = "" if coded else self.template.bought
        self._bought = self.template.bought + self.template.space
        self.bought_tokens = self._lines.encode_continuations([self.template.bought])[0]
        self._cue_tokens = len(self.bought_tokens)
        self.title_tokens = min(TITLE_TOKENS, context_tokens // 4)
        self.max_answer_tokens = 1 if coded else self.title_tokens
        self.max_prompt_tokens = context_tokens - self.max_answer_tokens
        self.smallest_budget = len(self.encode(self.header + self.cue))
        end = tokenizer.token_to_id(END_OF_TEXT)
        self.end_token: int = self._lines.encode_texts(["\n"])[0][-1] if end is None else end

    @classmethod
    def load(cls, path: Path, *, language: Literal["en", "zh"] | None = None) -> PromptEncoder:
        """The encoder of a model directory; `language` overrides the manifest's.

        Raises CheckpointError when the tokenizer has more tokens than the weights, or a file is missing or broken.
        """
        manifest, tokenizer = read_manifest(path), load_tokenizer(path)
        tokens, rows = tokenizer.get_vocab_size(), read_config(path).get("vocab_size", 0)
        if tokens > rows:
            raise CheckpointError(
                f"model {path}: its tokenizer has {tokens} tokens and its weights have {rows}: "
                "they belong to different models, copy the directory again"
            )
        if language is not None:
            manifest = manifest.model_copy(update={"language": language})
        return cls(tokenizer, manifest, context_tokens=context_tokens(path))

    def encode(self, prompt: str) -> list[int]:
        """The token ids of a prompt: `prefix` and those of its lines."""
        return self.encode_many([prompt])[0]

    def encode_many(self, prompts: Sequence[str]) -> list[list[int]]:
        """The token ids of each prompt; a line that several prompts share is encoded once."""
        return [[*self.prefix, *itertools.chain.from_iterable(lines)] for lines in self._lines.encode(prompts)]

    def encode_lines(self, prompt: str) -> list[list[int]]:
        """The token ids of a prompt, line by line; `prefix` belongs to the first line."""
        lines = [list(line) for line in self._lines.encode([prompt])[0]]
        lines[:1] = [self.prefix + first for first in lines[:1]]
        return lines

    def newest_tokens(self, ids: Sequence[int], limit: int) -> list[int]:
        """The last `limit` tokens of an encoded prompt, its `prefix` among them; the end token for an empty prompt."""
        ids = list(ids)
        if len(ids) > limit:
            prefix = self.prefix if ids[: len(self.prefix)] == self.prefix else []
            ids = prefix + ids[len(ids) - limit + len(prefix) :]
        return ids or [self.end_token]

    def answer_tokens(self, title: str) -> list[int]:
        """The tokens to generate for a title with coding titles: the title's and a newline's.

        A title of more than `title_tokens` is cut.
        """
        return self.answers([title])[0]

    def answers(self, titles: Sequence[str]) -> list[list[int]]:
        """`answer_tokens` of many titles at once."""
        bought, space = self.template.bought, self.template.space
        limit = self._cue_tokens + self.title_tokens
        texts = [f"{space}{product_text(title, None)}\n" for title in titles]
        answers = self._lines.encode_continuations(texts)
        for i, ids in enumerate(answers):
            if len(ids) > self.title_tokens:
                shortened = self._lines.shorten(bought + texts[i], limit)
                text = f"{space}\n" if shortened is None else shortened[len(bought) :]
                answers[i] = self._lines.encode_continuations([text])[0]
        return answers

    def render(self, events: Sequence[Event], budget: int) -> RenderedPrompt:
        """Render one history (oldest event first) in at most `budget` tokens."""
        return self.render_many([events], budget)[0]

    def render_many(self, histories: Sequence[Sequence[Event]], budget: int) -> list[RenderedPrompt]:
        """Render each history, as `render_columns`."""
        columns = self.render_columns(HistoryBatch.of_lists(histories, self.item_tokens), budget)
        prompts, tokens, used = columns.prompt.to_pylist(), columns.tokens.tolist(), columns.events_used.tolist()
        rows = zip(prompts, tokens, used, map(len, histories), strict=True)
        return [RenderedPrompt(prompt, length, kept, events - kept) for prompt, length, kept, events in rows]

    def histories(self, events: pa.ListArray) -> HistoryBatch:
        """Prepare customers' events in Arrow, list<struct> with Event's fields, for `render_columns`."""
        return HistoryBatch.of_arrow(events, self.item_tokens)

    def render_columns(self, histories: HistoryBatch, budget: int) -> PromptColumns:
        """Render each history as the header, the newest events that fit, and the cue.

        The first event that does not fit ends the selection; only the newest one is shortened instead. Purchases with
        an item token are selected first and come last. Browsing is selected within a budget of its own; a model that
        was trained without it reads none.
        Raises ValueError when header and cue alone are longer than `budget`.
        """
        limit = min(budget, self.max_prompt_tokens)
        room = limit - self.smallest_budget
        if room < 0:
            raise ValueError(
                f"{limit} tokens cannot hold a prompt's header and cue: allow at least {self.smallest_budget}"
            )
        if len(self._events) > CACHED_EVENTS:
            self._events.clear()
        if not self.reads_browsing:
            histories = histories.without_browsing()
        lines, tokens = self._measure_newest(histories, room)
        rooms = np.full(len(histories.offset) - 1, room)
        browsed, browsing_tokens = histories.newest_within(tokens, rooms // BROWSING_PART, browsing=True)
        kept, used = histories.newest_within(tokens, rooms - browsing_tokens, browsing=False)
        kept, used = kept | browsed, used + browsing_tokens
        code = histories.code.copy()
        for event, customer in histories.newest_too_long(kept):
            if shortened := self._lines.shorten(lines[code[event]], room - int(used[customer])):
                kept[event], code[event] = True, len(lines)
                lines.append(shortened)
                used[customer] += self._lines.count(shortened)
        numbers = np.bincount(histories.customer()[kept], minlength=len(used))
        offsets = pa.array(np.concatenate([[0], np.cumsum(numbers)]), pa.int32())
        texts = pa.ListArray.from_arrays(offsets, pa.array(lines, pa.string()).take(pa.array(code[kept])))
        prompts = pc.binary_join_element_wise(self.header, pc.binary_join(texts, ""), self.cue, "")
        return PromptColumns(
            prompts, self.smallest_budget + used, numbers, histories.source[kept], histories.code[kept]
        )

    def shown(self, histories: HistoryBatch, code: Ints) -> pa.StringArray:
        """What a prompt says of events, without the label and with titles for item tokens."""
        codes, owner = np.unique(code, return_inverse=True)
        texts = pa.array(map(self._shown, histories.events(codes)), pa.string())
        return texts.take(pa.array(owner))

    def _shown(self, event: Event) -> str:
        title = product_text(event.title, event.item_id)
        line = event_line(self.template, event, title, None).rstrip("\n")
        return line[len(label[0]) if (label := LABEL.match(line)) else 0 :].strip()

    def _measure_newest(self, histories: HistoryBatch, room: int) -> tuple[list[str], Ints]:
        """The lines and lengths of the distinct events (U,), measured from the newest on until a history is full.

        Events that are too old to fit into any history are not measured and have the length -1.
        """
        lines, tokens = [""] * len(histories.is_coded), np.full(len(histories.is_coded), -1)
        length = np.diff(histories.offset)
        spent = np.zeros(len(length), np.int64)
        unfilled, measured = np.flatnonzero(length), 0  # customers with room, newest events measured so far
        while len(unfilled):
            code, owner = histories.newest(unfilled, measured, EVENTS_AT_ONCE)
            new = np.unique(code[tokens[code] < 0])
            events = histories.events(new)
            self._measure(dict.fromkeys(event for event in events if event not in self._events))
            for place, event in zip(new.tolist(), events, strict=True):
                lines[place], tokens[place] = self._events[event]
            counted = np.where(histories.is_browsing[code], 0, tokens[code])  # browsing has a budget of its own
            spent[unfilled] += np.bincount(owner, counted, len(unfilled)).astype(np.int64)
            measured += EVENTS_AT_ONCE
            unfilled = unfilled[(spent[unfilled] <= room) & (length[unfilled] > measured)]
        return lines, tokens

    def _measure(self, events: Iterable[Event]) -> None:
        """Write the lines of new events and count their tokens, in one batch where possible."""
        titles = {event: self._title(event) for event in events}
        self._lines.cache(f"{self._bought}{title}\n" for title in titles.values() if self._may_be_long(title))
        drafts = {event: self._line(event, title) for event, title in titles.items()}
        self._lines.cache(drafts.values())
        for event, line in drafts.items():
            tokens = self._lines.count(line)
            if tokens > LINE_TOKENS:
                line = self._lines.shorten(line, LINE_TOKENS) or line
                tokens = self._lines.count(line)
            self._events[event] = line, tokens

    def _title(self, event: Event) -> str:
        """The text of the event's product; empty for a search and for a product with an item token."""
        return (
            ""
            if event.kind == "searched" or event.item_id in self.item_tokens
            else product_text(event.title, event.item_id)
        )

    def _may_be_long(self, title: str) -> bool:
        return len(title.encode()) + 2 > self.title_tokens  # a token is at least one byte, and the newline needs one

    def _line(self, event: Event, title: str) -> str:
        if self._may_be_long(title):
            line, limit = f"{self._bought}{title}\n", self._cue_tokens + self.title_tokens
            if self._lines.count(line) > limit:
                title = (self._lines.shorten(line, limit) or f"{self._bought}\n")[len(self._bought) : -1]
        item = event.item_id
        marker = item_marker(item) if item is not None and item in self.item_tokens else None
        return event_line(self.template, event, title, marker)

    def encode_reviews(self, texts: Sequence[str], max_tokens: int) -> list[tuple[list[int], bool]]:
        """The token ids of each review for the classifier, and whether it was shortened.

        They are those of the redacted text between `prefix` and `suffix`, or an end token where the tokenizer adds
        neither; at most `max_tokens`. A longer review keeps its head and its tail, because a verdict stands at the
        beginning or at the end. Raises ValueError for a `max_tokens` that leaves no room for the special tokens.
        """
        suffix = self.suffix if self.prefix or self.suffix else [self.end_token]
        special = len(self.prefix) + len(suffix)
        room = min(max_tokens, self.context_tokens) - special
        if room < 0:
            raise ValueError(f"max_tokens must be at least {special}")
        window = 8 * (room + 1)  # characters at each end; the middle of a huge review is never read
        ends: list[str] = []
        for text in texts:
            if len(text) <= 2 * window:
                ends += [clean(redact(text)), ""]
            else:  # redacting 256 characters more leaves no half of a number or an address in the tail
                ends += [clean(redact(text, limit=window)), clean(redact(text[-window - 256 :])[256:])]
        encoded = self._lines.encode_texts(ends)
        reviews = []
        for text, head, tail in zip(texts, encoded[::2], encoded[1::2], strict=True):
            whole = len(text) <= 2 * window
            shortened = not whole or len(head) > room
            if shortened:
                last = head if whole else tail
                kept = min(room // 2, len(last))
                head = head[: room - kept] + last[len(last) - kept :]
            reviews.append(([*self.prefix, *head, *suffix], shortened))
        return reviews
