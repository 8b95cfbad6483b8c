"""Cards, IBANs, telephone and account numbers, with any separator between their digits.

A number of groups needs a proof: a checksum, a valid number of one of REGIONS, or a word before it. Seven digits in one
piece need none. So sizes, versions, resolutions and ranges stay (`lm.redaction.product_numbers` has what else stays).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from typing import NamedTuple

import phonenumbers
from stdnum import iban, luhn

from lm.redaction.span import Span

REGIONS = ("GB", "US", "CN", "DE", "FR", "ES", "PT", "JP")
"""The countries whose national formats are tried for telephone numbers without a country code."""
LONGEST = 19  # digits of the longest card
_CHECKED = 100  # numbers of a text whose kind is found; the others are NUMBER

_GAP = r"[ \n.\-/()·•_,*|~:;#'=+]{0,4}"
RUN = re.compile(rf"\d(?:{_GAP}\d){{5,}}")
"""Six or more digits with any separators: what every number here has."""
_GROUP = re.compile(r"\d+")
_TIGHT = frozenset(" .-/()·")
_EXTENSION = re.compile(r" ?(?:x|ext\.?|extension) ?\d{1,6}(?![\dA-Za-z])", re.I)
_PLUS = re.compile(r"(?:\+|\b00)[ \-(]{0,2}$")

_IBAN_GAP = r"[ \n.\-_,*|•/·~]{0,3}"
_IBAN = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}{_IBAN_GAP}\d{_IBAN_GAP}\d(?:{_IBAN_GAP}[A-Za-z0-9]){{11,30}}")

_IS = r"(?:\s?(?:is|are|was|at|on|under|ist|lautet|unter|est|au|es|al|é|:|=|#|-|：|是|为|は)){1,2}\s?[+(]{0,2}$"
_PHONE_NOUN = (
    "(?:tel(?:e?phone|efon|éfono|efone)?|phone|fax|what'?s? ?app|mobile|cell(?:phone|ular)?|handy"
    "|portable|téléphone|móvil"
    "|teléfono|celular|telemóvel|ring|call|sms|viber|signal|desk|office|answering|reach"
    r"|contact)\.?(?:\s?(?:number|no\.?|nummer|nr\.?"
    "|num[ée]ro|me|us|back)){0,2}"
)
_NUMBER_NOUN = (
    "(?:account|acct|a/c|konto|compte|cuenta|conta|card|karte|carte|tarjeta|cartão|sort code|routing|bic"
    "|customer|kunden"
    r"|client|member(?:ship)?|loyalty|insurance|policy|tax|tin|vat|ssn|social security|national insurance|nhs|steuer"
    r"|patient|student|employee|personal|sozialversicherung|sécurité sociale|seguridad social|track(?:ing)?|voucher"
    r"|gift card)(?:[ -]?(?:number|no\.?|nummer|nr\.?|num[ée]ro|id|code|identification|insurance)){0,2}"
)
_PHONE_BEFORE = re.compile((
        rf"\b{_PHONE_NOUN}{_IS}|(?:电话|手机|手机号|号码|联系方式|致电|拨打|電話|携帯|番号|전화|번호"
        r"|тел)[^\w]?(?:番号|号码|号)?[是为は:：]?\s?[+(]{0,2}$"
), re.I)  # fmt: skip
_NUMBER_BEFORE = re.compile(
    (
        rf"\b{_NUMBER_NOUN}(?:{_IS}|\s[+(]{{0,2}}$)|(?:账号|账户|卡号|会员号|会员卡|身份证号?|証券番号"
        r"|口座番号|口座|계좌)[^\w]?(?:号码|番号|号)?[是为は:：]?\s?$"
    ),
    re.I,
)
_LOOK_BEHIND = 48
_PHONE_DIRECTLY_BEFORE = re.compile(
    r"\b(?:tel|telefon|telephone|fax|whats ?app|handy|handynummer|mobil)\.? [+(]{0,2}$", re.I
)


class _Group(NamedTuple):
    start: int
    end: int
    digits: str


def ibans(text: str) -> Iterator[Span]:
    """IBANs of folded text in upper or lower case, with separators anywhere; ISO 13616's checksum decides."""
    for match in islice(_IBAN.finditer(text), _CHECKED):
        places = [i for i in range(match.start(), match.end()) if text[i].isalnum()]
        letters = "".join(text[i] for i in places)
        for length in range(min(34, len(letters)), 14, -1):  # the match may include words that follow the IBAN
            if iban.is_valid(letters[:length], check_country=False):
                yield Span(places[0], places[length - 1] + 1, "IBAN")
                break


def cards(text: str) -> Iterator[Span]:
    """Payment cards of folded text: the digits of an issuer, Luhn's checksum, and groups as on a card."""
    for match in islice(RUN.finditer(text), _CHECKED):
        groups = _groups(text, match.start(), match.end())
        first = 0
        while first < len(groups):
            last = next((j for j in _windows(groups, first) if _is_card(text, groups[first : j + 1])), None)
            if last is not None:
                yield Span(groups[first].start, groups[last].end, "CARD")
                first = last
            first += 1


