"""Facts as single tokens, so that the model copies a fact of the prompt whole or not at all.

Each atom of a prompt (lm.answers.grounding) becomes one slot token, numbered within its part: `<|a:3|>` is the
article's third fact, `<|f:2|>` the second of the customer's orders and reviews, `<|q:1|>` the first that only the
customer's own words state, and `<|s:4|>` the step that the article numbers 4. The model reads and writes the tokens;
their texts stay outside it. So an answer can be restricted to the slots of its prompt, without those of the customer's
words (delexicalisation: Wen et al., EMNLP 2015).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from lm.answers.common_sentences import SENTENCE_END, sentence_key
from lm.answers.grounding import Atom, atoms, has_cjk
from lm.answers.quantities import canonical_number
from lm.redaction.redact import PLACEHOLDERS

#: Slot tokens of each part. Further facts of a prompt are read as plain text and cannot be copied.
SLOT_COUNTS = {"a": 48, "q": 8, "f": 24, "s": 12}
JOIN = "<|join|>"
"""Written before a slot whose spacing is unusual: no space where one is usual, or a space where none is."""

_AFTER_SLOT = "x"  # stands for the text of a slot, which does not decide about the next slot's space
_NO_SPACE_AFTER = re.compile(r"[\s(\[{\"'“‘/#$€£¥@-]$")


def tokens_of_slots() -> list[str]:
    """JOIN and all slot tokens, in the order in which a tokenizer has them."""
    return [JOIN, *(f"<|{part}:{n}|>" for part, count in SLOT_COUNTS.items() for n in range(1, count + 1))]


class PromptPart(NamedTuple):
    """A part of a prompt: its text, the letter of its slots, and known facts in it, such as a product's title.

    The letters are `a` for the article, `f` for the shop's facts of the customer, `q` for the customer's own words.
    """

    text: str
    letter: str
    facts: tuple[str, ...] = ()


class Slots:
    """The slots of one prompt: their tokens and texts."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # token -> text
        self.tokens: dict[str, str] = {}  # text -> token
        self._used = dict.fromkeys(SLOT_COUNTS, 0)

    def add(self, text: str, letter: str) -> str | None:
        """The token of `text`, a new one where it has none yet; None where the part has no slots left."""
        if text not in self.tokens:
            if self._used[letter] == SLOT_COUNTS[letter]:
                return None
            self._used[letter] += 1
            self._set(f"<|{letter}:{self._used[letter]}|>", text)
        return self.tokens[text]

    def add_step(self, text: str) -> str | None:
        """The token of a list's number, "3." -> <|s:3|>, added if new; None for a number without a token."""
        number = int(canonical_number(text))
        if not 1 <= number <= SLOT_COUNTS["s"]:
            return None
        token = f"<|s:{number}|>"
        if token not in self.texts:
            self._set(token, f"{number}.")
        return token

    def step(self, text: str) -> str | None:
        """The token of a list's number, None where the prompt lacks it."""
        token = f"<|s:{int(canonical_number(text))}|>"
        return token if token in self.texts else None

    def is_supported(self, token: str) -> bool:
        """Whether an answer may use a token: the prompt has it, not in the customer's own words alone."""
        return token in self.texts and not token.startswith("<|q:") and self.texts[token] not in PLACEHOLDERS

    def supported(self, text: str) -> str | None:
        """The token of `text` that an answer may use, None where there is none."""
        token = self.tokens.get(text)
        return token if token is not None and self.is_supported(token) else None

    def _set(self, token: str, text: str) -> None:
        self.texts[token] = text
        self.tokens.setdefault(text, token)


