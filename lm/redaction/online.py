"""Addresses and secrets of networks: IP, MAC, handles of accounts, passwords, keys and tokens, also in URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Set

from lm.redaction.span import Span, word_set

_OCTETS = re.compile(r"\.\d{1,3}\.\d")
_DOTTED = re.compile(r"\.[0-9a-fA-F]{4}\.")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]\d|\d)")
_IPV6 = re.compile(r"(?<![A-Za-z0-9:.])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![A-Za-z0-9:])")
_VERSION = re.compile(
    r"(?:\b(?:version|ver|firmware|fw|build|release|driver|bios|os|android|ios|v)|版本|固件)\.?\s?[:#]?\s?$", re.I
)
_MAC = re.compile(r"(?<![0-9a-fA-F:\-])(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}(?![0-9a-fA-F:\-])"
                  r"|(?<![0-9a-fA-F.])(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}(?![0-9a-fA-F.])")  # fmt: skip

_IN_URL = re.compile(
    r"[?&#;](?:[\w-]*(?:token|key|passw(?:or)?d|pwd|pass|secret|sig(?:nature)?|auth|session(?:id)?|sid|jwt|otp|code))"
    r"=([^&\s#\x00]+)",
    re.I,
)
_USER_IN_URL = re.compile(r"(?<=://)[^\s/@:\x00]+:[^\s/@\x00]+(?=@)")
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk)_(?:live|test)_\w{8,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{12,20}"
    r"|gh[pousr]_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{8,}|AIza[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?)"
)
_SAID = re.compile(
    r"(?:(?<![?&;])\b(?:pass(?:word|code|phrase|wort)|pwd|pin(?: code)?|kennwort|mot de passe|contraseña"
    "|clave|senha|api[ _-]?key"
    r"|access[ _-]?token|auth[ _-]?token|token|secret(?: key)?|cvv2?|cvc2?|security code|otp|verification code)\b"
    r"|密码|口令|验证码|パスワード|暗証番号|비밀번호|пароль)"
    r"\s?(?:(?:is|are|was|ist|lautet|est|es|é|:|=|：|是|为|は|는|-)\s?){1,2}[\"'“「]?([^\s\"'”」,，。;；\x00]{3,})",
    re.I,
)
_PREFIXES = ("_live_", "_test_", "sk-", "AKIA", "gh", "glpat-", "xox", "AIza", "eyJ")
SECRET_WORDS = word_set(
    "password passcode passphrase passwort pwd pin kennwort passe contraseña clave senha api access auth "
    "token secret cvv cvv2 "
    "cvc cvc2 security otp verification"
)
"""The words in lower case of which one stands before a secret."""
_LOOKS_SECRET = re.compile(r"\d|[^\w]|_|[a-z][A-Z]")

_HANDLE = re.compile(r"(?<![\w.@/])@(?!(?:home|work|once|least|night|note|great)\b)[A-Za-z_][\w.]{2,30}(?<!\.)")
NETWORKS = word_set(
    "instagram insta twitter telegram snapchat snap tiktok facebook skype discord wechat weixin line "
    "kakao kakaotalk venmo "
    "cash cashapp paypal ig user username benutzername handle qq"
)
"""The words in lower case of which one stands before the name of an account."""
_IS_MARKED = re.compile(r"[@:：=]")
_ACCOUNT = re.compile(
    r"(?:\b(?:instagram|insta|twitter|telegram|snapchat|snap|tiktok|facebook|skype|discord|wechat|weixin"
    "|line id|kakao(?:talk)?"
    r"|venmo|cash ?app|paypal|ig|user ?name|benutzername|handle)"
    r"|微信号?|微信id|QQ号?|抖音号?|微博|小红书号?|支付宝号?|ライン(?:ID)?|LINE(?:のID| ID)|카톡(?: ?아이디)?)"
    r"(?:\s?(?:id|name|account|account name|handle))?\s?(?:(?:is|ist|est|es|é|:|=|：|是|为|は|@|→)\s?){1,2}"
    r"(@?[A-Za-z0-9_][\w.\-:#]{2,40}(?<![.\-:]))",
    re.I,
)


_CHINESE_ACCOUNT = re.compile(
    r"(?:微信号?|威信|(?<![A-Za-z0-9])(?:QQ|[Vv][Xx])号?)[:： ]{0,2}"
    r"((?=[A-Za-z_-]{0,30}[0-9_])[A-Za-z0-9_][A-Za-z0-9_\-]{4,30})"
)


def network_addresses(text: str) -> Iterator[Span]:
    """IPv4, IPv6 and MAC addresses of folded text; "version 1.2.3.4" stays."""
    if text.count(":") >= 5 or text.count("-") >= 5 or _DOTTED.search(text):
        for match in _MAC.finditer(text):
            yield Span(match.start(), match.end(), "IP")
    patterns = [_IPV4] if _OCTETS.search(text) else []
    patterns += [_IPV6] if text.count(":") >= 3 else []
    for pattern in patterns:
        for match in pattern.finditer(text):
            if _is_ip(match[0]) and not _VERSION.search(text, max(0, match.start() - 16), match.start()):
                yield Span(match.start(), match.end(), "IP")


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # "::" and "1::2" are found in drawings and times; 1.0.0.0 to 9.9.9.9 are versions
    if address.version == 6:
        return text.count(":") >= 3 and any(len(part) > 2 for part in text.split(":"))
    return any(len(part) > 1 for part in text.split("."))


def secrets(text: str, words: Set[str]) -> Iterator[Span]:
    """Passwords, keys and tokens of folded text: in URLs, by their prefix, or after the word for them."""
    if "=" in text:
        for match in _IN_URL.finditer(text):
            yield Span(*match.span(1), "SECRET")
    if "://" in text:
        for match in _USER_IN_URL.finditer(text):
            yield Span(match.start(), match.end(), "SECRET")
    if any(prefix in text for prefix in _PREFIXES):
        for match in _KEYS.finditer(text):
            yield Span(match.start(), match.end(), "SECRET")
    if not (SECRET_WORDS.isdisjoint(words) and text.isascii()):
        for match in _SAID.finditer(text):
            if _LOOKS_SECRET.search(match[1]):
                yield Span(*match.span(1), "SECRET")


def handles(text: str, words: Set[str]) -> Iterator[Span]:
    """Names of accounts in folded text: after an @, or after the name of the network."""
    if "@" in text:
        for match in _HANDLE.finditer(text):
            yield Span(match.start(), match.end(), "HANDLE")
    if not (NETWORKS.isdisjoint(words) and text.isascii()):
        for match in _ACCOUNT.finditer(text):
            if _IS_MARKED.search(match[0]) or _LOOKS_SECRET.search(match[1]):
                yield Span(*match.span(1), "HANDLE")
    if not text.isascii():
        for match in _CHINESE_ACCOUNT.finditer(text):
            yield Span(*match.span(1), "HANDLE")
