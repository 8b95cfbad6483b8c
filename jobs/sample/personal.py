"""Invented personal data that customers of the sample shop write into texts.

E-mail addresses use reserved domains (RFC 2606). Most phone numbers come from ranges reserved for fiction.
Card numbers are random with an issuer's prefix and a valid check digit (ISO/IEC 7812).
IBANs are random with valid check digits (ISO 13616).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jobs.sample.random import Dice

PersonalKind = Literal["email", "phone", "card", "iban"]


class PersonalData(NamedTuple):
    """A planted value and the sentence that contains it."""

    kind: PersonalKind
    value: str
    sentence: str


_FIRST = ("jane", "oliver", "amelia", "li.wei", "mohammed", "s", "tom", "grace", "zhang", "anna", "pierre", "k")
_LAST = ("smith", "jones", "taylor", "wang", "khan", "o'neill", "brown", "dupont", "mueller", "chen", "patel", "hughes")
_DOMAINS = ("example.com", "example.org", "mail.example.net", "example.co.uk", "post.example.cn", "web.example.de")
#: The kinds of planted values, repeated by their weights.
_KINDS: tuple[PersonalKind, ...] = (
    "email", "email", "email", "phone", "phone", "phone", "phone", "card", "card", "iban",
)  # fmt: skip
_SENTENCES = {
    "email": ("Please write to {}.", "My e-mail is {}", "Contact me at {} please.", "({})", "e-mail: {}."),
    "phone": ("Call me on {}.", "My number is {}", "You can reach me at {}, after 6.", "Tel. {}", "Ring {} please."),
    "card": ("I paid with card {}.", "My card number is {}", "Card {} was charged twice.", "Please refund {}."),
    "iban": ("Refund to {} please.", "My IBAN is {}", "Bank account {}."),
}
_SENTENCES_ZH = {
    "email": ("请发到{}。", "我的邮箱是{}", "邮箱{},请回复。"),
    "phone": ("请打我电话{}。", "我的手机号{}", "电话:{},谢谢。"),
    "card": ("我用卡{}付的款。", "卡号{}", "请退到{}。"),
    "iban": ("请退款到{}。", "银行账号{}"),
}
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


def draw_personal_data(dice: Dice, chinese: bool) -> PersonalData:
    """Draw one piece of personal data in a sentence of the language."""
    kind = dice.pick(_KINDS)
    if kind == "email":
        value = _email(dice)
    elif kind == "phone":
        value = _chinese_phone(dice) if chinese else _phone(dice)
    elif kind == "card":
        value = _card(dice)
    else:
        value = _iban(dice)
    sentence = dice.pick((_SENTENCES_ZH if chinese else _SENTENCES)[kind]).format(value)
    return PersonalData(kind, value, sentence)


def _email(dice: Dice) -> str:
    name = dice.pick(_FIRST) + dice.pick((".", "_", "-", "")) + dice.pick(_LAST).replace("'", dice.pick(("", "'")))
    tail = dice.pick(("", "", dice.digits(2), "+shop"))
    address = f"{name}{tail}@{dice.pick(_DOMAINS)}"
    return address.upper() if dice.chance(5) else address


def _phone(dice: Dice) -> str:
    three, two, four = dice.digits(3), dice.digits(2), dice.digits(4)
    return dice.pick(
        (
            f"020 7946 0{three}", f"(020) 7946 0{three}", f"+44 20 7946 0{three}", f"02079460{three}",
            f"07700 900{three}", f"07700900{three}", f"+447700900{three}", f"0161 496 0{three}",
            f"+44 (0)113 496 0{three}",
            f"(212) 555-01{two}", f"212-555-01{two}", f"+1 415 555 01{two}", f"1-800-555-01{two}",
            f"+49 30 23125 {three}", f"030 23125{three}", f"0049 30 23125{three}",
            f"+33 1 99 00 {two} {four[:2]}", f"01 99 00 {two} {four[:2]}", f"+33 6 39 98 {two} {four[:2]}",
        )
    )  # fmt: skip


def _chinese_phone(dice: Dice) -> str:
    tail = dice.digits(4)
    mobile = f"1{dice.pick(('38', '39', '50', '86', '88'))}0013{tail}"
    return dice.pick(
        (
            mobile, mobile, f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}", f"{mobile[:3]}-{mobile[3:7]}-{mobile[7:]}",
            f"+86 {mobile}", f"+86 {mobile[:3]} {mobile[3:7]} {mobile[7:]}", mobile.translate(_FULL_WIDTH),
            f"010-6552{tail}", f"(021) 6552 {tail}",
        )
    )  # fmt: skip


def _card(dice: Dice) -> str:
    prefix, length = dice.pick((("4", 16), ("4", 16), ("5" + str(1 + dice.below(5)), 16), ("37", 15)))
    body = prefix + dice.digits(length - len(prefix) - 1)
    number = body + luhn_check_digit(body)
    groups = (
        (number[:4], number[4:10], number[10:]) if length == 15 else tuple(number[i : i + 4] for i in (0, 4, 8, 12))
    )
    return dice.pick((" ", "-", "", " ")).join(groups)


def luhn_check_digit(body: str) -> str:
    """Return the check digit that completes a card number (Luhn algorithm)."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def _iban(dice: Dice) -> str:
    country, account = dice.pick((("GB", "WEST" + dice.digits(14)), ("DE", dice.digits(18)), ("FR", dice.digits(23))))
    if country == "FR":
        account = account[:21] + f"{97 - int(account[:21] + '00') % 97:02d}"
    number = int("".join(str(int(c, 36)) for c in account + country) + "00")
    iban = f"{country}{98 - number % 97:02d}{account}"
    return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4)) if dice.chance(60) else iban
