"""Shops drawn by chance with one habit each, for `tests.bench.counting`: no product was tuned to them.

Each function draws the purchases of one shop: rows of (customer, product, title, day), the day from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

FIRST = datetime(2026, 1, 1)
Rows = list[tuple[str, str, str, int]]
Rng = np.random.Generator

_WORDS = ("red", "blue", "green", "small", "large", "soft", "oak", "steel", "linen", "cotton", "pine", "glass")
_GOODS = [
    "chair",
    "lamp",
    "cup",
    "bowl",
    "blanket",
    "towel",
    "vase",
    "shelf",
    "clock",
    "tray",
    "basket",
    "mirror",
    "rug",
    "pillow",
    "candle",
    "desk",
    "stool",
    "jar",
]
TITLES = [f"{word} {good}" for word in _WORDS for good in _GOODS]  # 216


def _bought(customer: int, code: int, day: int, title: str | None = None) -> tuple[str, str, str, int]:
    return f"u{customer:04}", f"p{code:03}", TITLES[code % len(TITLES)] if title is None else title, int(day)


def _days(rng: Rng, least: int, most: int, last: int = 120) -> list[int]:
    return np.sort(rng.integers(0, last, rng.integers(least, most))).tolist()


def chance(rng: Rng) -> Rows:
    """Everybody buys anything: nothing can be learned."""
    return [_bought(u, int(rng.integers(150)), d) for u in range(800) for d in _days(rng, 5, 18)]


def weekdays(rng: Rng) -> Rows:
    """Four goods of each weekday, bought again and again by those who come on that day."""
    rows = []
    for u in range(600):
        visits = rng.choice(7, rng.integers(2, 5), replace=False)
        own = rng.choice(np.arange(28, 48), 3, replace=False)
        for day in range(120):
            if day % 7 in visits and rng.random() < 0.35:
                rows += [_bought(u, int(code), day) for code in rng.choice(4, rng.integers(1, 3)) + 4 * (day % 7)]
                rows.append(_bought(u, int(rng.choice(own)), day))
    return rows


def one_purchase(rng: Rng) -> Rows:
    """Two of three customers buy once, in a catalogue of which few products sell well."""
    share = 1 / np.arange(1, 801) ** 0.8
    codes = rng.permutation(800)
    return [
        _bought(u, int(codes[rng.choice(800, p=share / share.sum())]), d)
        for u in range(1400)
        for d in _days(rng, 1, 2 if rng.random() < 0.65 else 4)
    ]


def twelve_products(rng: Rng) -> Rows:
    """A shop of 12 products with own tastes."""
    rows = []
    for u in range(400):
        taste = rng.dirichlet(np.full(12, 0.4))
        rows += [_bought(u, int(rng.choice(12, p=taste)), d) for d in _days(rng, 1, 14)]
    return rows


def monthly_goods(rng: Rng) -> Rows:
    """New goods every month; what one likes is their kind, which the title tells."""
    rows = []
    for u in range(700):
        likes = rng.choice(len(_GOODS), 2, replace=False)
        for day in _days(rng, 2, 9, last=150):
            kind = int(rng.choice(likes)) if rng.random() < 0.7 else int(rng.integers(len(_GOODS)))
            colour = int(rng.choice(5, p=[0.4, 0.25, 0.15, 0.1, 0.1]))
            title = f"{_WORDS[colour]} {_GOODS[kind]} {('aria', 'luna', 'nova', 'vera', 'cleo')[day // 30]}"
            rows.append(_bought(u, day // 30 * 90 + kind * 5 + colour, day, title))
    return rows


def chinese_titles(rng: Rng) -> Rows:
    """Chinese titles of brands and kinds; customers keep to a brand and three kinds."""
    brands, kinds = (
        ["小米", "华为", "安踏", "蒙牛", "海尔", "晨光"],
        ["耳机", "运动鞋", "纯牛奶", "电饭煲", "中性笔", "洗衣液", "保温杯", "充电宝"],
    )
    rows = []
    for u in range(700):
        likes, brand = rng.choice(len(kinds), 3, replace=False), int(rng.integers(6))
        for day in _days(rng, 1, 16):
            kind = int(rng.choice(likes)) if rng.random() < 0.75 else int(rng.integers(len(kinds)))
            of = brand if rng.random() < 0.5 else int(rng.integers(6))
            size = int(rng.random() < 0.3)
            title = f"{brands[of]}{kinds[kind]}{('标准装', '家庭装')[size]}"
            rows.append(_bought(u, of * 20 + kind * 2 + size, day, title))
    return rows


def bulk_baskets(rng: Rng) -> Rows:
    """Resellers: few large baskets of own goods, so the newest 50 purchases are two baskets."""
    rows = []
    for u in range(300):
        taste = rng.dirichlet(np.full(120, 0.15))
        for day in _days(rng, 3, 14):
            size = min(int(rng.integers(5, 25)), int((taste > 1e-6).sum()))
            rows += [_bought(u, int(code), day) for code in rng.choice(120, size, replace=False, p=taste)]
    return rows


def refills(rng: Rng) -> Rows:
    """Up to three goods that each customer buys again at an own gap."""
    rows = []
    for u in range(500):
        for code in rng.choice(200, rng.integers(1, 4), replace=False):
            gap = int(rng.integers(5, 20))
            rows += [_bought(u, int(code), d) for d in range(int(rng.integers(gap)), 120, gap) if rng.random() < 0.9]
    return rows


def collections(rng: Rng) -> Rows:
    """Forty collections of eight goods; a customer completes one. Titles do not tell which."""
    code = rng.permutation(320)
    rows = []
    for u in range(600):
        of, days = int(rng.integers(40)), _days(rng, 2, 7)
        goods = rng.choice(8, len(days), replace=False)
        rows += [_bought(u, int(code[of * 8 + good]), d) for good, d in zip(goods, days, strict=True)]
    return rows


def goods_of_the_week(rng: Rng) -> Rows:
    """Seven of ten purchases are of this week's three products; all products are listed before."""
    code = rng.permutation(200)
    return [
        _bought(u, int(code[d // 7 * 3 % 60 + rng.integers(3)] if rng.random() < 0.7 else rng.integers(200)), d)
        for u in range(700)
        for d in _days(rng, 1, 8)
    ]


def few_heavy_customers(rng: Rng) -> Rows:
    """Fifteen customers make nearly all purchases; the others buy one to three times."""
    share = 1 / np.arange(1, 201)
    rows = []
    for u in range(400):
        heavy = u < 15
        own = rng.choice(200, 40 if heavy else 3, replace=False)
        for day in _days(rng, 300, 900) if heavy else _days(rng, 1, 4):
            is_own = rng.random() < 0.6
            rows.append(_bought(u, int(rng.choice(own) if is_own else rng.choice(200, p=share / share.sum())), day))
    return rows


def long_reading_lists(rng: Rng) -> Rows:
    """Readers of one to three subjects with 60 to 150 books each, none bought twice; titles name no subject."""
    code = rng.permutation(1500)
    rows = []
    for u in range(300):
        subjects = rng.choice(10, rng.integers(1, 4), replace=False)
        books = rng.permutation(np.concatenate([code[150 * of : 150 * (of + 1)] for of in subjects]))
        days = _days(rng, 60, 150)
        rows += [_bought(u, int(book), d, f"Book {book}") for book, d in zip(books, days, strict=False)]
    return rows


def twenty_customers(rng: Rng) -> Rows:
    """Twenty-two customers with favourites."""
    rows = []
    for u in range(22):
        own = rng.choice(30, 5, replace=False)
        rows += [
            _bought(u, int(rng.choice(own)) if rng.random() < 0.7 else int(rng.integers(30)), d)
            for d in _days(rng, 5, 20)
        ]
    return rows


def misleading_titles(rng: Rng) -> Rows:
    """Goods of one name are never bought by one customer; what goes together has unlike names."""
    rows = []
    for u in range(500):
        of = int(rng.integers(18))
        for day in _days(rng, 2, 7):
            code = int(rng.integers(12)) * 18 + of
            rows.append(_bought(u, code if rng.random() < 0.1 else (code * 101 + 7) % 216, day))
    return rows


#: Each shop, and whether its lists leave out what was bought.
DRAWN: dict[str, tuple[Callable[[Rng], Rows], bool]] = {
    shop.__name__.replace("_", " "): (shop, new)
    for shop, new in (
        (chance, True),
        (weekdays, False),
        (one_purchase, True),
        (twelve_products, True),
        (monthly_goods, True),
        (chinese_titles, True),
        (bulk_baskets, False),
        (refills, False),
        (collections, True),
        (goods_of_the_week, True),
        (few_heavy_customers, False),
        (long_reading_lists, True),
        (twenty_customers, False),
        (misleading_titles, True),
    )
}
#: The lists are made after so many days, and the purchases of the days after them judge.
DAYS, JUDGED = 105, 15


def write_drawn(name: str, seed: int, file: Path) -> None:
    """Write the purchases of a shop as CSV; `seed` draws it."""
    rng = np.random.default_rng([seed, list(DRAWN).index(name)])
    rows = DRAWN[name][0](rng)
    table = pd.DataFrame(rows, columns=["customer", "product", "title", "day"])
    hours = rng.integers(8, 21, len(table))
    table["bought_at"] = [FIRST + timedelta(days=d, hours=int(h)) for d, h in zip(table.pop("day"), hours, strict=True)]
    table.to_csv(file, index=False)
