"""Street addresses in Western languages: house number and street, with the flat, postcode and town beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from lm.redaction.span import Span, word_set

_NAME = r"[A-Za-zÀ-ÖØ-öø-ž][\w'’.\-]{0,30}"
_HOUSE = r"(?:\d{1,5}(?:[ -]?[A-Za-z](?![A-Za-z0-9]))?(?:[-/]\d{1,4}[A-Za-z]?)?)"
_UNIT = (
    r"(?:(?:flat|apt|apartment|unit|suite|ste|room|rm|floor|fl|building|bldg|block|house|no)\.? "
    r"?#?\d{1,5}[A-Za-z]?|#\d{1,5}[A-Za-z]?)"
)
#: Suffixes that hardly occur in product texts, and those that do: they need a capital letter or a word before.
_CLEAR = (
    "street|avenue|boulevard|crescent|terrace|lane|highway|parkway|turnpike|cul-de-sac|ave|blvd|cres|hwy"
    "|pkwy|rd|gardens"
)
_UNCLEAR = (
    "st|road|drive|dr|court|ct|place|pl|square|sq|way|close|grove|mews|row|walk|hill|park|trail|circle"
    "|cir|loop|rise|gate|ln|terr|plaza"
)
_NOT_STREETS = (
    "(?:gb|tb|mb|hard|usb|flash|inch|in|ft|mm|cm|m|kg|pack|pc|pcs|piece|pieces|set|star|stars|speed|volt"
    "|v|w|watt|external|internal"
    "|disk|disc|cd|dvd|optical|solid|thumb|pen|zip|x|for|and|or|of|the|a|an|to|on|is|was|it|this|with"
    "|years?|days?|months?|weeks?"
    "|hours?|minutes?|mins?|miles?|people|times|lane|way|off|per|from|my|his|her|our|your|their|down|up"
    "|by|at|door|seater|wheel"
    r"|more|other|different|every|socket|impact|piece|person|place|cup|oz|bike|gal|gallon|degree|degrees|called)"
)
_WORDS = rf"(?:(?!{_NOT_STREETS}\b){_NAME} ){{1,3}}?"
_TOWN = (
    r"(?:[,\n] ?(?:(?!Order|Thanks|Thank|Please|My|The|I\b)[A-ZÀ-Ö][\w'’.\-]+ ?){1,3})"
    r"(?:[,\n]? ?(?:[A-Z]{2},? ?)?(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})\b)?"
)
_AFTER = rf"(?:,? {_UNIT})?(?-i:{_TOWN})?"
_ENGLISH = re.compile(rf"(?<![\w.,$€£]){_HOUSE},? {_WORDS}(?:{_CLEAR})\b\.?{_AFTER}", re.I)
_ENGLISH_TITLED = re.compile(
    rf"(?<![\w.,$€£])(?:\d{{1,5}}[A-Za-z]?),? (?:(?!(?i:{_NOT_STREETS})\b)[A-ZÀ-Ö][\w'’.\-]{{0,30}} ){{1,3}}"
    rf"(?:(?i:{_CLEAR})|{'|'.join(s.capitalize() for s in _UNCLEAR.split('|'))})\b\.?(?:,? (?i:{_UNIT}))?{_TOWN}?"
)
_LIVES = (
    "(?:live[sd]? (?:at|in|on)|living (?:at|in|on)|address(?: is|:| =)?|(?:deliver(?:ed)?|ship(?:ped)?"
    "|sent|send|post(?:ed)?|mail(?:ed)?)"
    "(?: it| this| them| that| the parcel| everything| my order)?(?: to| at)|moved to|come to|residing "
    "at|reside at|located at|home at|house at|to)"
    r" ?[:,]? ?"
)
_ENGLISH_LIVES = re.compile(
    rf"\b{_LIVES}((?:{_UNIT},? )?{_HOUSE},? {_WORDS}(?:{_CLEAR}|{_UNCLEAR})\b\.?{_AFTER})", re.I
)
_STATED = re.compile(
    r"(?:\b(?i:address(?: is|:)|live[sd]? at|located at|deliver to|ship to|meet me at|send it to|offices? "
    r"(?:is|are) at))\s{1,6}"
    rf"((?:(?i:{_UNIT}),? )?(?:\d{{1,5}} )?(?:[A-ZÀ-ÖØ-Þ][\w'’.\-]+ ){{1,4}}\d{{1,5}}[a-z]?(?!\w)"
    r"|\d{1,5} (?:[A-ZÀ-ÖØ-Þ][\w'’.\-]+ ?){1,4})"
)
_UNIT_BEFORE = re.compile(rf"{_UNIT},? ?$", re.I)
_POSTCODE = re.compile(
    "(?<![A-Za-z0-9])(?:AB|AL|BA|BB|BD|BH|BL|BN|BR|BS|BT|CA|CB|CF|CH|CM|CO|CR|CT|CV|CW|DA|DD|DE|DG|DH|DL"
    "|DN|DT|DY|EC|EH|EN|EX|FK"
    "|FY|GL|GU|HA|HD|HG|HP|HR|HS|HU|HX|IG|IP|IV|KA|KT|KW|KY|LA|LD|LE|LL|LN|LS|LU|ME|MK|ML|NE|NG|NN|NP|NR"
    "|NW|OL|OX|PA|PE|PH|PL|PO|PR"
    r"|RG|RH|RM|SA|SE|SG|SK|SL|SM|SN|SO|SP|SR|SS|ST|SW|SY|TA|TD|TF|TN|TQ|TR|TS|TW|UB|WA|WC|WD|WF|WN|WR|WS|WV|YO|ZE)"
    r"\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}(?![A-Za-z0-9])"
)
_POSTCODE_SAID = re.compile(
    r"\b(?:post ?code|zip(?: code)?|postal code|plz|postleitzahl|code postal|código postal|cep)"
    r"(?: is|:| =| ist| est| es| é)? ?([A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{4,5}(?:-\d{3,4})?)\b",
    re.I,
)
_PO_BOX = re.compile(
    (
        r"\b(?:p\.? ?o\.? ?box|postfach|boîte postale|apartado(?: postal)?|caixa postal) ?:?#? ?\d{2,6}"
        r"|\b(?:psc|unit|cmr) \d{3,5},? box \d{3,5}"
    ),
    re.I,
)

_GERMAN = re.compile(
    r"(?<!\w)(?:(?:[A-ZÄÖÜa-zäöüß][\wäöüß.\-]*?(?:straße|strasse|str\.?|gasse|allee|chaussee|ufer)"
    r"|(?:[A-ZÄÖÜ][\wäöüß.\-]* ){1,2}(?:Straße|Strasse|Str\.|Allee|Gasse|Ring|Weg|Platz|Damm|Ufer)"
    r"|[A-ZÄÖÜ][\wäöüß\-]{2,}?(?:weg|platz|damm)|(?:Am|An der|An den|Auf der|Auf dem|Im|In der|Zum|Zur"
    r"|Unter den) [A-ZÄÖÜ][\wäöüß\-]+(?: [A-ZÄÖÜ][\wäöüß\-]+)?)"
    r" ?\d{1,4}(?: ?[a-zA-Z](?![\w]))?(?:-\d{1,4})?(?![\d.,]\d|\d| ?(?:cm|mm|m|kg|€|%))"
    r"(?:[,\n] ?(?:D-)?\d{5} [A-ZÄÖÜ][\wäöüß\-]+)?"
    r"|[A-ZÄÖÜ][\wäöüß\-]{3,}ring \d{1,4}(?: ?[a-z](?!\w))?[,\n] ?\d{5} [A-ZÄÖÜ][\wäöüß\-]+)"
)
_GERMAN_ANY = re.compile(
    (
        r"(?<!\w)[\wäöüß.\-]{2,}(?:straße|strasse|str\.?|gasse|allee) ?\d{1,4}(?: ?[a-z](?!\w))?(?![\d.,]\d"
        r"|\d)|(?<!\w)[\wäöüß\-]{3,}(?:weg|platz|damm|ring) \d{1,4}(?: ?[a-z])?(?=[,\n] ?\d{5})"
    ),
    re.I,
)

_ARTICLE = r"(?:d[eu]s?|de l[ae]s?|de l['’]|d['’]|l[ae]s?|l['’]|del|do|da|dos|das|aux?|du)"
_FRENCH = re.compile(
    r"(?<![\w.,])\d{1,4}(?: ?(?:bis|ter|quater|[A-D](?!\w)))?,? ?(?:rue|r\.|avenue|av\.|boulevard|bd\.?"
    "|allées?|impasse|chemin|quai|faubourg|sentier|(?:place|square|route|cours|passage)(?= (?:de|du|des"
    "|la|le|les|[dl]['’])))"
    f" (?:{_ARTICLE} ?)?(?:{_ARTICLE} ?)?{_NAME}(?:(?: |-)(?:{_ARTICLE} "
    r"?)?(?-i:[A-ZÀ-Ö])[\w'’\-]+){0,3}(?:,? ?\d{5} (?-i:[A-ZÀ-Ö])[\w'’\-]+)?",
    re.I,
)
_IBERIAN = re.compile(
    r"(?<!\w)(?:calle|c/|avenida|avda\.?|av\.|paseo|pza\.?|plaza|carrer|camino|carretera|ronda|travesía"
    r"|rua|r\.|travessa|praça|alameda|rodovia|estrada|largo)(?![a-zà-ÿ])"
    f" ?(?:{_ARTICLE} )?(?:{_ARTICLE} )?{_NAME}(?: (?:{_ARTICLE} )?(?:{_ARTICLE} )?(?!n[ºo°.]|num"
    f"|número){_NAME}){{0,4}}?"
    r",? ?(?:n[ºo°]?\.? ?|núm\.? ?|número )?\d{1,5}(?![\d.,]\d|\d)(?: ?[A-Za-z](?!\w))?"
    r"(?:,? ?\d{1,2} ?[ºª°](?: ?(?:[A-Za-z]|izq|dcha|esq|dto)\.?(?!\w))?)?(?:,? ?\d{4,5}(?:-\d{3})? "
    r"(?-i:[A-ZÀ-Ö])[\w'’\-]+)?",
    re.I,
)
_ITALIAN = re.compile(
    r"(?<!\w)(?:Via|Viale|Piazza|Piazzale|Vicolo) (?:(?:d[ei]l?l?[ao']?|San|Santa) ?)?[A-ZÀ-Ö][\w'’]+(?: "
    r"[A-ZÀ-Ö][\w'’]+){0,2},? \d{1,4}(?![\d.,]\d|\d)"
    r"(?:,? \d{5} [A-ZÀ-Ö]\w+)?"
)
_RUSSIAN = re.compile(
    r"(?:ул\.?|улиц[аеыу]|проспект[еа]?|пр-т|пр\.|переул(?:ок|ке)|пер\.|шоссе|бульвар[еа]?|набережн\w+) "
    r"?[А-ЯЁа-яё][\w.\- ]{1,30}?,? ?(?:д(?:ом)?\.? ?)?\d{1,4}[а-яА-Я]?"
    r"(?:,? ?(?:корп(?:ус)?|к|стр)\.? ?\d{1,3})?(?:,? ?кв(?:артира)?\.? ?\d{1,4})?",
    re.I,
)
_STREETS = frozenset(f"{_CLEAR}|{_UNCLEAR}".split("|"))
_PATTERNS = (
    (
        _FRENCH,
        word_set(
            "rue r avenue av boulevard bd allée allées impasse chemin quai place square route cours faubourg "
            "passage sentier"
        ),
    ),
    (_ITALIAN, word_set("via viale piazza piazzale vicolo")),
    (_PO_BOX, word_set("box postfach postale apartado caixa")),
    (
        _IBERIAN,
        word_set(
            "calle c avenida avda av paseo pza plaza carrer camino carretera ronda travesía rua r travessa praça "
            "alameda rodovia "
            "estrada largo"
        ),
    ),
)
"""Patterns with the words in lower case of which one stands in each match."""
_STATING = word_set("address live lived lives located deliver ship meet send office offices")
_CODES = word_set("post postcode zip postal plz postleitzahl cep")
_MAY_BE_GERMAN = re.compile(
    r"straße|strasse|str\.?|gasse|allee|chaussee|ufer|weg|platz|damm|ring|\b(?:Am|An|Auf|Im|In|Zum|Zur|Unter)\b", re.I
)


_FLAT = re.compile(
    ",? ?(?:(?:apto|apt|appt|appartement|ap|depto|piso|bloco|esc|puerta|pta|andar|whg|wohnung|int"
    r"|interno|scala)\.? ?\d{1,4}[A-Z]?"
    r"|\d{1,2} ?[ºª°] ?[A-Z]?)(?!\w)",
    re.I,
)
_TAIL = re.compile(
    r"(?:[,\n]?(?: in)? ?[^\W\d_][\w'’\-]+(?: [^\W\d_][\w'’\-]+)?)?[,\n]? ?(?:(?:[A-Z]-)?\d{4,5}(?:-\d{3})? "
    r"(?!Uhr|EUR|euro)[^\W\d_][\w'’\-]+"
    r"|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b)",
    re.I,
)


def addresses(text: str, words: Set[str]) -> Iterator[Span]:
    """Addresses of folded text that have a digit, with the postcode and town after them. Spans may overlap."""
    for start, end, kind in _streets(text, words):
        flat = _FLAT.match(text, end)
        end = flat.end() if flat else end
        tail = _TAIL.match(text, end)
        yield Span(start, tail.end() if tail else end, kind)


def _streets(text: str, words: Set[str]) -> Iterator[Span]:
    if not _STREETS.isdisjoint(words):
        for pattern in (_ENGLISH, _ENGLISH_TITLED):
            for match in pattern.finditer(text):
                unit = _UNIT_BEFORE.search(text, max(0, match.start() - 20), match.start())
                yield Span(unit.start() if unit else match.start(), match.end(), "ADDRESS")
        for match in _ENGLISH_LIVES.finditer(text):
            yield Span(*match.span(1), "ADDRESS")
    if not _STATING.isdisjoint(words):
        for match in _STATED.finditer(text):
            yield Span(*match.span(1), "ADDRESS")
    patterns = [_POSTCODE]
    for pattern, first_words in _PATTERNS:
        if not first_words.isdisjoint(words):
            patterns.append(pattern)
    if _MAY_BE_GERMAN.search(text):
        patterns += [_GERMAN, _GERMAN_ANY]
    if not text.isascii():
        patterns.append(_RUSSIAN)
    for pattern in patterns:
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "ADDRESS")
    if _CODES.isdisjoint(words):
        return
    for match in _POSTCODE_SAID.finditer(text):
        yield Span(*match.span(1), "ADDRESS")
