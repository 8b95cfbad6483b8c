"""Facts as single tokens: what a prompt states is copied whole by the model or not at all.

Each atom of a prompt (lm.answers.grounding) becomes one slot token, numbered within its part of the prompt: `<|a:3|>`
is the article's third fact, `<|q:1|>` the question's first, `<|f:2|>` the second of the customer's own orders and
reviews, `<|s:4|>` the step that the article numbers 4. The model reads and writes the tokens; their texts stay outside, so that
generation can be held to the slots that a prompt has (delexicalisation, Wen et al., EMNLP 2015).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from lm.answers.grounding import Atom, atoms, has_cjk, normalised
from lm.text.redact import PLACEHOLDERS

#: Slot tokens of each part; what a prompt states beyond them is read as plain text and cannot be copied.
COUNTS = {"a": 48, "q": 8, "f": 24, "s": 12}
JOIN = "<|join|>"
"""Before a slot: its text follows without a space where one is usual, or with one where none is."""

_AFTER_SLOT = "x"  # a slot's own text does not decide about the next one's space
_NO_SPACE_AFTER = re.compile(r"[\s(\[{\"'“‘/#$€£¥@-]$")


def tokens_of_slots() -> list[str]:
    """All slot tokens and JOIN, in the order in which a tokenizer has them."""
    return [JOIN, *(f"<|{part}:{n}|>" for part, count in COUNTS.items() for n in range(1, count + 1))]


class Part(NamedTuple):
    """A stretch of a prompt: its text, the slots' letter, and texts in it that are facts whatever they look like."""

    text: str
    letter: str
    facts: tuple[str, ...] = ()


class Slots:
    """The slots of one prompt: which token stands for which text."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # token -> text
        self.tokens: dict[str, str] = {}  # text -> token
        self._used = dict.fromkeys(COUNTS, 0)

    def add(self, text: str, letter: str) -> str | None:
        """The token of `text`, a new one of the part where it has none yet; None where the part has no more."""
        if text not in self.tokens:
            if self._used[letter] == COUNTS[letter]:
                return None
            self._used[letter] += 1
            self._set(f"<|{letter}:{self._used[letter]}|>", text)
        return self.tokens[text]

    def add_step(self, text: str) -> str | None:
        """The token of a list's number, "3." -> <|s:3|>; None beyond the last."""
        number = int(normalised(text))
        if not 1 <= number <= COUNTS["s"]:
            return None
        token = f"<|s:{number}|>"
        if token not in self.texts:
            self._set(token, f"{number}.")
        return token

    def step(self, text: str) -> str | None:
        """The token of a list's number if the prompt has it."""
        token = f"<|s:{int(normalised(text))}|>"
        return token if token in self.texts else None

    def _set(self, token: str, text: str) -> None:
        self.texts[token] = text
        self.tokens.setdefault(text, token)


class SlotTokenizer:
    """Text with slots <-> token ids, for a tokenizer that has `tokens_of_slots()`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {}
        for token in tokens_of_slots():
            number = tokenizer.token_to_id(token)
            if number is None:
                raise ValueError(f"the tokenizer has no {token}: it is not one of an answers model")
            self.ids[token] = number
        self.names = {number: token for token, number in self.ids.items()}

    def encode_many(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """Token ids of texts that are given as pieces, of which those that are slot tokens stand for themselves."""
        plain = [piece for pieces in texts for piece in pieces if piece not in self.ids]
        known = dict.fromkeys(plain)
        encoded = self.tokenizer.encode_batch_fast(list(known), add_special_tokens=False)
        ids_of = {piece: encoding.ids for piece, encoding in zip(known, encoded, strict=True)}
        return [
            [token for piece in pieces for token in ([self.ids[piece]] if piece in self.ids else ids_of[piece])]
            for pieces in texts
        ]

    def decode(self, ids: Sequence[int], slots: Slots) -> str:
        """The text of generated tokens, the slots' own texts in it; a slot that the prompt has not is left out."""
        text, run, flip = "", [], False
        before = ""  # what a slot's space depends on
        for number in [*ids, -1]:
            if number != -1 and number not in self.names:
                run.append(number)
                continue
            if run:
                text += self.tokenizer.decode(run)
                before, run, flip = text, [], False
            token = self.names.get(number)
            if token == JOIN:
                flip = True
            elif token in slots.texts:
                text += (" " if _usual_space(before) != flip else "") + slots.texts[token]
                before, flip = _AFTER_SLOT, False
        return text


def _usual_space(before: str) -> bool:
    """Whether a slot after this text usually has a space before it."""
    return bool(before) and before[-1].isascii() and not _NO_SPACE_AFTER.search(before)