def phones_and_numbers(text: str) -> Iterator[Span]:
    """Telephone numbers of folded text, and other numbers that may be those of an account."""
    for number, match in enumerate(RUN.finditer(text)):
        if match.end() - match.start() > 400 and "\n" not in match[0] and match[0].isdigit():
            yield Span(match.start(), match.end(), "NUMBER")
            continue
        for groups in _segments(text, _groups(text, match.start(), match.end())):
            yield from _numbers_of(text, groups, number < _CHECKED)


def _groups(text: str, start: int, end: int) -> list[_Group]:
    return [_Group(m.start(), m.end(), m[0]) for m in _GROUP.finditer(text, start, end)]


def _windows(groups: Sequence[_Group], first: int, most: int = LONGEST) -> list[int]:
    """The last groups of all windows from `first` on with at most `most` digits, the longest first."""
    ends, digits = [], 0
    for last in range(first, len(groups)):
        digits += len(groups[last].digits)
        if digits > most:
            break
        ends.append(last)
    return ends[::-1]


def _is_card(text: str, groups: Sequence[_Group]) -> bool:
    digits = "".join(group.digits for group in groups)
    if not _issued(digits) or not luhn.is_valid(digits):
        return False
    sizes = [len(group.digits) for group in groups]
    gaps = {text[a.end : b.start].strip() for a, b in pairwise(groups)}
    if len(groups) == 1 or set(sizes[:-1]) in ({3}, {4}) or sizes in ([4, 6, 5], [4, 6, 4], [6, 13], [8, 8]):
        return True
    return len(gaps) == 1 and (set(sizes) == {1} or (set(sizes) <= {2} and gaps != {""}))


def _issued(digits: str) -> bool:
    """Whether an issuer of cards has numbers with these first digits and this length (ISO/IEC 7812)."""
    two, length = digits[:2], len(digits)
    if length == 16:
        return digits[0] in "456" or "2221" <= digits[:4] <= "2720" or two == "35"
    if length == 15:
        return two in ("34", "37")
    if length == 14:
        return two in ("30", "36", "38")
    return (length in (17, 18, 19) and two in ("62", "60", "65", "63", "67", "50")) or (length == 19 and two[0] == "4")