class SlotTokenizer:
    """Encodes and decodes text with slots, by a tokenizer that has `tokens_of_slots()`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {}
        for token in tokens_of_slots():
            number = tokenizer.token_to_id(token)
            if number is None:
                raise ValueError(f"the tokenizer has no {token}: it does not belong to an answers model")
            self.ids[token] = number
        self.names = {number: token for token, number in self.ids.items()}

    def encode_many(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """Token ids of texts, each given as pieces: plain text or slot tokens."""
        plain = [piece for pieces in texts for piece in pieces if piece not in self.ids]
        known = dict.fromkeys(plain)
        encoded = self.tokenizer.encode_batch_fast(list(known), add_special_tokens=False)
        ids_of = {piece: encoding.ids for piece, encoding in zip(known, encoded, strict=True)}
        return [
            [token for piece in pieces for token in ([self.ids[piece]] if piece in self.ids else ids_of[piece])]
            for pieces in texts
        ]

    def decode(self, ids: Sequence[int], slots: Slots) -> str:
        """The text of generated tokens with the texts of the slots. A slot that the prompt lacks is left out."""
        text, run, flip = "", [], False
        before = ""  # the text that decides about a slot's space
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
    """Whether a slot after this text usually follows a space."""
    return bool(before) and before[-1].isascii() and not _NO_SPACE_AFTER.search(before)


def split_at_slots(text: str, replaced: Iterable[tuple[int, int, str]]) -> list[str]:
    """Split `text` at the ordered stretches (start, end, slot token) into pieces of plain text and slot tokens.

    A space before a slot belongs to the slot.
    """
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


def fill_slots(parts: Sequence[PromptPart]) -> tuple[list[str], Slots]:
    """Replace the atoms and known facts of a prompt's parts by slots; return the pieces to encode, and the slots."""
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
        out += split_at_slots(part.text, replaced)
    return out, slots


def _atoms_and_facts(part: PromptPart) -> list[Atom]:
    """The known facts of a part, and the atoms that do not overlap them."""
    found: list[Atom] = []
    for fact in sorted(set(part.facts), key=len, reverse=True):
        for match in re.finditer(re.escape(fact), part.text):
            if not any(a.start < match.end() and match.start() < a.end for a in found):
                found.append(Atom(match.start(), match.end(), "name"))
    covered = list(found)
    found += [atom for atom in atoms(part.text) if not any(f.start < atom.end and atom.start < f.end for f in covered)]
    return sorted(found)


_FEWEST_LETTERS = 12


def learnable_target(
    answer: str, slots: Slots, words: Collection[str], common: Collection[str] | None = None
) -> list[str] | None:
    """The target for training on a past answer, as pieces of `fill_slots`: only what the prompt's slots support.

    A sentence with a number that the prompt lacks is left out. A list keeps the steps that the prompt numbers, or has
    dashes where it numbers none. A name of ordinary words, such as a button's, becomes lower case; a sentence with any
    other name is left out. None where too little is left. `words` are those of lm.answers.grounding.ordinary_words;
    `common` are the keys of `common_sentences`, and other sentences are left out.
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
        received = [s for s in SENTENCE_END.split(rest.strip()) if s and (common is None or sentence_key(s) in common)]
        kept = [s for s in (_sentence(s, slots, words) for s in received) if s]
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
        token = slots.step(written) if atom.kind == "step" else slots.supported(written)
        if token and not (atom.opens and written.lower() in words):
            replaced.append((atom.start, atom.end, token))
    return split_at_slots(text, replaced)


def _sentence(sentence: str, slots: Slots, words: Collection[str]) -> str | None:
    """A sentence in which names that the prompt lacks are plain words.

    None for a sentence with redacted data, with a number that the prompt lacks, or with a name that does not consist
    of ordinary words: most likely a customer's.
    """
    out, done = "", 0
    for atom in atoms(sentence):
        text = sentence[atom.start : atom.end]
        if text in PLACEHOLDERS:
            return None
        if slots.supported(text) or (atom.opens and text.lower() in words):
            continue
        if atom.kind in ("number", "step", "address"):
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
    """A name in lower case, except its words that are slots of the prompt; None for a word that is not ordinary."""
    parts = [word for word in name.strip("{}[]").split(" ") if word]
    if not all(slots.supported(word) or word.lower() in words or has_cjk(word) for word in parts):
        return None
    return " ".join(word if slots.supported(word) else word.lower() for word in parts)
