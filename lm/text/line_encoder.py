"""Token-exact lines: every line of a prompt is encoded alone, counted, cached, and cut where it must be.

What follows a purchase's label is encoded alone too, so that a title is the same tokens in a history as in
an answer; an item marker is one token, and on a line of its own it has no newline's token.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer

from lm.text.template import CUES, LABEL, MARKER

CACHE_TOKENS = 4_000_000
"""Of cached lines: some 16 MB besides their text, and most of a shop's titles."""


class LineEncoder:
    """Encodes prompts line by line; `markers` maps an item marker to its token id."""

    def __init__(self, tokenizer: Tokenizer, markers: Mapping[str, int]) -> None:
        self.tokenizer = tokenizer
        self.markers = markers
        self._cached: dict[str, array[int]] = {}
        self._cached_tokens = 0

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """The token ids of each prompt: those of its lines, one after the other."""
        split = [_lines(prompt) for prompt in prompts]
        self.cache(line for lines in split for line in lines)
        encoded = []
        for lines in split:
            ids: list[int] = []
            for line in lines:
                ids.extend(self._cached[line])
            encoded.append(ids)
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of plain texts, in which nothing has a meaning."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def cache(self, lines: Iterable[str]) -> None:
        """Encode in one batch those of `lines` that are new; the cache starts anew when it is full."""
        wanted = set(lines)
        if self._cached_tokens > CACHE_TOKENS:
            self._cached.clear()
            self._cached_tokens = 0
        new = [line for line in wanted if line not in self._cached]
        for line, ids in zip(new, self._encode_lines(new), strict=True):
            self._keep(line, ids)

    def _keep(self, line: str, ids: list[int]) -> None:
        self._cached[line] = array("i", ids)
        self._cached_tokens += len(ids) + 16  # the entry itself is as much as some tokens

    def count(self, line: str) -> int:
        """The number of tokens of one line."""
        if line not in self._cached:
            self._keep(line, self._encode_lines([line])[0])
        return len(self._cached[line])

    def shorten(self, line: str, limit: int) -> str | None:
        """The longest beginning of a line that is at most `limit` tokens with its newline.

        It is cut before a token that begins a character; None when only the label would be left.
        """
        label = LABEL.match(line)
        least = label.end() if label else 0
        cut = len(line)
        for start in reversed(self._token_starts(line)[: max(0, limit)]):
            if start >= cut:  # a further token of the same character
                continue
            cut = start
            text = line[:cut].rstrip()
            if len(text) <= least:
                return None
            if len(self._encode_lines([text + "\n"])[0]) <= limit:
                return text + "\n"
        return None

    def _encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        split = [self._pieces(line) for line in lines]
        texts = list(dict.fromkeys(piece for pieces in split for piece in pieces if piece not in self.markers))
        ids_of = dict(zip(texts, self.encode_texts(texts), strict=True))
        ids_of |= {piece: [self.markers[piece]] for pieces in split for piece in pieces if piece in self.markers}
        return [[token for piece in pieces for token in ids_of[piece]] for pieces in split]

    def _token_starts(self, line: str) -> list[int]:
        """The index in `line` of the character in which each of its tokens begins."""
        starts, done = [], 0
        for piece in self._pieces(line):
            if piece in self.markers:
                starts.append(done)
            else:
                offsets = self.tokenizer.encode(piece, add_special_tokens=False).offsets
                starts += [done + start for start, _ in offsets]
            done += len(piece)
        return starts

    def _pieces(self, line: str) -> list[str]:
        """The parts of a line that are encoded alone."""
        for cue in CUES:
            if line.startswith(cue) and len(line) > len(cue):
                return [cue, line[len(cue) :]]
        if not self.markers or "<|item:" not in line:
            return [line]
        if line.rstrip("\n") in self.markers:
            return [line.rstrip("\n")]
        pieces, done = [], 0
        for match in MARKER.finditer(line):
            if match[0] in self.markers:
                pieces += [line[done : match.start()], match[0]]
                done = match.end()
        return [piece for piece in (*pieces, line[done:]) if piece]


def _lines(text: str) -> list[str]:
    """Lines with their newlines; str.splitlines would also break at what is inside a line for us."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines
