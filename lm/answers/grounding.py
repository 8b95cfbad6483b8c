"""Finds the facts that an answer states (numbers, dates, prices, names) and checks them against its prompt.

An atom is a stretch of text that an answer may copy but must not invent:

* number: any run with a digit ("A0000042-003", "3.99", "24/7", "2026-02-11"), a spelled number from two on;
* name: capitalised words inside a sentence, Latin words inside Chinese text, anything in Chinese quotation marks;
* placeholder: text in {{ }} or [ ], such as {{Order Number}}; a placeholder of personal data, such as [EMAIL], must
  not be copied either.

An ordinary word of the shop that begins a sentence is not a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from typing import Literal, NamedTuple

from lm.text.redact import PLACEHOLDERS

Kind = Literal["number", "name", "placeholder", "step"]

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
SPELLED_NUMBERS = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "fifteen"),
    *("twenty", "thirty", "forty", "fifty", "sixty", "ninety", "hundred", "hundreds", "thousand", "thousands"),
    *("dozen", "dozens", "twice", "thrice"),
)
_SPELLED = "|".join(SPELLED_NUMBERS)
_NUMBER = rf"(?<![A-Za-z\d])[A-Za-z\d]*\d[A-Za-z\d]*(?:[-/.,:][A-Za-z\d]*\d[A-Za-z\d]*)*%?|\b(?i:{_SPELLED})\b"
#: Chinese numerals count as numbers before a measure word; 一 alone is left out because it also means "a".
_CJK_NUMBER = (
    r"[二三四五六七八九十百千万两][一二三四五六七八九十百千万]*(?=个|天|日|周|月|年|小时|分钟|元|次|件|种|倍|折)"
)
_LETTERS = r"[A-Za-z\u00c0-\u024f]"
_WORD = rf"[A-Z\u00c0-\u00de]{_LETTERS}*(?:['’&-]{_LETTERS}+)*"
#: A run of capitalised words, such as "Order Details" or "Apple Pay".
_NAME = rf"{_WORD}(?:[ -]{_WORD})*"
_QUOTED = r"[“「《][^“”「」《》\n]{1,60}[”」》]"
_PLACEHOLDER = r"\{\{[^{}\n]{1,60}\}\}|\[[A-Z][^\[\]\n]{0,60}\]"
_STEP = r"(?m:^[ \t]*\d{1,2}[.)](?=\s))"
_ATOMS = re.compile(
    rf"(?P<placeholder>{_PLACEHOLDER})|(?P<step>{_STEP})|(?P<quoted>{_QUOTED})|"
    rf"(?P<number>{_NUMBER}|{_CJK_NUMBER})|(?P<name>{_NAME})"
)
_LATIN = re.compile(rf"{_LETTERS}+(?:[ '’&-]{_LETTERS}+)*")
_LATIN_WORD = re.compile(rf"{_LETTERS}+")
_CJK_CHARACTER = re.compile(f"[{_CJK}]")
#: The text before the first word of a sentence: the end of the previous one, then quotes, brackets and bullets.
_SENTENCE_START = re.compile(r"(?:^|[.!?。！？:：;；\n])[\s\"'“”‘’(\[*•–-]*$")
_FIRST_PERSON = re.compile(r"I(?:['’](?:m|ll|ve|d))?$")
_LOOK_BEHIND = 80  # characters before an atom that are searched for the start of its sentence


def is_chinese(text: str) -> bool:
    """Whether a text has more Chinese characters than Latin words."""
    return len(_CJK_CHARACTER.findall(text)) > len(_LATIN_WORD.findall(text))


class Atom(NamedTuple):
    """One stretch text[start:end]; `opens` says that it is a name at the start of a sentence."""

    start: int
    end: int
    kind: Kind
    opens: bool = False


def has_cjk(text: str) -> bool:
    """Whether a text has a Chinese character."""
    return _CJK_CHARACTER.search(text) is not None


def atoms(text: str) -> list[Atom]:
    """The atoms of a text, in order, without overlaps. The pronoun I is not a name."""
    found: list[Atom] = []
    for match in _ATOMS.finditer(text):
        start, end = match.span()
        if match["placeholder"]:
            found.append(Atom(start, end, "placeholder"))
        elif match["step"]:
            found.append(Atom(start + len(match[0]) - len(match[0].lstrip()), end, "step"))
        elif match["quoted"]:
            found.append(Atom(start + 1, end - 1, "name"))
        elif match["number"]:
            found.append(Atom(start, end, "number"))
        else:
            found += _names(text, start, end)
    if has_cjk(text):
        found += _latin_in_chinese(text, found)
    return sorted(found)


def _names(text: str, start: int, end: int) -> list[Atom]:
    """A run of capitalised words as one name; the first word of a sentence is a name of its own."""
    opens = _SENTENCE_START.search(text[max(0, start - _LOOK_BEHIND) : start]) is not None
    words = [(start + m.start(), start + m.end()) for m in re.finditer(r"[^ ]+", text[start:end])]
    parts: list[list[tuple[int, int]]] = [[]]
    for number, (first, last) in enumerate(words):
        if _FIRST_PERSON.match(text[first:last]):
            parts.append([])  # "Yes I Do": the pronoun ends one name and begins none
            continue
        parts[-1].append((first, last))
        if opens and number == 0:
            parts.append([])
    return [Atom(part[0][0], part[-1][1], "name", opens and part[0][0] == start) for part in parts if part]


def _latin_in_chinese(text: str, found: list[Atom]) -> list[Atom]:
    """The Latin words in lines with Chinese: each is a name, in upper or lower case."""
    taken = {place for atom in found for place in range(atom.start, atom.end)}
    return [
        Atom(match.start(), match.end(), "name")
        for line in re.finditer(r"[^\n]+", text)
        if has_cjk(line[0])
        for match in _LATIN.finditer(text, line.start(), line.end())
        if not taken.intersection(range(match.start(), match.end()))
    ]


def ungrounded(answer: str, prompt: str, words: Collection[str]) -> list[str]:
    """The atoms of `answer` that its `prompt` lacks, as they are written; empty for a grounded answer.

    A number must be one of the prompt's whole numbers: "10" is not in "100". A name or placeholder must occur in the
    prompt as written, at word boundaries. `words` are the ordinary words, in lower case.
    """
    numbers = _numbers(prompt)
    missing = []
    for atom in atoms(answer):
        text = answer[atom.start : atom.end]
        if text in PLACEHOLDERS:
            stands = False
        elif atom.kind in ("number", "step"):
            stands = normalised(text) in numbers
        elif atom.opens and text.lower() in words:
            stands = True
        else:
            stands = stands_in(text, prompt)
        if not stands:
            missing.append(text)
    return missing


@lru_cache(maxsize=256)  # several answers are checked against one prompt
def _numbers(prompt: str) -> frozenset[str]:
    return frozenset(normalised(prompt[a.start : a.end]) for a in atoms(prompt) if a.kind in ("number", "step"))


def stands_in(text: str, prompt: str) -> bool:
    """Whether `text` occurs in `prompt` at word boundaries; Chinese text has none."""
    place = prompt.find(text)
    while place >= 0:
        before, after = prompt[place - 1 : place] if place else "", prompt[place + len(text) : place + len(text) + 1]
        if not (_goes_on(before, text[0]) or _goes_on(after, text[-1])):
            return True
        place = prompt.find(text, place + 1)
    return False


def normalised(number: str) -> str:
    """A number in the form that is compared: "1." of a list is "1", letters are lower case."""
    return number.strip().rstrip(".)").lower()


def _goes_on(neighbour: str, edge: str) -> bool:
    both_latin = neighbour.isascii() and edge.isascii()
    return both_latin and neighbour.isalnum() and edge.isalnum()


def ordinary_words(texts: Collection[str]) -> list[str]:
    """The ordinary words of `texts`, in lower case and sorted: words that are not names.

    A word is ordinary that is written in lower case somewhere, or that begins at least three sentences and more
    sentences than it is capitalised within. A customer's name begins one or two.
    """
    lower: set[str] = set()
    opening: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for text in texts:
        lower |= set(re.findall(r"(?<![^\W_])[a-z][a-z'’-]*", text))
        found = [(text[a.start : a.end].lower(), a.opens) for a in atoms(text) if a.kind == "name"]
        opening.update({word for word, opens in found if opens})
        inside.update({word for name, opens in found if not opens for word in name.split(" ")})
    return sorted(lower | {word for word, count in opening.items() if count >= 3 and count > inside[word]})
