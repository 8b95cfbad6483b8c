"""Encodes prompts line by line, so that a line's tokens do not depend on its neighbours and can be cached.

The title after a purchase's label is encoded separately, so that it has the same tokens in a history as in an answer.
An item marker is one token; a line that holds nothing else has no token for its newline.

SentencePiece tokenizers put a space before a text. Every line but a prompt's first is therefore encoded after a
newline, whose tokens are dropped, so that the prompt has the tokens that the tokenizer gives it as a whole. The one
exception is a tokenizer that joins a Chinese colon with the title after it, as Llama 3's does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer

from lm.text.template import CUES, LABEL, MARKER, item_of_marker

CACHE_TOKENS = 4_000_000
"""Tokens of the cached lines: 16 MB besides their text, enough for most of a shop's titles."""
CACHED_FIRST_LINES = 1000
_PROBES = ("Bought", " a", "购")


class LineEncoder:
    """Encodes prompts line by line with a cache; `item_tokens` are the tokens of products, by item id."""

    def __init__(self, tokenizer: Tokenizer, item_tokens: Mapping[str, int]) -> None:
        self.tokenizer = tokenizer
        self._item_tokens = item_tokens
        self._cached: dict[str, array[int]] = {}
        self._cached_tokens = 0
        self._marks_starts = _marks_starts(tokenizer)
        self._first_lines: dict[str, list[int]] = {}

    def encode(self, prompts: Sequence[str]) -> list[list[Sequence[int]]]:
        """The token ids of each line of each prompt, without the special tokens that begin a text."""
        split = [_lines(prompt) for prompt in prompts]
        self.cache(line for lines in split for line in lines)
        encoded: list[list[Sequence[int]]] = [[self._cached[line] for line in lines] for lines in split]
        if self._marks_starts:
            for lines, ids in zip(split, encoded, strict=True):
                ids[:1] = [self._first_line(line) for line in lines[:1]]
        return encoded

    def _first_line(self, line: str) -> list[int]:
        if line not in self._first_lines:
            if len(self._first_lines) > CACHED_FIRST_LINES:
                self._first_lines.clear()
            first, *rest = self._pieces(line)
            token = self._marked(first)
            start = self.encode_texts([first])[0] if token is None else [token]
            self._first_lines[line] = start + self._encode_pieces([rest])[0]
        return self._first_lines[line]

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of plain texts, in which labels and markers have no meaning."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_continuations(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids that texts have within a prompt, after other text."""
        if not self._marks_starts:
            return self.encode_texts(texts)
        return [[token for token, _ in _after_newline(self.tokenizer, text)] for text in texts]

    def cache(self, lines: Iterable[str]) -> None:
        """Encode the lines that are not cached yet, in one batch; a full cache is emptied first."""
        wanted = set(lines)
        if self._cached_tokens > CACHE_TOKENS:
            self._cached.clear()
            self._cached_tokens = 0
        new = [line for line in wanted if line not in self._cached]
        for line, ids in zip(new, self._encode_lines(new), strict=True):
            self._keep(line, ids)

    def _keep(self, line: str, ids: list[int]) -> None:
        self._cached[line] = array("i", ids)
        self._cached_tokens += len(ids) + 16  # 16 stand for the entry's own memory

    def count(self, line: str) -> int:
        """The number of tokens of one line."""
        if line not in self._cached:
            self._keep(line, self._encode_lines([line])[0])
        return len(self._cached[line])

    def shorten(self, line: str, limit: int) -> str | None:
        """The longest beginning of a line that has at most `limit` tokens, its newline included.

        Lines are cut before a token that begins a character. Returns None when only the label would remain.
        """
        label = LABEL.match(line)
        label_length = label.end() if label else 0
        cut = len(line)
        for start in reversed(self._token_starts(line)[: max(0, limit)]):
            if start >= cut:  # another token of the same character
                continue
            cut = start
            text = line[:cut].rstrip()
            if len(text) <= label_length:
                return None
            if len(self._encode_lines([text + "\n"])[0]) <= limit:
                return text + "\n"
        return None

    def _marked(self, piece: str) -> int | None:
        """The token of the product that an item marker names; None for other text and unknown products."""
        if not (self._item_tokens and piece.startswith("<|item:")):
            return None
        item = item_of_marker(piece)
        return None if item is None else self._item_tokens.get(item)

    def _encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        return self._encode_pieces([self._pieces(line) for line in lines])

    def _encode_pieces(self, split: Sequence[Sequence[str]]) -> list[list[int]]:
        distinct = dict.fromkeys(piece for pieces in split for piece in pieces)
        ids_of = {piece: [token] for piece in distinct if (token := self._marked(piece)) is not None}
        texts = [piece for piece in distinct if piece not in ids_of]
        ids_of |= dict(zip(texts, self.encode_continuations(texts), strict=True))
        return [[token for piece in pieces for token in ids_of[piece]] for pieces in split]

    def _token_starts(self, line: str) -> list[int]:
        """The index in `line` of the character in which each token begins."""
        starts, done = [], 0
        for piece in self._pieces(line):
            if self._marked(piece) is not None:
                starts.append(done)
            else:
                if self._marks_starts:
                    starts += [done + start for _, start in _after_newline(self.tokenizer, piece)]
                else:
                    offsets = self.tokenizer.encode(piece, add_special_tokens=False).offsets
                    starts += [done + start for start, _ in offsets]
            done += len(piece)
        return starts

    def _pieces(self, line: str) -> list[str]:
        """The parts of a line that are encoded separately."""
        for cue in CUES:
            if line.startswith(cue) and len(line) > len(cue):
                return [cue, line[len(cue) :]]
        if not self._item_tokens or "<|item:" not in line:
            return [line]
        if self._marked(line.rstrip("\n")) is not None:
            return [line.rstrip("\n")]
        pieces, done = [], 0
        for match in MARKER.finditer(line):
            if self._marked(match[0]) is not None:
                pieces += [line[done : match.start()], match[0]]
                done = match.end()
        return [piece for piece in (*pieces, line[done:]) if piece]


def _after_newline(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """The tokens of a text that follows a newline, each with the index of the character in which it begins."""
    encoding = tokenizer.encode("\n" + text, add_special_tokens=False)
    return [(token, start - 1) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start]


def _marks_starts(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer encodes the start of a text otherwise than text after a newline, as SentencePiece does.

    A tokenizer that joins a newline with what follows cannot be asked for text after a newline: False for that too.
    """
    after = [_after_newline(tokenizer, probe) for probe in _PROBES]
    if not all(tokens and tokens[0][1] == 0 for tokens in after):
        return False
    alone = [tokenizer.encode(probe, add_special_tokens=False).ids for probe in _PROBES]
    return alone != [[token for token, _ in tokens] for tokens in after]


def _lines(text: str) -> list[str]:
    """Lines with their newlines; str.splitlines would also break at other separators, which may stand in a line."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines
