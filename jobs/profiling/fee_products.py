"""Products that look like fees, such as postage: rows of an export that customers pay and nobody recommends.

`regulars doctor --rows N` warns about them, and shows the rule that keeps them out of the lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Titles that are fees, in lower case.
_FEES = """
postage; postage and packing; postage & packing; p&p; shipping; shipping fee; shipping charge; shipping charges;
shipping cost; shipping costs; shipping and handling; shipping & handling; handling; handling fee; delivery;
delivery fee; delivery charge; delivery charges; express delivery; standard delivery; standard shipping;
express shipping; carriage; freight; surcharge; fee; fees; service fee; service charge; bank charges; bank charge;
amazon fee; commission; manual; adjust; adjustment; adjust bad debt; discount; rebate; voucher discount; coupon;
refund; deposit; tip; tax; vat; gift wrap; gift wrapping; donation; rounding; test; sample; samples;
versand; versandkosten; porto; pfand; rabatt; gutschrift; gebühr; bearbeitungsgebühr; nachnahmegebühr;
verpackung; geschenkverpackung; frais de port; frais de livraison; livraison; remise; gastos de envío; envío;
spese di spedizione; spedizione; verzendkosten; 运费; 邮费; 快递费; 补差价; 差价; 定金; 押金; 优惠; 折扣; 手续费;
服务费; 送料; 配送料; 手数料; 値引き; 배송비
"""
_TITLES = frozenset(title.strip() for title in _FEES.split(";"))
#: Words that make a title of two words a fee, as in "dotcom postage".
_LAST_WORDS = ("carriage", "commission", "fee", "freight", "postage", "versandkosten")
#: Ids without a digit are odd where at most this share of so many products have one.
_ODD_IDS, _FEWEST_PRODUCTS = 0.02, 50


@dataclass(frozen=True)
class FeeProducts:
    """How many products look like fees, why, and the rule that never lists them."""

    products: int
    why: str
    rule: str


def find_fees(titles: Mapping[str, str]) -> list[FeeProducts]:
    """The products (item_id -> title) that look like fees: those of a fee's title, and of an id unlike all others.

    An id is unlike the others where it has no digit and nearly all have one. Such a product may be a real one.
    """
    plain = {item: title.strip().lower() for item, title in titles.items()}
    found = []
    if by_title := {item: title for item, title in plain.items() if title in _TITLES or _last_word(title)}:
        count = len(by_title)
        found.append(FeeProducts(count, "have the title of a fee", _rule("no fees", _condition(by_title.values()))))
    without_digit = [item for item in titles if not re.search("[0-9]", item)]
    if without_digit and len(titles) >= _FEWEST_PRODUCTS and len(without_digit) <= _ODD_IDS * len(titles):
        others = [item for item in without_digit if item not in by_title]
        if others:
            condition = "item_id NOT RLIKE '[0-9]'"
            why = "have an id without a digit, unlike nearly all others"
            found.append(FeeProducts(len(others), why, _rule("no ids without a digit", condition)))
    return found


def _last_word(title: str) -> str | None:
    """The word that makes a title of two words a fee."""
    words = title.split()
    return words[1] if len(words) == 2 and words[1] in _LAST_WORDS else None


def _condition(titles: Iterable[str]) -> str:
    """SQL over the columns of items that is true for these titles; it holds words of this module alone."""
    known = sorted({title for title in titles if title in _TITLES})
    last = sorted({word for title in titles if title not in _TITLES and (word := _last_word(title))})
    parts = [f"lower(trim(title)) IN ({', '.join(repr(title) for title in known)})"] if known else []
    parts += [f"lower(trim(title)) RLIKE '^[^ ]+ +({'|'.join(last)})$'"] if last else []
    return " OR ".join(parts)


def _rule(name: str, condition: str) -> str:
    return f'{{name: {name}, kind: deny, items: "{condition}"}}'