def pieces(text: str, replaced: Iterable[tuple[int, int, str]]) -> list[str]:
    """Cut `text` at the stretches (start, end, slot token), in order; spaces before slots go into the slots."""
    out: list[str] = []
    done = 0
    for start, end, token in replaced:
        plain = text[done:start]
        spaced = plain.endswith(" ")
        bare = plain[:-1] if spaced else plain
        usual = _usual_space(bare or (_AFTER_SLOT if done else ""))
        if bare:
            out.append(bare)
        if usual != spaced:
            out.append(JOIN)
        out.append(token)
        done = end
    if text[done:]:
        out.append(text[done:])
    return out


def fill(parts: Sequence[Part]) -> tuple[list[str], Slots]:
    """Replace the atoms and facts of a prompt's parts by slots: the pieces to encode, and the slots."""
    slots = Slots()
    out: list[str] = []
    for part in parts:
        replaced: list[tuple[int, int, str]] = []
        for atom in _atoms_and_facts(part):
            text = part.text[atom.start : atom.end]
            if atom.kind == "step":
                token = slots.add_step(text)
            elif atom.opens and text not in slots.tokens:
                token = None  # an ordinary word that begins a sentence
            else:
                token = slots.add(text, part.letter)
            if token:
                replaced.append((atom.start, atom.end, token))
        out += pieces(part.text, replaced)
    return out, slots


def _atoms_and_facts(part: Part) -> list[Atom]:
    """The atoms of a part, where they do not lie in one of its facts, and the facts."""
    found: list[Atom] = []
    for fact in sorted(set(part.facts), key=len, reverse=True):
        for match in re.finditer(re.escape(fact), part.text):
            if not any(a.start < match.end() and match.start() < a.end for a in found):
                found.append(Atom(match.start(), match.end(), "name"))
    covered = list(found)
    found += [atom for atom in atoms(part.text) if not any(f.start < atom.end and atom.start < f.end for f in covered)]
    return sorted(found)


_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_FEWEST_LETTERS = 12


def target(answer: str, slots: Slots, words: Collection[str]) -> list[str] | None:
    """What the model should have written of a past answer, given a prompt's slots: pieces as `fill` gives them.

    What the prompt does not state is not learned: a sentence with another number is left out, a list keeps the steps
    that the prompt numbers (dashes where it numbers none), a name such as a button's is written as ordinary words, a
    sentence with any other name is left out. None where too little is left. `words` are those of
    lm.answers.grounding.ordinary_words.
    """
    has_steps = any(token.startswith("<|s:") for token in slots.texts)
    lines = []
    for line in answer.split("\n"):
        step = next((atom for atom in atoms(line) if atom.kind == "step"), None)
        head, rest = (line[: step.end], line[step.end :]) if step else ("", line)
        if step and slots.step(head) is None:
            if has_steps:
                continue
            head = "-"
        kept = [s for s in (_sentence(s, slots, words) for s in _SENTENCES.split(rest.strip()) if s) if s]
        if kept:
            joint = "" if has_cjk(rest) else " "
            lines.append((head.strip() + " " if head else "") + joint.join(kept))
        elif not line.strip() and lines and lines[-1]:
            lines.append("")
    text = "\n".join(lines).strip()
    if sum(character.isalpha() for character in text) < _FEWEST_LETTERS:
        return None
    replaced = []
    for atom in atoms(text):
        written = text[atom.start : atom.end]
        token = slots.step(written) if atom.kind == "step" else slots.tokens.get(written)
        if token and not (atom.opens and written.lower() in words):
            replaced.append((atom.start, atom.end, token))
    return pieces(text, replaced)


def _sentence(sentence: str, slots: Slots, words: Collection[str]) -> str | None:
    """A sentence with the names that the prompt lacks as plain words.

    None where it has something redacted, a number that the prompt lacks, or a name that is no ordinary words: most
    likely a customer's.
    """
    out, done = "", 0
    for atom in atoms(sentence):
        text = sentence[atom.start : atom.end]
        if text in PLACEHOLDERS:
            return None
        if text in slots.tokens or (atom.opens and text.lower() in words):
            continue
        if atom.kind in ("number", "step"):
            return None
        plain = _as_words(text, slots, words)
        if plain is None:
            return None
        start, end = atom.start, atom.end
        if sentence[start - 1 : start] in tuple("“「《") and start > done:
            start, end = start - 1, end + 1
        out += sentence[done:start] + plain
        done = end
    return out + sentence[done:]


def _as_words(name: str, slots: Slots, words: Collection[str]) -> str | None:
    """A name in lower case, but for those of its words that are names of the prompt; None for no ordinary words."""
    parts = [word for word in name.strip("{}[]").split(" ") if word]
    if not all(word in slots.tokens or word.lower() in words or has_cjk(word) for word in parts):
        return None
    return " ".join(word if word in slots.tokens else word.lower() for word in parts)
