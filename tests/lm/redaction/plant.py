"""Writes the planted and the clean texts that redaction is measured on, into the folder `data`.

    python -m tests.lm.redaction.plant

Values come from hand-written lists, python-stdnum's check digits and phonenumbers' examples; nothing of lm.redaction is
used. No value belongs to a person. Each planted line has its kind, language, twist, text and what must not be readable
any more: `digits` (a number) or `words` (each of them).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import phonenumbers
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.it import codicefiscale
from stdnum.kr import rrn

from tests.lm.redaction.phrases import ADDRESSES, AROUND, ASIAN, FIRST, INTRODUCED, LAST, LIVES, SAID, words

DATA = Path(__file__).parent / "data"
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "zh", "ja", "ko")


def main() -> None:
    """Write data/planted.jsonl and data/clean.jsonl."""
    DATA.mkdir(exist_ok=True)
    planted = [dict(zip(("kind", "language", "twist", "text", "hidden"), row, strict=True)) for row in _planted()]
    for name, rows in (("planted", planted), ("clean", list(_clean()))):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (DATA / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(name, len(rows))


Row = tuple[str, str, str, str, dict[str, Any]]


def _planted() -> Iterator[Row]:
    rng = random.Random(20260301)
    yield from _numbers(rng)
    yield from _emails(rng)
    yield from _names(rng)
    yield from _addresses(rng)
    yield from _said(rng)
    yield from _online(rng)


def _within(language: str, value: str, rng: random.Random) -> str:
    return rng.choice(AROUND[language]).replace("{}", value)


# numbers


def _phone(region: str, rng: random.Random) -> tuple[str, str]:
    """A valid number in national or international form, and its significant digits."""
    kind = rng.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
    number = phonenumbers.example_number_for_type(region, kind)
    candidate = number
    for _ in range(100):
        candidate = phonenumbers.PhoneNumber()
        candidate.merge_from(number)
        candidate.national_number = number.national_number // 1000 * 1000 + rng.randrange(1000)
        if phonenumbers.is_valid_number(candidate):
            break
    form = rng.choice(
        [
            phonenumbers.PhoneNumberFormat.INTERNATIONAL,
            phonenumbers.PhoneNumberFormat.E164,
            phonenumbers.PhoneNumberFormat.NATIONAL,
        ]
    )
    return phonenumbers.format_number(candidate, form), str(candidate.national_number)


def _card(rng: random.Random) -> str:
    start, length = rng.choice(
        [("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("3530", 16), ("62", 19)]
    )
    body = start + "".join(rng.choice("0123456789") for _ in range(length - 1 - len(start)))
    return body + luhn.calc_check_digit(body)


def _grouped(digits: str, gap: str = " ") -> str:
    if len(digits) == 15:
        return gap.join([digits[:4], digits[4:10], digits[10:]])
    return gap.join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _iban(rng: random.Random) -> str:
    country, letters, count = rng.choice(
        [
            ("DE", "", 18),
            ("GB", "NWBK", 14),
            ("FR", "", 23),
            ("ES", "", 20),
            ("PT", "", 21),
            ("NL", "INGB", 10),
            ("IT", "X", 22),
        ]
    )
    while True:
        bban = letters + "".join(rng.choice("0123456789") for _ in range(count))
        code = country + iban.calc_check_digits(country + "00" + bban) + bban
        if iban.is_valid(code, check_country=False):
            return code


def _resident_id(rng: random.Random) -> str:
    body = (
        rng.choice(["110101", "310104", "440305", "330106"])
        + f"{rng.randrange(1955, 2004)}{rng.randrange(1, 13):02}{rng.randrange(1, 28):02}{rng.randrange(1000):03}"
    )
    return body + ric.calc_check_digit(body + "0")


def _nir(rng: random.Random) -> str:
    body = (
        f"{rng.choice('12')}{rng.randrange(45, 99)}{rng.randrange(1, 13):02}{rng.randrange(10, 95)}"
        f"{rng.randrange(1, 900):03}{rng.randrange(1, 999):03}"
    )
    return body + f"{97 - int(body) % 97:02}"


def _dni(rng: random.Random) -> str:
    body = f"{rng.randrange(10**7, 10**8)}"
    return body + dni.calc_check_digit(body)


def _nie(rng: random.Random) -> str:
    body = rng.choice("XYZ") + f"{rng.randrange(10**6, 10**7)}"
    return body + nie.calc_check_digit(body)


def _cpf(rng: random.Random) -> str:
    body = f"{rng.randrange(10**8, 10**9)}"
    return cpf.format(body + cpf._calc_check_digits(body))


def _rrn(rng: random.Random) -> str:
    while True:
        code = (
            f"{rng.randrange(60, 99)}{rng.randrange(1, 13):02}{rng.randrange(1, 28):02}{rng.choice('12')}"
            f"{rng.randrange(10**6):06}"
        )
        if rrn.is_valid(code):
            return f"{code[:6]}-{code[6:]}"


def _idnr(rng: random.Random) -> str:
    while True:
        code = f"{rng.randrange(10**10, 10**11)}"
        if idnr.is_valid(code):
            return f"{code[:2]} {code[2:5]} {code[5:8]} {code[8:]}"


def _codice(rng: random.Random) -> str:
    body = (
        f"{rng.choice(['RSSMRA', 'BNCLRA', 'VRDGPP', 'SPSMTT'])}{rng.randrange(50, 99)}"
        f"{rng.choice('ABCDEHLMPRST')}{rng.randrange(1, 28):02}H501"
    )[:15]
    return body + codicefiscale.calc_check_digit(body)


def _ssn(rng: random.Random) -> str:
    return f"{rng.randrange(100, 600):03}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}"


def _nino(rng: random.Random) -> str:
    return f"{rng.choice(['AB', 'CE', 'JK', 'PX', 'SR'])}{rng.randrange(10**5, 10**6)}{rng.choice('ABCD')}"


def _digits_of(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _respaced(value: str, gap: str) -> str:
    """Another separator in place of spaces and hyphens; before every fourth character if there are none."""
    bare = value.replace("(", "").replace(")", "")
    if not any(c in " -." for c in bare):
        bare = " ".join(bare[i : i + 4] for i in range(0, len(bare), 4)) if len(bare) > 8 else bare
    for separator in " -.":
        bare = bare.replace(separator, gap)
    return bare


ENGLISH = dict(zip("0123456789", words("zero one two three four five six seven eight nine"), strict=True))
CHINESE = dict(zip("0123456789", "零一二三四五六七八九", strict=True))
GERMAN = dict(zip("0123456789", words("null eins zwei drei vier fünf sechs sieben acht neun"), strict=True))
FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in "0123456789@.-+ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
NUMBER_TWISTS: dict[str, Callable[[str], str]] = {
    "zero-width": lambda v: "\u200b".join(v),
    "word joiner": lambda v: v.replace(" ", "\u2060 \u2060") if " " in v else v[:5] + "\u2060" + v[5:],
    "soft hyphen": lambda v: v[:3] + "\u00ad" + v[3:7] + "\u00ad" + v[7:],
    "full-width": lambda v: v.translate(FULL_WIDTH),
    "lines": lambda v: _respaced(v, "\n"),
    "blank lines": lambda v: _respaced(v, "\r\n \r\n"),
    "underscore": lambda v: _respaced(v, "_"),
    "comma": lambda v: _respaced(v, ","),
    "star": lambda v: _respaced(v, "*"),
    "bar": lambda v: _respaced(v, "|"),
    "emoji": lambda v: _respaced(v, "😀"),
    "no-break space": lambda v: _respaced(v, "\u00a0"),
    "entity": lambda v: _respaced(v, "&nbsp;"),
    "dash": lambda v: _respaced(v, " – "),
    "keycaps": lambda v: "".join(c + "\ufe0f\u20e3" if c.isdigit() else c for c in v),
    "arabic digits": lambda v: v.translate(ARABIC),
    "entity digits": lambda v: "".join(f"&#{ord(c)};" if c.isdigit() else c for c in v),
}
WORD_TWISTS = {
    "English words": ("en", lambda v: " ".join(ENGLISH[c] for c in _digits_of(v))),
    "Chinese words": ("zh", lambda v: "".join(CHINESE[c] for c in _digits_of(v))),
    "German words": ("de", lambda v: " ".join(GERMAN[c] for c in _digits_of(v))),
}


def _numbers(rng: random.Random) -> Iterator[Row]:
    region_of = {
        "en": "GB",
        "de": "DE",
        "fr": "FR",
        "es": "ES",
        "pt": "PT",
        "it": "IT",
        "zh": "CN",
        "ja": "JP",
        "ko": "KR",
    }
    for language, region in region_of.items():
        for _ in range(5):
            value, digits = _phone(region if rng.random() < 0.8 or language != "en" else "US", rng)
            yield "phone", language, "", _within(language, value, rng), {"digits": digits}
    for twist, change in NUMBER_TWISTS.items():
        for language in rng.sample(["en", "de", "fr", "zh", "es", "ja"], 2):
            value, digits = _phone(region_of[language], rng)
            yield "phone", language, twist, _within(language, change(value), rng), {"digits": digits}
    for twist, (language, spell) in WORD_TWISTS.items():
        for _ in range(5):
            value, digits = _phone(region_of[language], rng)
            yield "phone", language, twist, _within(language, spell(value), rng), {"digits": digits}
    kinds: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
        "card": (_card, LANGUAGES),
        "iban": (_iban, ("en", "de", "fr", "es", "pt", "it")),
        "resident id": (_resident_id, ("zh", "en")),
        "nir": (_nir, ("fr", "en")),
        "dni": (_dni, ("es",)),
        "nie": (_nie, ("es",)),
        "cpf": (_cpf, ("pt",)),
        "rrn": (_rrn, ("ko",)),
        "tax id": (_idnr, ("de",)),
        "codice fiscale": (_codice, ("it",)),
        "ssn": (_ssn, ("en",)),
        "nino": (_nino, ("en",)),
    }
    for kind, (make, languages) in kinds.items():
        for n in range(18 if kind in ("card", "iban") else 12):
            language = languages[n % len(languages)]
            value = make(rng)
            shown = [value, _grouped(value), _grouped(value, "-")][n % 3] if kind in ("card", "iban") else value
            yield kind, language, "", _within(language, shown, rng), {"digits": _digits_of(value)}
        for twist, change in NUMBER_TWISTS.items():
            if kind in ("cpf", "rrn", "tax id", "codice fiscale", "nino", "ssn", "dni", "nie") and twist in (
                "lines",
                "blank lines",
                "comma",
                "star",
                "bar",
                "emoji",
                "entity",
                "underscore",
                "dash",
                "no-break space",
            ):
                continue
            for _ in range(2 if kind in ("card", "iban") else 1):
                value, language = make(rng), rng.choice(languages)
                shown = _grouped(value) if kind in ("card", "iban") else value
                yield kind, language, twist, _within(language, change(shown), rng), {"digits": _digits_of(value)}
        if kind in ("card", "iban"):
            for _ in range(4):
                value = make(rng)
                yield (
                    kind,
                    "en",
                    "lower case, dots",
                    _within("en", _grouped(value.lower(), "."), rng),
                    {"digits": _digits_of(value)},
                )


# e-mail


def _emails(rng: random.Random) -> Iterator[Row]:
    hosts = [
        "example.com",
        "mail.example.org",
        "posteo.example.de",
        "firma-example.de",
        "example.co.uk",
        "exemple.fr",
        "correo-example.es",
        "qq.com",
    ]

    def make(language: str) -> tuple[str, str, str]:
        first = "".join(c for c in rng.choice(FIRST.get(language, FIRST["en"])).lower() if c.isascii())
        local = (
            first
            + rng.choice([".", "_", ""])
            + rng.choice(["lane", "berg", "k", "shopper"])
            + rng.choice(["", "84", "7"])
        )
        return local, rng.choice(hosts), local

    for language in LANGUAGES:
        for _ in range(4):
            local, host, hidden = make(language)
            yield "email", language, "", _within(language, f"{local}@{host}", rng), {"words": [hidden]}
    twists: dict[str, Callable[[str, str], str]] = {
        "spaces": lambda a, b: f"{a} @ {b}",
        "spaced dot": lambda a, b: f"{a} @ {b.replace('.', ' . ')}",
        "at dot": lambda a, b: f"{a} at {b.replace('.', ' dot ')}",
        "(at)": lambda a, b: f"{a}(at){b}",
        "[at] [dot]": lambda a, b: f"{a} [at] {b.replace('.', ' [dot] ')}",
        "AT DOT": lambda a, b: f"{a} AT {b.replace('.', ' DOT ')}",
        "entity": lambda a, b: f"{a}&#64;{b}",
        "hex entity": lambda a, b: f"{a}&#x40;{b}",
        "named entity": lambda a, b: f"{a}&commat;{b.replace('.', '&period;')}",
        "full-width": lambda a, b: f"{a}@{b}".translate(FULL_WIDTH),
        "zero-width": lambda a, b: "\u200b".join(f"{a}@{b}"),
        "upper case": lambda a, b: f"{a}@{b}".upper(),
        "soft hyphen": lambda a, b: f"{a[:3]}\u00ad{a[3:]}@\u200d{b}",
    }
    for twist, change in twists.items():
        for language in rng.sample(list(LANGUAGES[:7]), 4):
            local, host, hidden = make(language)
            yield "email", language, twist, _within(language, change(local, host), rng), {"words": [hidden]}


# names and addresses

WORD_TWISTS_ALL: dict[str, Callable[[str], str]] = {
    "zero-width": lambda v: "\u200b".join(v),
    "no-break space": lambda v: v.replace(" ", "\u00a0"),
    "soft hyphen": lambda v: v[:2] + "\u00ad" + v[2:],
}


def _names(rng: random.Random) -> Iterator[Row]:
    for language, templates in INTRODUCED.items():
        for template in templates:
            for _ in range(5 if len(templates) < 5 else 4):
                if language in ASIAN:
                    name = rng.choice(ASIAN[language])
                    words = [name.replace(" ", "")]
                else:
                    words = [rng.choice(FIRST[language]), rng.choice(LAST[language])][: rng.choice([1, 2, 2])]
                    name = " ".join(words)
                yield "name", language, "", template.replace("{}", name), {"words": words}
        for twist, change in WORD_TWISTS_ALL.items():
            template = templates[0]
            name = (
                rng.choice(ASIAN[language])
                if language in ASIAN
                else f"{rng.choice(FIRST[language])} {rng.choice(LAST[language])}"
            )
            yield "name", language, twist, template.replace("{}", change(name)), {"words": name.split()}
    for template in INTRODUCED["en"][:3]:
        for change, twist in ((str.lower, "lower case"), (str.upper, "upper case")):
            for _ in range(3):
                words = [rng.choice(FIRST["en"]), rng.choice(LAST["en"])]
                yield "name", "en", twist, template.replace("{}", change(" ".join(words))), {"words": words}


def _addresses(rng: random.Random) -> Iterator[Row]:
    for language, known in ADDRESSES.items():
        for number, address in enumerate(known):
            for template in rng.sample(LIVES[language], 2):
                yield f"address {language}", language, "", template.replace("{}", address), {"address": address}
            for twist, change in WORD_TWISTS_ALL.items():
                if number % 3 == 0 and (twist != "soft hyphen"):
                    yield (
                        f"address {language}",
                        language,
                        twist,
                        LIVES[language][0].replace("{}", change(address)),
                        {"address": address},
                    )
            if language in ("en", "de", "fr", "es", "pt") and number % 2:
                for change, twist in ((str.lower, "lower case"), (str.upper, "upper case")):
                    yield (
                        f"address {language}",
                        language,
                        twist,
                        LIVES[language][-1].replace("{}", change(address)),
                        {"address": address},
                    )
            if language == "zh":
                full = address.translate(FULL_WIDTH)
                yield "address zh", "zh", "full-width", f"地址：{full}", {"address": address}


# what stands next to its word


def _said(rng: random.Random) -> Iterator[Row]:
    def alnum(pattern: str) -> str:
        return "".join(
            rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") if c == "A" else rng.choice("0123456789") if c == "0" else c
            for c in pattern
        )

    def date(language: str) -> str:
        y, m, d = rng.randrange(1950, 2004), rng.randrange(1, 13), rng.randrange(1, 28)
        months = words("January February March April May June July August September October November December")
        if language in ("zh", "ja"):
            return f"{y}年{m}月{d}日"
        if language == "ko":
            return f"{y}년 {m}월 {d}일"
        if language.startswith("en"):
            return rng.choice(
                [f"{d} {months[m - 1]} {y}", f"{months[m - 1]} {d}, {y}", f"{d:02}/{m:02}/{y}", f"{y}-{m:02}-{d:02}"]
            )
        return rng.choice([f"{d:02}.{m:02}.{y}", f"{d:02}/{m:02}/{y}", f"{y}-{m:02}-{d:02}"])

    makers: dict[str, Callable[[str], str]] = {
        "passport": lambda _: alnum(rng.choice(["A0000000", "000000000", "00AA00000", "AA0000000"])),
        "licence": lambda _: alnum(rng.choice(["AAAAA000000AA0AA", "A00000000000", "00AA00000", "B0720000000"])),
        "plate": lambda lang: alnum(
            {"de": "B-AA 0000", "fr": "AA-000-AA", "es": "0000 AAA", "pt": "00-AA-00", "zh": "京A·00A00"}.get(
                lang, "AA00 AAA"
            )
        ),
        "birth date": date,
        "handle": lambda _: (
            rng.choice(FIRST["en"]).lower()
            + rng.choice(["_", "."])
            + rng.choice(["shops", "bakes", "rides"])
            + str(rng.randrange(10, 99))
        ),
        "password": lambda _: (
            rng.choice(["Tulpe", "sunrise", "kettle", "Zebra"])
            + rng.choice(["!", "#", "_"])
            + str(rng.randrange(100, 9999))
        ),
        "account": lambda _: alnum("00000000"),
    }
    for kind, templates in SAID.items():
        for tag, template in templates.items():
            language = tag[:2]
            for n in range(3):
                value = makers[kind](language)
                said = template.replace("{}", value)
                text = rng.choice(AROUND[language]).replace("{}", said)
                hidden = {"words": [value]} if kind in ("handle", "password") else {"code": value}
                yield kind, language, "", text, hidden
                if n == 0:
                    twisted = template.replace("{}", "\u200b".join(value))
                    yield kind, language, "zero-width", rng.choice(AROUND[language]).replace("{}", twisted), hidden
                if n == 1:
                    twisted = template.replace("{}", value.translate(FULL_WIDTH))
                    yield kind, language, "full-width", rng.choice(AROUND[language]).replace("{}", twisted), hidden


def _online(rng: random.Random) -> Iterator[Row]:
    def hexa(count: int) -> str:
        return "".join(rng.choice("0123456789abcdef") for _ in range(count))

    def secret(count: int) -> str:
        return "".join(rng.choice("abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789") for _ in range(count))

    makers: dict[str, Callable[[], tuple[str, str]]] = {
        "ipv4": lambda: (
            ip := f"{rng.randrange(20, 220)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}",
            ip,
        ),
        "ipv6": lambda: (ip := ":".join(["2001", "db8", hexa(4), hexa(4), hexa(4), hexa(4), hexa(4), hexa(4)]), ip),
        "mac": lambda: (mac := rng.choice(":-").join(hexa(2) for _ in range(6)), mac),
        "url token": lambda: (
            (s := secret(20))
            and f"https://shop.example/reset?id=7&{rng.choice(['token', 'access_token', 'key', 'sig', 'auth'])}={s}",
            s,
        ),
        "url password": lambda: ((s := secret(10)) and f"ftp://anna:{s}@files.example.com/a", s),
        "api key": lambda: (
            (s := secret(24)) and rng.choice(["sk_live_", "ghp_", "AKIA"]) + (s if rng.random() < 2 else ""),
            s,
        ),
    }
    for kind, make in makers.items():
        for n in range(14):
            language = LANGUAGES[n % len(LANGUAGES)]
            value, hidden = make()
            if kind == "api key" and value.startswith("AKIA"):
                hidden = hidden.upper()[:16]
                value = "AKIA" + hidden
            yield kind, language, "", _within(language, value, rng), {"words": [hidden]}
            if n % 3 == 0:
                yield kind, language, "zero-width", _within(language, "\u200b".join(value), rng), {"words": [hidden]}
            if n % 3 == 1 and kind in ("ipv4", "mac", "url token"):
                yield (
                    kind,
                    language,
                    "full-width",
                    _within(language, value.translate(FULL_WIDTH), rng),
                    {"words": [hidden]},
                )


# texts of a shop without personal data


def _clean() -> Iterator[dict[str, str]]:
    rng = random.Random(7)
    templates = (DATA / "clean_templates.txt").read_text(encoding="utf-8").splitlines()
    for line in templates:
        if not line.strip() or line.startswith("#"):
            continue
        topic, _, text = line.partition("|")
        copies = 5 if "<" in text else 1
        seen: set[str] = set()
        for _ in range(copies):
            filled = text.replace("\\n", "\n")
            for slot, fill in FILLS.items():
                while slot in filled:
                    filled = filled.replace(slot, fill(rng), 1)
            if filled not in seen:
                seen.add(filled)
                yield {"topic": topic, "text": filled}


FILLS: dict[str, Callable[[random.Random], str]] = {
    "<size>": lambda r: str(r.randrange(34, 48)),
    "<n>": lambda r: str(r.randrange(2, 99)),
    "<nn>": lambda r: str(r.randrange(100, 999)),
    "<nnnn>": lambda r: str(r.randrange(1000, 9999)),
    "<price>": lambda r: f"{r.randrange(3, 900)}.{r.choice(['99', '49', '00', '95'])}",
    "<cprice>": lambda r: f"{r.randrange(3, 900)},{r.choice(['99', '49', '00', '95'])}",
    "<date>": lambda r: f"{r.randrange(2019, 2027)}-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}",
    "<ddate>": lambda r: f"{r.randrange(1, 29):02}.{r.randrange(1, 13):02}.{r.randrange(2019, 2027)}",
    "<sdate>": lambda r: f"{r.randrange(1, 13):02}/{r.randrange(1, 29):02}/{r.randrange(2019, 2027)}",
    "<order>": lambda r: r.choice(
        [
            f"{r.randrange(10**7, 10**8)}",
            f"A{r.randrange(10**6, 10**7)}",
            f"{r.randrange(100, 999)}-{r.randrange(10**6, 10**7)}-{r.randrange(10**6, 10**7)}",
            f"{r.randrange(10**9, 10**10)}",
        ]
    ),
    "<ver>": lambda r: f"{r.randrange(1, 15)}.{r.randrange(0, 20)}.{r.randrange(0, 10)}",
    "<ean>": lambda r: f"40{r.randrange(10**10, 10**11)}",
}


if __name__ == "__main__":
    main()
