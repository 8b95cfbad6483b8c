"""Numbers that describe products or orders: they stay, however long they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lm.redaction.span import Span

_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?<![\d.\-/])(?:{_YEAR}([-/.]){_MONTH}\1{_DAY}|{_DAY} ?([-/.]) ?{_MONTH} ?\2 ?{_YEAR}|{_MONTH}/{_DAY}/{_YEAR}"
    rf"|{_DAY}([-/.]){_MONTH}\3\d\d|{_YEAR}年{_MONTH}月{_DAY}日?)(?:[ T]\d\d?:\d\d(?::\d\d)?)?(?![\d]|[.\-/]\d)"
    rf"|(?<!\d){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    rf"|(?<!\d)(?<!\d[.\-/]){_YEAR} ?[-/~] ?{_YEAR}(?!\d|[.\-/]\d)"
    rf"|(?<!\d)(?<!\d[.\-/ ]){_YEAR} ?[-/~] ?\d\d(?![\d]|[.\-/ ]\d)"
)
_TIME = re.compile(r"(?<![\d:])[0-2]?\d:[0-5]\d(?::[0-5]\d)?(?:\s?(?:-|to|bis)\s?[0-2]?\d:[0-5]\d)?(?![\d:])")
_DECIMAL = re.compile(r"(?<![\d.,+(\-])(?:0|[1-9]\d{0,3})[.,]\d{1,3}(?![.,\-]?\d)")
_MONEY = re.compile(
    r"(?:[€$£¥₹₩₽]|\b(?:USD|EUR|GBP|CNY|RMB|JPY|CHF)|\b(?:price|preis|prix|precio|preço|prezzo|价格|售价"
    r"|価格)(?: is| of|:|：)?) ?\d[\d.,' ]*\d(?!\d)"
    r"|(?<![\d.,+])\d{1,3}(?:[,.' ]\d{3})*(?:[.,]\d{1,2})? ?(?:[€$£¥₹₩]|(?:USD|EUR|GBP|CNY|RMB|JPY|CHF"
    r"|KRW|INR|IDR|VND|PLN|euros?|dollars?|yuan)\b|元|円|块)",
    re.I,
)
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d,])")
_UNIT = (
    "(?:mAh|Wh|mm|cm|km|kg|mg|ml|GB|TB|MB|KB|GiB|Hz|kHz|MHz|GHz|px|pixels?|fps|dpi|rpm|lumens?|lm|pcs"
    "|pieces?|sheets?|pages?"
    r"|cycles|hours?|views|BTU|毫安|张|次|个|件|流明|像素|小时)"
)
_AMOUNT = re.compile(rf"(?<![\d+])[1-9]\d{{0,8}}(?:\s?[-~x×*/]\s?\d{{1,8}}){{0,2}}\s?{_UNIT}(?![A-Za-z])", re.I)
_WORDS = (
    "(?:orders?|serial|s/n|item|product|artikel|art|article|sku|model|modell|modèle|modelo|part|mpn|ean|upc|gtin"
    "|isbn(?:-1[03])?|asin|r[eé]f(?:[eé]rence|erencia)?"
    r"|version|ver|firmware|ral|pantone|style|lot|batch|catalog(?:ue)?|series?|type|invoice|receipt|return|rma"
    r"|parcel|shipment|purchase|po|bestell(?:ung|nummer|nr)|auftrag(?:snummer)?|rechnung(?:snummer)?|artikelnummer"
    r"|commande|facture|pedido|encomenda|factura|fatura|ordine|internet|store sku|{{order number}})"
)
_LINK = (
    "(?:[ .:#№-]{1,3}(?:number|numbers|numero|número|numéro|nummer|no|nr|num|id|code|is|was|ist|est|es|é"
    r"|n[°º]|de|sku|with|labell?ed|the|under|by)\b)"
)
_NAMED = re.compile(
    rf"\b{_WORDS}{_LINK}{{0,5}}[ .:#№°º{{]{{0,3}}([A-Za-z]{{0,4}}-?\d[\w./-]*)"
    "|(?:订单号?|订单编号|单号|货号|型号|编号|条码|商品编?号?|版本|注文番号|注文|品番|型番|商品番号"
    "|주문번호|주문|заказа?)"
    r"(?:[ :：#№]|是|为|は){0,3}([A-Za-z]{0,4}-?\d[\w./-]*)",
    re.I,
)
_TELEPHONE = re.compile(r"0[1-9]\d{8,9}\D*")


def product_numbers(text: str, *, orders: bool = True) -> Iterator[Span]:
    """Dates, prices, amounts with units, and numbers after words such as "model" and "order", of folded text.

    Without `orders` no word protects a number. Spans may overlap.
    """
    for pattern in (_DATE, _TIME, _MONEY, _THOUSANDS, _AMOUNT, _DECIMAL):
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), None)
    if orders:
        for match in _NAMED.finditer(text):
            group = 1 if match[1] else 2
            number = match[group].rstrip("./-")
            if not _TELEPHONE.fullmatch(number):
                yield Span(match.start(group), match.start(group) + len(number), None)
