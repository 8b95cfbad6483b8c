"""National ids by their checksums; passports, licences, plates and birth dates next to their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set

from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.us import ssn

from lm.redaction.span import Span, word_set

_GAP = r"[ \n.\-_,*|•/·~]{0,3}"


def _spaced(*parts: str) -> str:
    """The parts with any separator between them."""
    return _GAP.join(parts)


def _digits(count: int) -> str:
    return _GAP.join([r"\d"] * count)


def _always(_: str) -> bool:
    return True


def _is_resident_id(number: str) -> bool:
    """A Chinese resident id (GB 11643): its checksum, birth date, and a region with one of the known provinces."""
    try:
        return ric.is_valid(number)
    except KeyError:  # python-stdnum knows the province and no county of it
        return True


#: A UK National Insurance number has no checksum; some prefixes are never given out.
_NINO = r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z]" + _GAP + r"[A-CEGHJ-NPR-TW-Z]"
_IDS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])", re.I), check)
    for pattern, check in (
        (_spaced(_NINO, _digits(6), "[A-D]"), _always),
        (_spaced(_digits(17), r"[\dX]"), _is_resident_id),
        (r"\d{3}(?P<s>[ .\-_/*,|•])\d{2}(?P=s)\d{4}", ssn.is_valid),
        (_spaced("[12]", _digits(4), r"[\dAB]", _digits(9)), nir.is_valid),
        (r"\d{2}[. ]?\d{3}[. ]?\d{3}[ \-]?[A-Z]", dni.is_valid),
        (r"[XYZ][ \-]?\d[. ]?\d{3}[. ]?\d{3}[ \-]?[A-Z]", nie.is_valid),
        (r"\d{3}[. ]\d{3}[. ]\d{3}[-. /]\d{2}", cpf.is_valid),
        (r"\d{2} \d{3} \d{3} \d{3}", idnr.is_valid),
        (r"\d{6} ?- ?[1-8]\d{6}", lambda number: rrn.is_valid(number) or True),
        (r"[A-Z]{6} ?\d{2} ?[A-Z] ?\d{2} ?[A-Z] ?\d{3} ?[A-Z]", codicefiscale.is_valid),
    )
)
_MIXED = re.compile(r"[A-Za-z]{6} ?\d{2} ?[A-Za-z] ?\d{2}")
_BARE_NUMBER = re.compile(r"[^A-Za-z0-9]")

_IS = (
    "(?:[ .:#]{1,3}(?:number|no|nr|num|nummer|numéro|número|id|code|is|was|ist|lautet|est|es|é|de"
    r"|reads)\b){0,4}[\s.:#=（(是为は：n°º-]{0,4}"
)
_DOCUMENT = re.compile(
    r"(?:\b(?:passport|reisepass(?:nummer)?|pass-?nr|passeport|pasaporte|passaporte|driv(?:er'?s?|ing) "
    "licen[cs]e|führerschein(?:nummer)?"
    r"|permis(?: de conduire)?|licencia(?: de conducir)?|carnet de conducir|carta de condução|id card|identity card"
    "|personalausweis(?:nummer)?|ausweis(?:nummer)?|carte d'identité|dni|nie|nif|cpf|nino|national "
    "insurance|social security"
    "|ssn|nhs|tax id|steuer-?id(?:entifikationsnummer)?|steuernummer|sozialversicherungsnummer|sécurité "
    "sociale|visa number"
    r"|bilhete de identidade|cartão de cidadão)"
    "|护照|驾驶证|驾照|身份证|证件|通行证|パスポート|旅券|運転免許証?|免許証|マイナンバー|個人番号|여권"
    "|운전면허|주민등록)"
    rf"(?:号码|号|番号|번호)?{_IS}((?=[A-Za-z0-9 .\-]{{0,12}}\d)[A-Za-z0-9](?:[ "
    r".\-_*]?[A-Za-z0-9]){4,20})(?![A-Za-z0-9])",
    re.I,
)
_PLATE = re.compile(
    r"(?:\b(?:(?:number|licen[cs]e|reg(?:istration)?) plate|reg(?:istration)? (?:number|no)|car "
    "reg(?:istration)?|(?:kfz-?)?kennzeichen"
    r"|plaque(?: d'immatriculation)?|immatriculation|matrícula|matricula|placa)"
    r"|车牌号?|车牌号码|ナンバープレート|번호판)"
    rf"{_IS}((?=[A-Z0-9·\- ]{{0,6}}\d)[A-Z0-9]{{1,7}}(?:[ ·\-][A-Z0-9]{{1,4}}(?![A-Za-z0-9])){{0,2}})",
    re.I,
)
_DOCUMENT_WORDS = word_set(
    "passport reisepass reisepassnummer pass-nr passeport pasaporte passaporte license licence "
    "führerschein führerscheinnummer permis "
    "licencia carnet carta identity id personalausweis personalausweisnummer ausweis ausweisnummer carte "
    "dni nie nif cpf nino "
    "national social ssn nhs tax steuer steuer-id steuernummer steueridentifikationsnummer "
    "sozialversicherungsnummer sécurité visa bilhete cartão plate "
    "reg registration kennzeichen kfz-kennzeichen plaque immatriculation matrícula matricula placa"
)
_CHINESE_PLATE = re.compile(
    "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][ "
    r"·•\-]?[A-HJ-NP-Z0-9]{4,5}[A-HJ-NP-Z0-9挂学警港澳]"
)
_JAPANESE_PLATE = re.compile(r"[\u4e00-\u9fff]{1,4} ?\d{2,3} ?[\u3041-\u3096] ?\d{2}-?\d{2}")

_BIRTH_WORDS = word_set(
    "born birthdate birth dob d b birthday geboren geburtsdatum geb geburtstag né née naissance "
    "anniversaire nací nacido nacida "
    "nacimiento nascimento nasci nascido nascida aniversário"
)
_MONTH_NAMES = (
    "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|januar|februar|märz|mai|juni|juli|oktober"
    "|dezember|janvier|février"
    "|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo"
    "|junio|julio|agosto"
    "|septiembre|octubre|noviembre|diciembre|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro"
    r"|novembro|dezembro)\w*"
)
_SOME_DATE = (
    r"(?:\d{1,4}[-/. ]{1,2}\d{1,2}[-/. ]{1,2}\d{1,4}|\d{4} ?[年년] ?\d{1,2} ?[月월] ?\d{1,2} ?[日일号]?"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|º|\.)?(?: of| de)? {_MONTH_NAMES}\.?(?:,? | de )(?:19|20)?\d{{2}}"
    rf"|{_MONTH_NAMES}\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}}|(?:19|20)\d{{6}})"
)
_BIRTH = re.compile(
    r"(?:\b(?:born|birth ?date|date of birth|d\.?o\.?b|birthday|geboren|geburtsdatum|geb|geburtstag"
    r"|née?(?:\(e\))?|date de naissance"
    r"|naissance|anniversaire|nací|nacido|nacida|fecha de nacimiento|nascimento|nasci|nascido|nascida|aniversário)\b"
    r"|出生日期|出生于|出生|生日|生于|生年月日|誕生日|생년월일|생일)"
    rf"[^\d\n]{{0,12}}?({_SOME_DATE})|({_SOME_DATE}) ?(?:に?生まれ|出生|생)",
    re.I,
)


def has_letters_between(text: str) -> bool:
    """Whether a text may have an id in which letters stand between the digits."""
    return _MIXED.search(text) is not None


def national_ids(text: str) -> Iterator[Span]:
    """National ids of folded text whose checksum is right, with any separators."""
    for pattern, is_valid in _IDS:
        for match in pattern.finditer(text):
            if is_valid(_BARE_NUMBER.sub("", match[0]).upper()):
                yield Span(match.start(), match.end(), "ID")


def documents(text: str, words: Set[str]) -> Iterator[Span]:
    """Numbers of passports, licences, ids and plates of folded text, next to the word for them."""
    if not (_DOCUMENT_WORDS.isdisjoint(words) and text.isascii()):
        for pattern in (_DOCUMENT, _PLATE):
            for match in pattern.finditer(text):
                if any(character.isdigit() for character in match[1]):
                    yield Span(*match.span(1), "ID")
    if not text.isascii():
        for pattern in (_CHINESE_PLATE, _JAPANESE_PLATE):
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), "ID")


def birth_dates(text: str, words: Set[str]) -> Iterator[Span]:
    """Dates of folded text next to a word about birth."""
    if _BIRTH_WORDS.isdisjoint(words) and text.isascii():
        return
    for match in _BIRTH.finditer(text):
        yield Span(*match.span(1 if match[1] else 2), "BIRTHDATE")
