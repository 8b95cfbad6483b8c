"""Finds clauses of an answer that negate a clause of its article, or that leave out its negation.

Two clauses are about the same where most content words agree. One then contradicts the other if a word is negated in
one and not in the other: the word right after the negation, most of the shared words, or a word with a prefix such as
"un". This is a check of the surface, not of the meaning: it errs towards a refusal.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
#: Share of the answer's content words that a clause of the article must have to be about the same.
_SAME_TOPIC = 2 / 3
#: Phrases with a negation that negate nothing.
_IDIOMS = re.compile(
    r"\b(?:not only|no later than|no problem|no worries|no doubt|no matter|whether or not"
    r"|(?:do not|don't|never) (?:hesitate|worry|forget|fail)(?: to)?)\b"
    "|不仅|不但|不过|不同|不错|不好意思|无论|不论|不管|不久|差不多|别的|特别|分别|区别|性别|级别|识别"
    "|类别|是否|否则|能否|可否"
    "|没关系|没问题|不客气|不用谢|(?:不用|不必|无需|请勿)担心|未来|非常",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(
    r"[.!?。！？;；:：\n()（）–—•，]+"
    r"|,(?=\s*(?:you|we|it|they|this|these|there|please|your|our|the|i|he|she|but|not|no|so)\b)"
    r"|,(?![^.!?;:\n]{0,80}\b(?:or|nor)\b)"
    r"|\b(?:but|unless|if|because|although|though|while|whereas|when|until|however|except|otherwise|which|so)\b"
    r"|(?=\bwithout\b)|但是|但|除非|如果|因为",
    re.IGNORECASE,
)
_TOKENS = re.compile(rf"[a-z]+(?:['’][a-z]+)?|\d+(?:[.,]\d+)*|[{_CJK}]")
_NEGATORS = frozenset(
    ("not", "never", "cannot", "without", "unable", "neither", "nor", "nobody", "nothing", "none", "hardly")
)
_CJK_NEGATORS = frozenset("不没無无未别勿")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "the", "this", "that", "these", "those", "some", "any", "all", "here", "there"),
        *("is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "done", "have", "has", "had"),
        *("will", "would", "shall", "should", "can", "could", "may", "might", "must", "please", "just", "very", "too"),
        *("to", "of", "in", "on", "at", "by", "for", "from", "with", "within", "into", "as", "than", "then", "also"),
        *("i", "my", "me", "you", "your", "yours", "we", "our", "us", "it", "its", "they", "them", "their"),
        *("he", "she", "his", "her", "and", "or", "after", "before"),
    )
)
_CJK_STOP_CHARACTERS = frozenset("的了在是有和与及或请您你我们可以能会被要将就都也还等这那个到为对从并内后前时")
_PREFIXES = ("un", "non", "in", "im", "dis")


class _Clause(NamedTuple):
    """The content words of a clause, those that a negation covers, and the first ones after a negation."""

    words: frozenset[str]
    negated: frozenset[str]
    heads: tuple[frozenset[str], ...]


def contradictions(answer: str, article: str) -> list[str]:
    """The clauses of `answer` that contradict `article`, as they are written; English and Chinese.

    A clause that some clause of the article supports is no contradiction.
    """
    stated = _clauses(article)
    found = []
    for text in _split(answer):
        clause = _parse(text)
        same = [other for other in stated if _is_same_topic(clause, other)]
        if same and all(_contradicts(clause, other) for other in same):
            found.append(text.strip())
    return found


@lru_cache(maxsize=256)  # several answers are checked against one article
def _clauses(article: str) -> tuple[_Clause, ...]:
    return tuple(dict.fromkeys(clause for text in _split(article) if (clause := _parse(text)).words))


def _split(text: str) -> list[str]:
    return [piece for piece in _CLAUSE_ENDS.split(_IDIOMS.sub(" ", text.replace("’", "'"))) if piece.strip()]


def _parse(text: str) -> _Clause:
    """Words under an odd number of negations are negated; "no" covers one word, "未…的" what stands before 的."""
    words: set[str] = set()
    plain: set[str] = set()
    heads: list[set[str]] = []
    open_heads = 0  # content words that the newest head still needs
    odd, covers = False, 0  # whether negations cover the next word; how many words "no" still covers
    for word in _TOKENS.findall(text.lower()):
        is_cjk = re.match(f"[{_CJK}]", word) is not None
        if word in _CJK_NEGATORS or word in _NEGATORS or word.endswith("n't"):
            odd = not odd
            heads.append(set())
            open_heads = 2 if is_cjk else 1
        elif word == "no":
            covers, open_heads = 1, 1
            heads.append(set())
        elif word == "的":
            odd = False
        elif word not in _STOP_WORDS and word not in _CJK_STOP_CHARACTERS:
            stem = _stem(word)
            words.add(stem)
            if odd == (covers > 0):
                plain.add(stem)
            covers = max(0, covers - 1)
            if open_heads:
                heads[-1].add(stem)
                open_heads -= 1
    return _Clause(frozenset(words), frozenset(words - plain), tuple(frozenset(head) for head in heads if head))


def _is_same_topic(clause: _Clause, other: _Clause) -> bool:
    shared = len(clause.words & other.words) + len(_opposites(clause, other))
    if clause.words == other.words:
        return bool(clause.words)
    return shared >= 2 and shared >= _SAME_TOPIC * len(clause.words)


def _contradicts(clause: _Clause, other: _Clause) -> bool:
    shared = clause.words & other.words
    differing = {word for word in shared if (word in clause.negated) != (word in other.negated)}
    if _opposites(clause, other):
        return True
    if clause.heads and set(clause.heads) == set(
        other.heads
    ):  # both negate the same: "X cannot be returned", "you cannot return X"
        return False
    return len(differing) > len(shared) / 2 or any(head <= differing for head in (*clause.heads, *other.heads))


def _opposites(clause: _Clause, other: _Clause) -> set[str]:
    """The words of one clause that the other has with a negating prefix only, such as "used" and "unused"."""
    return {
        word
        for one, two in ((clause.words, other.words), (other.words, clause.words))
        for word in one - two
        if len(word) > 1 and any(prefix + word in two - one for prefix in _PREFIXES)
    }


def _stem(word: str) -> str:
    """A word without its common English endings, so that "returned" and "returns" are one."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            word = word.removesuffix(ending)
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word.removesuffix("e") if len(word) > 3 else word