def _segments(text: str, groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    """Split a run where the kind of separator changes, and before a plus."""
    segment: list[_Group] = [groups[0]]
    kind: str | None = None
    for before, group in pairwise(groups):
        gap = text[before.end : group.start]
        of_gap = _separator(gap)
        if (kind is not None and of_gap != kind) or "+" in gap:
            yield segment
            segment, kind = [], None
        elif kind is None:
            kind = of_gap
        segment.append(group)
    yield segment


def _separator(gap: str) -> str:
    """The separator of a gap: "" for spaces, hyphens, dots, slashes and brackets, else the characters besides them."""
    return "".join(sorted(set(gap) - _TIGHT))


def _numbers_of(text: str, groups: list[_Group], is_checked: bool) -> Iterator[Span]:
    """The personal numbers of one segment: what is proven, then what is long."""
    before = text[max(0, groups[0].start - _LOOK_BEHIND) : groups[0].start]
    digits = sum(len(group.digits) for group in groups)
    if 6 <= digits <= 16 and (_PHONE_BEFORE.search(before) or _PHONE_DIRECTLY_BEFORE.search(before)):
        yield _span(text, groups, "PHONE")
        return
    if digits >= 5 and _NUMBER_BEFORE.search(before) and not _is_list(groups):
        yield _span(text, groups, "NUMBER")
        return
    if len(set("".join(group.digits for group in groups))) == 1:  # "5555555" is a sound
        return
    first = 0
    while first < len(groups):
        found = is_checked and _proven(text, groups, first)
        if found:
            last, kind = found
            yield _span(text, groups[first : last + 1], kind)
            first = last + 1
            continue
        last = _unproven(text, groups, first)
        if last >= first:
            yield Span(groups[first].start, groups[last].end, "NUMBER")
            first = last + 1
        else:
            first += 1


def _span(text: str, groups: Sequence[_Group], kind: str) -> Span:
    """The span of the groups with the plus or bracket before them."""
    start = groups[0].start
    while start and text[start - 1] in "+(" and groups[0].start - start < 2:
        start -= 1
    extension = _EXTENSION.match(text, groups[-1].end) if kind == "PHONE" else None
    return Span(start, extension.end() if extension else groups[-1].end, kind)


def _proven(text: str, groups: list[_Group], first: int) -> tuple[int, str] | None:
    """The last group and the kind of the longest number from `first` on that is proven."""
    start = groups[first].start
    has_plus = _PLUS.search(text, max(0, start - 4), start) is not None
    lead = groups[first].digits
    bracket = text[start - 1 : start] == "("
    may_be_national = lead[0] == "0" or bracket or len(lead) in (2, 3) or (lead[0] == "1" and len(lead) <= 3)
    if not (has_plus or may_be_national or len(lead) >= 7 or len(lead) == 1):
        return None
    windows = _windows(groups, first, 15)
    for last in windows:
        digits = "".join(group.digits for group in groups[first : last + 1])
        sizes = tuple(len(group.digits) for group in groups[first : last + 1])
        if len(digits) < 7:
            break
        gaps = {text[a.end : b.start] for a, b in pairwise(groups[first : last + 1])}
        is_dashed = len(gaps) == 1 and gaps <= {"-", "."}
        is_abroad = digits[:2] == "00" and digits[2] != "0"
        if is_abroad and len(digits) >= 12 and len(sizes) > 1:
            return last, "PHONE"
        if (has_plus or is_abroad) and _is_valid("+" + digits.removeprefix("00"), None):
            return last, "PHONE"
        if (
            not has_plus
            and _is_national(digits, sizes, bracket=bracket, is_dashed=is_dashed)
            and not _is_list(groups[first : last + 1])
        ):
            return last, "PHONE"
        if len(digits) >= 8 and set(sizes) == {1} and not _is_list(groups[first : last + 1]):
            return last, "NUMBER"
    if has_plus and windows and sum(len(g.digits) for g in groups[first : windows[0] + 1]) >= 8:
        return windows[0], "PHONE"
    return None


def _is_national(digits: str, sizes: tuple[int, ...], *, bracket: bool, is_dashed: bool) -> bool:
    """Whether the groups look like a national number of one of REGIONS, and it is valid there."""
    if bracket:
        return 8 <= len(digits) <= 12 and 2 <= sizes[0] <= 5 and len(sizes) > 1
    if digits[0] == "0":
        if digits[1] == "0" or not 9 <= len(digits) <= 12:
            return False
        return _is_valid_in(digits, REGIONS) or (len(digits) in (10, 11) and max(sizes) >= 4)
    if len(sizes) == 1 or set(sizes) == {1}:
        return len(digits) >= 9 and _is_valid_in(digits, REGIONS)
    if sizes == (3, 3, 4) and is_dashed:  # as in North America, with an area code that does not exist
        return True
    if sizes == (3, 3, 3) and digits[0] not in "679":  # mobiles and Spain's old codes: other triples are products'
        return False
    regions = _SHAPES.get(sizes, ())
    return _is_valid_in(digits, regions)


_SHAPES = {
    (3, 3, 4): ("US",),
    (1, 3, 3, 4): ("US",),
    (3, 7): ("US",),
    (3, 4, 4): ("CN",),
    (3, 8): ("CN",),
    (3, 3, 3): ("ES", "PT"),
    (3, 2, 2, 2): ("ES",),
    (2, 3, 2, 2): ("ES", "PT"),
    (2, 3, 4): ("PT",),
    (3, 6): ("ES", "PT"),
}
"""The sizes of the groups in which countries write national numbers without a leading 0."""


def _is_valid_in(digits: str, regions: Sequence[str]) -> bool:
    return any(_is_valid(digits, region) for region in regions)


@lru_cache(maxsize=4096)
def _is_valid(digits: str, region: str | None) -> bool:
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(number)


def _is_list(groups: Sequence[_Group]) -> bool:
    """Whether the groups are a list that rises or falls, such as sizes; a leading 0 is not that of a size."""
    numbers = [int(group.digits) for group in groups]
    if len(numbers) < 3 or any(group.digits[0] == "0" and len(group.digits) > 1 for group in groups):
        return False
    steps = [b - a for a, b in pairwise(numbers)]
    if len(numbers) == 3:  # three groups of a number rise by chance
        return steps[0] == steps[1]
    return all(step > 0 for step in steps) or all(step < 0 for step in steps)


def _unproven(text: str, groups: list[_Group], first: int) -> int:
    """The last group of a number that is long enough to be personal without proof; `first` - 1 if there is none."""
    joined = first
    while joined + 1 < len(groups) and text[groups[joined].end : groups[joined + 1].start] in ("-", "/", "."):
        joined += 1
    if any(len(group.digits) >= 7 for group in groups[first : joined + 1]):
        return joined
    window = _windows(groups, first)
    last = window[0] if window else first
    numbers = groups[first : last + 1]
    sizes = [len(group.digits) for group in numbers]
    digits = sum(sizes)
    is_account = len(numbers) > 1 and digits >= 12 and min(sizes[:-1]) >= 3 and len(set(sizes[:-1])) == 1
    if (is_account or (digits >= 10 and max(sizes) >= 6 and len(numbers) > 1)) and not _is_list(numbers):
        return last
    return first if sizes[:1] and len(groups[first].digits) >= 7 else first - 1
