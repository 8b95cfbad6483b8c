"""E-mail addresses, plain (RFC 5321) or disguised: "a @ b . com", "name at domain dot com", "name[at]domain.com"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from lm.redaction.span import Span, word_set

# Scripts written without spaces; an e-mail address within such text ends where the script changes.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_ATOM = r".!#$%&'*+/=?^`{|}~\-"  # RFC 5322 atext and the dot
_LOCAL = re.compile(rf"(?:[^\W{_CJK}]|[{_ATOM}])+|(?:[{_CJK}]|[{_ATOM}])+")
_LABEL, _CJK_LABEL = rf"[^\W_{_CJK}](?:[^\W{_CJK}]|-)*", rf"[{_CJK}]+"
_DOMAIN = re.compile(
    rf"(?:{_LABEL}\.)+(?=[^\W\d_]){_LABEL}" rf"|(?:(?:{_LABEL}|{_CJK_LABEL})\.)+(?:{_CJK_LABEL}|(?=[^\W\d_]){_LABEL})"
)
ADDRESS_LENGTH = 256
"""Characters on each side of the @; RFC 5321 allows 64 and 255."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_+\-]|\.(?=[A-Za-z0-9])){0,63}"
_SPELLED_NAME = rf"{_NAME}(?:\s?(?:\.|\b(?:dot|punkt|punto|point|ponto)\b|点)\s?{_NAME}){{0,3}}"
_AT = (
    r"(?:\s?@\s?|\s?[(\[{<]\s?(?:at|ät|arroba|arobase|chiocciola|@|艾特)\s?[)\]}>]\s?"
    r"|\s(?:at|arroba|arobase|ät|æt)\s|\s?艾特\s?|\s?#\s?(?=(?:qq|163|126|gmail)\b))"
)
_DOT = (
    r"(?:\s?\.\s?|\s?[(\[{<]\s?(?:dot|punkt|punto|point|ponto|\.|点)\s?[)\]}>]\s?|\s(?:dot|punkt|punto"
    r"|point|ponto)\s|\s?点\s?)"
)
_TOP = (
    r"(?:com|net|org|info|biz|edu|gov|io|me|co|uk|us|de|fr|es|pt|it|nl|cn|jp|kr|br|ru|eu|in|ca|au|ch|at|example|test)"
)
_DISGUISED = re.compile(
    rf"(?<![A-Za-z0-9.@])({_SPELLED_NAME})({_AT})([A-Za-z0-9\-]{{1,63}}(?:{_DOT}[A-Za-z0-9\-]{{1,63}}){{0,3}}?{_DOT}"
    rf"{_TOP}(?:{_DOT}{_TOP})?)(?![A-Za-z0-9])",
    re.I,
)
SPELLED_AT = frozenset({"at", "arroba", "arobase", "chiocciola", "ät", "æt"})
"""Words for the sign @, in lower case."""
_SPELLED_DOMAIN = re.compile(
    (
        r"\b(?:at|arroba|arobase|chiocciola|ät|æt) [\w\-]{1,63}[ )\]]{0,2}(?:\.\w|[(\[]?(?:dot|punkt|punto"
        r"|point|ponto)\b)"
    ),
    re.I,
)
_SIGN = re.compile(r"@|艾特|#|[(\[{<] ?(?:at|ät|arroba|arobase|chiocciola)\b", re.I)
#: Words about e-mail; without one before it, "it at amazon.com" is a shop's name.
_CONTEXT = re.compile(
    r"mail|contact|write|reach|address|邮箱|邮件|联系|メール|correo|courriel|escri|kontakt|schreib", re.I
)
_NO_NAMES = word_set(
    "it them this that these those one ones bought buy found find look looked see sold sale available cheaper online "
    "store price order ordered purchased purchase here there is was are were item items product products "
    "made home work "
    "best only out up down and or as got get shop shopping shopped stop me you us him her now today deals reviews"
)


def emails(text: str) -> Iterator[Span]:
    """Plain addresses of folded text: search around each @, because a pattern at every character is quadratic."""
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1, at + 1 + ADDRESS_LENGTH)
        local = _LOCAL.match(text[max(done, at - ADDRESS_LENGTH) : at][::-1])
        if domain and local:
            done = domain.end()
            yield Span(at - local.end(), done, "EMAIL")
        at = text.find("@", max(at + 1, done))


def disguised_emails(text: str, words: Set[str]) -> Iterator[Span]:
    """Addresses of folded text with spaces in them, or with words for "@" and "."."""
    is_spelled = not SPELLED_AT.isdisjoint(words) and _SPELLED_DOMAIN.search(text) is not None
    if not (is_spelled or _SIGN.search(text)):
        return
    for match in _DISGUISED.finditer(text):
        local, at = match[1], match[2].strip()
        is_spelled_at = at.isalpha() and at.isascii()
        if is_spelled_at:
            has_context = _CONTEXT.search(text, max(0, match.start() - 40), match.start()) is not None
            is_name = local.lower() not in _NO_NAMES and ("." not in match[3] or not local.isalpha())
            if not (is_name or (has_context and local.lower() not in _NO_NAMES)):
                continue
        yield Span(match.start(), match.end(), "EMAIL")
