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


def words(text: str) -> list[str]:
    return text.split()


DATA = Path(__file__).parent / "data"
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "zh", "ja", "ko")
AROUND = {
    "en": [
        "Please use {} for my order.",
        "The kettle leaks, {} is how you find me.",
        "{} - thanks a lot",
        "I typed {} twice.",
    ],
    "de": ["Bitte nehmen Sie {} für die Bestellung.", "Der Kocher tropft, {} gilt noch.", "{} - vielen Dank"],
    "fr": ["Merci de noter {} pour ma commande.", "La bouilloire fuit, voici {} encore.", "{} - merci bien"],
    "es": ["Por favor anoten {} para mi pedido.", "La tetera gotea, aquí tienen {} otra vez.", "{} - muchas gracias"],
    "pt": ["Por favor anotem {} para a encomenda.", "A chaleira pinga, aqui está {} de novo.", "{} - muito obrigada"],
    "it": ["Per favore usate {} per il mio ordine.", "Il bollitore perde, ecco {} di nuovo.", "{} - grazie mille"],
    "zh": ["请用{}处理我的订单。", "水壶漏水了，{}，谢谢。", "{}，麻烦了"],
    "ja": ["注文には{}を使ってください。", "ケトルが漏れます。{} です。", "{}、よろしくお願いします"],
    "ko": ["주문에 {} 사용해 주세요.", "주전자가 새요. {} 입니다.", "{} 감사합니다"],
}
FIRST = {
    "en": words("Oliver Amelia Harriet Desmond Priya Callum"),
    "de": words("Anneliese Jürgen Thorsten Sabine Käthe Uwe"),
    "fr": words("Élodie Mathieu Guillaume Solène Benoît Margaux"),
    "es": words("Íñigo Lucía Javier Rocío Álvaro Marisol"),
    "pt": words("João Inês Thiago Mariana Rui Beatriz"),
    "it": words("Giulia Lorenzo Chiara Matteo Ilaria Davide"),
}
LAST = {
    "en": words("Whitcombe O'Hara Ashworth Okafor Blythe-Jones Pemberton"),
    "de": words("Müller Schönfeld Vogt Krämer Weiß Brandauer"),
    "fr": words("Lefèvre Dupont Moreau Girard Béranger Chastain"),
    "es": words("Muñoz Ibáñez Quintana Zúñiga Herrero Olmedo"),
    "pt": words("Gonçalves Figueiredo Tavares Simões Magalhães Couto"),
    "it": words("Bianchi Esposito Ferrari Colombo Marchetti Rinaldi"),
}
ASIAN = {
    "zh": ["王小明", "李娜", "张伟强", "欧阳文静", "陈思远", "刘洋"],
    "ja": ["田中太郎", "佐藤花子", "山本", "高橋 健", "渡辺さくら", "中村"],
    "ko": ["김민수", "이서연", "박지훈", "최유진", "정하늘", "강도윤"],
}
INTRODUCED = {
    "en": [
        "Hello, my name is {} and the lamp is broken.",
        "My name's {}. Where is my parcel?",
        "Hi, I'm called {}, I ordered a kettle.",
        "The blender arrived broken.\n\nKind regards,\n{}",
        "Please send a new lid. Yours sincerely, {}",
        "Where is it?\nBest regards\n{}",
        "Name: {}, the order is late",
        "This is {} from Leeds, the mug is chipped.",
    ],
    "de": [
        "Hallo, mein Name ist {} und die Lampe ist kaputt.",
        "Ich heiße {}. Wo ist mein Paket?",
        "Der Mixer ist defekt.\n\nMit freundlichen Grüßen\n{}",
        "Bitte um Ersatz. Viele Grüße, {}",
    ],
    "fr": [
        "Bonjour, je m'appelle {} et la lampe est cassée.",
        "Mon nom est {}. Où est mon colis ?",
        "Le mixeur est cassé.\n\nCordialement,\n{}",
    ],
    "es": [
        "Hola, me llamo {} y la lámpara está rota.",
        "Mi nombre es {}. ¿Dónde está mi paquete?",
        "La batidora falla.\n\nSaludos,\n{}",
        "No llegó. Atentamente, {}",
    ],
    "pt": [
        "Olá, meu nome é {} e a lâmpada quebrou.",
        "Me chamo {}. Onde está o pacote?",
        "A batedeira falha.\n\nAtenciosamente,\n{}",
    ],
    "it": [
        "Buongiorno, mi chiamo {} e la lampada è rotta.",
        "Il mio nome è {}. Dov'è il pacco?",
        "Il frullatore è rotto.\n\nCordiali saluti,\n{}",
    ],
    "zh": ["你好，我叫{}，灯坏了。", "我的名字是{}，包裹在哪里？", "收件人：{}，请尽快发货", "姓名：{}"],
    "ja": ["はじめまして、{}と申します。ランプが壊れました。", "名前は{}です。荷物はどこですか。", "私は{}です。"],
    "ko": ["안녕하세요, 제 이름은 {}입니다. 램프가 고장 났어요.", "저는 {}입니다. 택배가 어디 있나요?"],
}
ADDRESSES = {
    "en": [
        "14 Whitmore Street",
        "221b Baker Street, London NW1 6XE",
        "7 Larkspur Crescent",
        "1600 Pennsylvania Avenue",
        "92 Old Mill Lane",
        "Flat 3, 18 Harbour Terrace",
        "4821 Willow Creek Road",
        "55 Marlow Gardens, Bristol",
        "301 Cedar Boulevard, Austin, TX 78701",
        "12 Kingfisher Drive, Leeds LS1 4AB",
    ],
    "de": [
        "Hauptstraße 12a",
        "Lindenallee 7, 10115 Berlin",
        "Goethestr. 45",
        "Mühlenweg 3, 50667 Köln",
        "Am Kirchberg 19",
        "Rosengasse 8",
    ],
    "fr": [
        "12 rue de la Paix",
        "45 bis, avenue des Ternes, 75017 Paris",
        "8 boulevard Voltaire",
        "3 impasse du Moulin",
        "27 chemin des Vignes",
        "19 place de la République",
    ],
    "es": [
        "calle de Alcalá 45",
        "Avenida de la Constitución, 12",
        "C/ Mayor 7",
        "Paseo de Gracia 88",
        "Plaza de España nº 3",
        "Calle Serrano 110, 28006 Madrid",
    ],
    "pt": [
        "Rua das Flores 23",
        "Avenida Paulista, 1578",
        "Travessa do Carmo 9",
        "Rua Augusta, nº 482",
        "Praça da Figueira 5",
        "Alameda Santos 1200",
    ],
    "it": [
        "Via Garibaldi 14",
        "Viale Europa 22",
        "Piazza Dante 3",
        "Via San Martino, 8",
        "Vicolo Stretto 6",
        "Via della Spiga 31",
    ],
    "zh": [
        "中山路88号3栋502室",
        "北京市朝阳区建国路12号院3号楼1单元801室",
        "南京东路299弄6号402室",
        "阳光花园5栋2单元1203室",
        "杭州市西湖区文三路478号",
        "幸福小区7号楼3层301",
    ],
    "ja": [
        "東京都新宿区西新宿2-8-1",
        "〒150-0041 東京都渋谷区神南1丁目19番11号",
        "大阪市北区梅田3丁目1番3号",
        "京都市左京区吉田本町36-1",
        "横浜市中区山下町123番地",
        "神奈川県川崎市川崎区駅前本町11-2",
    ],
    "ko": [
        "서울특별시 강남구 테헤란로 152",
        "부산광역시 해운대구 센텀중앙로 97",
        "경기도 성남시 분당구 판교역로 235",
        "서울시 마포구 월드컵북로 396",
        "대전시 유성구 대학로 99",
        "서울시 종로구 세종대로 175",
    ],
}
LIVES = {
    "en": ["I live at {}.", "Please deliver to {}, thanks.", "My address is {}"],
    "de": ["Ich wohne in der {}.", "Bitte liefern an: {}", "Meine Adresse: {}, danke"],
    "fr": ["J'habite au {}.", "Livrez au {}, merci.", "Mon adresse : {}"],
    "es": ["Vivo en {}.", "Envíen a {}, gracias.", "Mi dirección: {}"],
    "pt": ["Moro na {}.", "Entreguem em {}, obrigado.", "Meu endereço: {}"],
    "it": ["Abito in {}.", "Consegnate in {}, grazie.", "Indirizzo: {}"],
    "zh": ["我住在{}。", "请送到{}，谢谢", "地址：{}"],
    "ja": ["住所は{}です。", "{}に送ってください。", "届け先：{}"],
    "ko": ["주소는 {}입니다.", "{}로 보내 주세요.", "배송지: {}"],
}
SAID = {
    "passport": {
        "en": "passport number {}",
        "de": "Reisepass {}",
        "fr": "passeport n° {}",
        "es": "pasaporte {}",
        "pt": "passaporte {}",
        "it": "passport {}",
        "zh": "护照号{}",
        "ja": "パスポート番号は{}",
        "ko": "여권번호 {}",
    },
    "licence": {
        "en": "driving licence {}",
        "de": "Führerschein {}",
        "fr": "permis de conduire {}",
        "es": "licencia de conducir {}",
        "pt": "carta de condução {}",
        "zh": "驾驶证号{}",
        "ja": "運転免許証番号は{}",
        "ko": "운전면허 {}",
    },
    "plate": {
        "en": "number plate {}",
        "de": "Kennzeichen {}",
        "fr": "immatriculation {}",
        "es": "matrícula {}",
        "pt": "matrícula {}",
        "zh": "车牌{}",
        "en2": "car registration {}",
    },
    "birth date": {
        "en": "I was born on {}",
        "en2": "my date of birth is {}",
        "de": "geboren am {}",
        "fr": "née le {}",
        "es": "fecha de nacimiento: {}",
        "pt": "nascido em {}",
        "zh": "出生日期：{}",
        "ja": "生年月日は{}",
        "ko": "생년월일 {}",
    },
    "handle": {
        "en": "follow me on Instagram: {}",
        "en2": "I am @{} there",
        "de": "Telegram: @{}",
        "fr": "mon insta : {}",
        "es": "mi Twitter es @{}",
        "pt": "skype: {}",
        "zh": "我的微信号是{}",
        "ja": "LINE ID: {}",
        "ko": "카톡 아이디: {}",
    },
    "password": {
        "en": "my password is {}",
        "en2": "pwd: {}",
        "de": "Passwort: {}",
        "fr": "mot de passe : {}",
        "es": "mi contraseña es {}",
        "pt": "senha: {}",
        "it": "password: {}",
        "zh": "密码是{}",
        "ja": "パスワードは{}",
        "ko": "비밀번호: {}",
    },
    "account": {
        "en": "my account number is {}",
        "en2": "customer no. {}",
        "de": "Kundennummer {}",
        "fr": "compte n° {}",
        "es": "cuenta: {}",
        "pt": "conta: {}",
        "zh": "账号是{}",
        "ja": "口座番号は{}",
        "ko": "계좌 {}",
    },
}


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
