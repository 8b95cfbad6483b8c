"""Finds the facts that an answer states (numbers, prices, names, addresses) and checks them against their sources.

An atom is a stretch of text that an answer may copy but must not invent:

* number: any run with a digit ("A0000042-003", "3.99", "24/7", "2026-02-11"), a spelled number from two on, and one of
  a unit of time ("a year", "一年");
* name: capitalised words inside a sentence, Latin words inside Chinese text, anything in Chinese quotation marks, and
  what `lm.redaction.names` finds in any script, such as a name in lower case after a greeting;
* address: a web address, an e-mail address or an account name such as @shop;
* placeholder: text in {{ }} or [ ], such as {{Order Number}}; a placeholder of personal data, such as [EMAIL], must
  not be copied either.

An ordinary word of the shop that begins a sentence is not a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from lm.answers.quantities import NUMBER_WORDS, TIME_WORD, Quantity, canonical_number, quantity_at
from lm.redaction.names import names
from lm.redaction.redact import PLACEHOLDERS
from lm.redaction.writers import common

Kind = Literal["number", "name", "address", "placeholder", "step"]

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SPELLED = "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
_NUMBER = (
    rf"(?<![A-Za-z\d])[A-Za-z\d]*\d[A-Za-z\d]*(?:[-/.,:][A-Za-z\d]*\d[A-Za-z\d]*)*%?"
    rf"|\b(?i:half(?:\s+an?\s+|[\s-]+){TIME_WORD})\b"
    rf"|\b(?i:(?:an?|one)[\s-]+(?:(?:working|business|full|whole|single)\s+)?{TIME_WORD})\b"
    rf"|\b(?i:(?:{_SPELLED})(?:(?:-|\s+|(?<=hundred)\s+and\s+|(?<=thousand)\s+and\s+)(?:{_SPELLED}|one))*)\b"
)
#: Chinese numerals are numbers before a measure word. 一 alone also means "a": it is 1 before a unit of time or money.
_CJK_NUMBER = (
    r"(?:[二三四五六七八九十百千万两][一二三四五六七八九十百千万]{0,12}|一[一二三四五六七八九十百千万]{1,12})"
    r"(?=个|天|日|周|星期|礼拜|月|年|小时|工作日|钟头|分钟|秒|元|块|次|件|种|倍|折)"
    r"|一(?=天|日|周|星期|礼拜|年|小时|钟头|分钟|个月|个小时|个星期|个工作日|个工作天|元|块钱|折|倍)"
    r"|半(?=天|年|小时|个月|个小时|价)"
)
#: Capitals and all letters of the scripts that have capitals: Latin, Greek, Cyrillic and Armenian.
_CAPITALS = "".join(chr(code) for code in range(0x590) if unicodedata.category(chr(code)) == "Lu")
_LETTERS = r"[A-Za-z\u00c0-\u024f\u0370-\u052f\u0531-\u0587]"
_WORD = rf"[{_CAPITALS}]{_LETTERS}*(?:['’&-]{_LETTERS}+)*"
#: A run of capitalised words, such as "Order Details" or "Apple Pay".
_NAME = rf"{_WORD}(?:[ -]{_WORD})*"
_QUOTED = r"[“「《][^“”「」《》\n]{1,60}[”」》]"
_PLACEHOLDER = r"\{\{[^{}\n]{1,60}\}\}|\[[A-Z][^\[\]\n]{0,60}\]"
#: A domain without "https://" or "www." must have one of these endings: "node.js" and "etc.We" are no domains.
_DOMAIN_ENDINGS = (
    "com|net|org|info|biz|shop|store|online|site|app|dev|io|ai|co|me|eu|uk|us|de|fr|es|it|nl|ie|ca|au|in|cn|hk|jp|xyz"
)
_ADDRESS_CHARACTERS = r"[^\s<>()\"'“”‘’，。、；！？]"
_ADDRESS = (
    rf"(?i:https?://|www\.){_ADDRESS_CHARACTERS}+"
    r"|[A-Za-z\d_.+-]+@[A-Za-z\d-]+(?:\.[A-Za-z\d-]+)+"
    rf"|(?<![A-Za-z\d_.@-])(?:[A-Za-z\d][A-Za-z\d-]*\.)+(?i:{_DOMAIN_ENDINGS})(?![A-Za-z\d_-]|\.[A-Za-z\d])"
    rf"(?:/{_ADDRESS_CHARACTERS}*)?"
    r"|(?<![A-Za-z\d_.])@[A-Za-z\d_]{2,}"
)
_STEP = r"(?m:^[ \t]*\d{1,2}[.)](?=\s))"
_ATOMS = re.compile(
    rf"(?P<placeholder>{_PLACEHOLDER})|(?P<address>{_ADDRESS})|(?P<step>{_STEP})|(?P<quoted>{_QUOTED})|"
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
        elif match["address"]:
            found.append(Atom(start, start + len(match[0].rstrip(".,;:!?")), "address"))
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
    found += _persons(text, found)
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


def _persons(text: str, found: list[Atom]) -> list[Atom]:
    """Names that no capital shows: those of scripts without capitals, and names in lower case after a greeting."""
    words = frozenset(re.findall(r"[^\W\d_]+", text.lower()))
    persons: list[Atom] = []
    for start, end, _ in sorted(names(text, words)):
        if not any(atom.start < end and start < atom.end for atom in (*found, *persons)):
            persons.append(Atom(start, end, "name"))
    return persons


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


def ungrounded(answer: str, article: str, facts: str, words: Collection[str]) -> list[str]:
    """The atoms of `answer` that neither its `article` nor the shop's `facts` of the customer support, as written.

    Empty for a grounded answer. A number needs the same value and the same unit: neither "10 days" nor "100 weeks"
    follows from "100 days". An address must be the article's. A name or placeholder must occur as written, at word
    boundaries. `words` are the ordinary words, in lower case.
    """
    stated, stated_of_customer = _stated(article), _stated(facts)
    quantities = stated.quantities | stated_of_customer.quantities
    missing = []
    for atom in atoms(answer):
        text = answer[atom.start : atom.end]
        if text in PLACEHOLDERS:
            is_grounded = False
        elif atom.kind == "number":
            quantity, end = quantity_at(answer, atom.start, atom.end)
            is_grounded = quantity in quantities
            if not is_grounded and any(quantity.value == other.value for other in quantities):
                text = answer[atom.start : end]  # the unit is another one
        elif atom.kind == "step":
            is_grounded = canonical_number(text) in stated.steps
        elif atom.kind == "address":
            is_grounded = text.lower() in stated.addresses
        elif atom.opens and text.lower() in words:
            is_grounded = True
        else:
            is_grounded = stands_in(text, article) or stands_in(text, facts)
        if not is_grounded:
            missing.append(text)
    return missing


class _Stated(NamedTuple):
    """The quantities, step numbers and addresses of a text."""

    quantities: frozenset[Quantity]
    steps: frozenset[str]
    addresses: frozenset[str]


@lru_cache(maxsize=256)  # several answers are checked against one prompt
def _stated(text: str) -> _Stated:
    """Collect the atoms that a text states."""
    found = atoms(text)
    return _Stated(
        frozenset(quantity_at(text, atom.start, atom.end)[0] for atom in found if atom.kind == "number"),
        frozenset(canonical_number(text[atom.start : atom.end]) for atom in found if atom.kind == "step"),
        frozenset(text[atom.start : atom.end].lower() for atom in found if atom.kind == "address"),
    )


def stands_in(text: str, prompt: str) -> bool:
    """Whether `text` occurs in `prompt` at word boundaries; Chinese text has none."""
    place = prompt.find(text)
    while place >= 0:
        before, after = prompt[place - 1 : place] if place else "", prompt[place + len(text) : place + len(text) + 1]
        if not (_goes_on(before, text[0]) or _goes_on(after, text[-1])):
            return True
        place = prompt.find(text, place + 1)
    return False


def _goes_on(neighbour: str, edge: str) -> bool:
    both_latin = neighbour.isascii() and edge.isascii()
    return both_latin and neighbour.isalnum() and edge.isalnum()


_ANY_WORD = re.compile(rf"(?<![^\W_]){_LETTERS}(?:{_LETTERS}|['’-])*")


def ordinary_words(
    texts: Collection[str], writers: Sequence[str | None] | None = None, min_writers: int = 1
) -> list[str]:
    """The ordinary words of `texts`, in lower case and sorted: words that are not names.

    A word is ordinary that is written in lower case somewhere, or that begins at least three sentences and more
    sentences than it is capitalised within. A customer's name begins one or two. A word also needs `min_writers`
    different `writers` of the texts; what the shop (writer None) wrote counts.
    """
    lower: set[str] = set()
    opening: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for text in texts:
        lower |= {word for word in _ANY_WORD.findall(text) if word[0].islower()}
        found = [(text[a.start : a.end].lower(), a.opens) for a in atoms(text) if a.kind == "name"]
        opening.update({word for word, opens in found if opens})
        inside.update({word for name, opens in found if not opens for word in name.split(" ")})
    ordinary = lower | {word for word, count in opening.items() if count >= 3 and count > inside[word]}
    if writers is not None:
        ordinary &= common((set(_ANY_WORD.findall(text.lower())) for text in texts), writers, min_writers)
    return sorted(ordinary)
