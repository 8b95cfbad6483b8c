"""A customer's history as a prompt of exactly so many tokens, a title as an answer, a review as an input.

`lm.text.template` has the words. In item_tokens coding a purchase is `<|item:ID|>`, one token, the same marker
stands for the title in a review, and there is no cue: the state after the last purchase predicts the next. There
the purchases stand together at the end, after what was searched and written: a small model sees at once what follows
what, which it does not learn from the same tokens strewn among a hundred of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from lm.checkpoint.checkpoint import END_OF_TEXT, CheckpointError, context_tokens, load_tokenizer, read_json
from lm.checkpoint.manifest import Manifest, read_manifest
from lm.text.history_batch import HistoryBatch, Ints
from lm.text.line_encoder import LineEncoder
from lm.text.redact import redact
from lm.text.template import TEMPLATES, Event, clean, event_line, item_marker, product_text

__all__ = ["Event", "PromptEncoder", "RenderedPrompt"]

LINE_TOKENS = 96
"""Of one event, so that one long review does not push a whole history out."""
TITLE_TOKENS = 64
"""Of one title with its newline; longer ones are cut, and those that then are alike share an answer."""
CACHED_EVENTS = 200_000
EVENTS_AT_ONCE = 4


class RenderedPrompt(NamedTuple):
    """A prompt, its length in tokens, and how many of the newest events it holds and how many it lacks."""

    prompt: str
    tokens: int
    events_used: int
    events_dropped: int


class PromptColumns(NamedTuple):
    """C prompts, their lengths in tokens, and how many of the newest events they hold."""

    prompt: pa.StringArray
    tokens: Ints  # (C,)
    events_used: Ints  # (C,)


class PromptEncoder:
    """Renders histories and encodes prompts, answers and reviews for one model.

    `context_tokens` is the model's number of positions: no prompt is longer than that less the longest
    answer. Lines are cached, so an encoder is for one thread at a time.
    """

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest, *, context_tokens: int = 1024) -> None:
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.context_tokens = context_tokens
        self.template = TEMPLATES[manifest.language]
        coded = manifest.coding == "item_tokens"
        self.item_tokens: dict[str, int] = {}
        if coded:
            self.item_tokens = {item: manifest.first_item_token + i for i, item in enumerate(manifest.item_ids)}
        self._markers = {item: item_marker(item) for item in self.item_tokens}
        self._lines = LineEncoder(tokenizer, {self._markers[i]: token for i, token in self.item_tokens.items()})
        self._events: dict[Event, tuple[str, int]] = {}
        self.header = self.template.header
        self.cue = "" if coded else self.template.bought
        self._bought = self.template.bought + self.template.space
        self._cue_tokens = self._lines.count(self.template.bought)
        self.title_tokens = min(TITLE_TOKENS, context_tokens // 4)
        self.max_answer_tokens = 1 if coded else self.title_tokens
        self.max_prompt_tokens = context_tokens - self.max_answer_tokens
        self.smallest_budget = len(self.encode(self.header + self.cue))
        end = tokenizer.token_to_id(END_OF_TEXT)
        self.end_token: int = self._lines.encode_texts(["\n"])[0][-1] if end is None else end

    @classmethod
    def load(cls, path: Path, *, language: Literal["en", "zh"] | None = None) -> PromptEncoder:
        """The encoder of a model directory; `language` overrides the manifest's (a stock model has none).

        Raises CheckpointError when tokenizer and weights do not belong together.
        """
        manifest, tokenizer = read_manifest(path), load_tokenizer(path)
        tokens, rows = tokenizer.get_vocab_size(), read_json(path / "config.json").get("vocab_size", 0)
        if tokens > rows:
            raise CheckpointError(
                f"model {path}: its tokenizer has {tokens} tokens and its weights have {rows}: "
                "they belong to different models, copy the directory again"
            )
        if language is not None:
            manifest = manifest.model_copy(update={"language": language})
        return cls(tokenizer, manifest, context_tokens=context_tokens(path))

    def encode(self, prompt: str) -> list[int]:
        """The token ids of a prompt: those of its lines, one after the other."""
        return self._lines.encode([prompt])[0]

    def encode_many(self, prompts: Sequence[str]) -> list[list[int]]:
        """The token ids of each prompt; a line that several share is encoded once."""
        return self._lines.encode(prompts)

    def answer_tokens(self, title: str) -> list[int]:
        """What the model must generate for a title in titles coding: the title's tokens and a newline's.

        At most `title_tokens`: of a longer title the beginning.
        """
        return self.answers([title])[0]

    def answers(self, titles: Sequence[str]) -> list[list[int]]:
        """`answer_tokens` of many titles at once."""
        bought, space = self.template.bought, self.template.space
        limit = self._cue_tokens + self.title_tokens
        texts = [f"{space}{product_text(title, None)}\n" for title in titles]
        answers = self._lines.encode_texts(texts)
        for i, ids in enumerate(answers):
            if len(ids) > self.title_tokens:
                shortened = self._lines.shorten(bought + texts[i], limit)
                text = f"{space}\n" if shortened is None else shortened[len(bought) :]
                answers[i] = self._lines.encode_texts([text])[0]
        return answers

    def render(self, events: Sequence[Event], budget: int) -> RenderedPrompt:
        """The prompt of one history (oldest event first) in at most `budget` tokens."""
        return self.render_many([events], budget)[0]

    def render_many(self, histories: Sequence[Sequence[Event]], budget: int) -> list[RenderedPrompt]:
        """The prompt of each history, as `render_columns` makes it."""
        columns = self.render_columns(HistoryBatch.of_lists(histories, self._markers), budget)
        prompts, tokens, used = columns.prompt.to_pylist(), columns.tokens.tolist(), columns.events_used.tolist()
        rows = zip(prompts, tokens, used, map(len, histories), strict=True)
        return [RenderedPrompt(prompt, length, kept, events - kept) for prompt, length, kept, events in rows]

    def histories(self, events: pa.ListArray) -> HistoryBatch:
        """Customers' events in Arrow, list<struct> with Event's fields, for `render_columns`."""
        return HistoryBatch.of_arrow(events, self._markers)

    def render_columns(self, histories: HistoryBatch, budget: int) -> PromptColumns:
        """The prompt of each history: the header, the newest events that fit, the cue.

        An event that does not fit ends the walk into the past; only the newest is shortened instead. Purchases that
        are one token are taken first and stand last.
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
        lines, tokens = self._measure_newest(histories, room)
        kept, used = histories.fitting(tokens, room)
        code = histories.code.copy()
        for place, customer in histories.newest_that_do_not_fit(kept):
            if shortened := self._lines.shorten(lines[code[place]], room - int(used[customer])):
                kept[place], code[place] = True, len(lines)
                lines.append(shortened)
                used[customer] += self._lines.count(shortened)
        numbers = np.bincount(histories.customer()[kept], minlength=len(used))
        offsets = pa.array(np.concatenate([[0], np.cumsum(numbers)]), pa.int32())
        texts = pa.ListArray.from_arrays(offsets, pa.array(lines, pa.string()).take(pa.array(code[kept])))
        prompts = pc.binary_join_element_wise(self.header, pc.binary_join(texts, ""), self.cue, "")
        return PromptColumns(prompts, self.smallest_budget + used, numbers)

    def _measure_newest(self, histories: HistoryBatch, room: int) -> tuple[list[str], Ints]:
        """Lines and tokens of the different events (U,), a few of every history at a time, and of each no more than
        it has room for: the rest have -1 tokens.
        """
        lines, tokens = [""] * len(histories.is_coded), np.full(len(histories.is_coded), -1)
        length = np.diff(histories.offset)
        spent = np.zeros(len(length), np.int64)
        growing, reach = np.flatnonzero(length), 0
        while len(growing):
            code, owner = histories.newest(growing, reach, EVENTS_AT_ONCE)
            new = np.unique(code[tokens[code] < 0])
            events = histories.events(new)
            self._measure(dict.fromkeys(event for event in events if event not in self._events))
            for place, event in zip(new.tolist(), events, strict=True):
                lines[place], tokens[place] = self._events[event]
            spent[growing] += np.bincount(owner, tokens[code], len(growing)).astype(np.int64)
            reach += EVENTS_AT_ONCE
            growing = growing[(spent[growing] <= room) & (length[growing] > reach)]
        return lines, tokens

    def _measure(self, events: Iterable[Event]) -> None:
        """Write the lines of new events and count their tokens, most of them in one batch."""
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
        """What spells the event's product, if it is not spelled by its own token."""
        return "" if event.kind == "searched" or event.item_id in self._markers else product_text(event.title, event.item_id)

    def _may_be_long(self, title: str) -> bool:
        return len(title.encode()) + 2 > self.title_tokens  # a token is at least a byte, and one is the newline's

    def _line(self, event: Event, title: str) -> str:
        if self._may_be_long(title):
            line, limit = f"{self._bought}{title}\n", self._cue_tokens + self.title_tokens
            if self._lines.count(line) > limit:
                title = (self._lines.shorten(line, limit) or f"{self._bought}\n")[len(self._bought) : -1]
        marker = None if event.item_id is None else self._markers.get(event.item_id)
        return event_line(self.template, event, title, marker)

    def encode_review(self, text: str, max_tokens: int) -> tuple[list[int], bool]:
        """The token ids of a review for the classifier, and whether it was shortened."""
        return self.encode_reviews([text], max_tokens)[0]

    def encode_reviews(self, texts: Sequence[str], max_tokens: int) -> list[tuple[list[int], bool]]:
        """Of each review its redacted text's tokens and an end token: at least one, at most `max_tokens`.

        Of a longer one the head and the tail are kept: verdicts stand at the beginning or at the end.
        """
        room = min(max_tokens, self.context_tokens) - 1
        if room < 0:
            raise ValueError("max_tokens must be at least 1")
        window = 8 * (room + 1)  # characters: a megabyte of review costs what its two ends cost
        ends: list[str] = []
        for text in texts:
            if len(text) <= 2 * window:
                ends += [clean(redact(text)), ""]
            else:  # the tail begins where no half of a number or an address can stand
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
            reviews.append(([*head, self.end_token], shortened))
        return reviews
