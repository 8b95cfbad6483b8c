"""The sample shop's products as arrays, and the products that buyers need next.

A product line is one brand's products of one group: consecutive items, ordered by family and then by variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.goods import BRANDS, BRANDS_ZH, GROUPS, SYLLABLES, SYLLABLES_ZH, ProductFamily
from jobs.sample.random import Bools, Floats, Ints, hashed, keys, uniform

FAMILIES: tuple[ProductFamily, ...] = tuple(family for group in GROUPS for family in group.families)
_FIRST_FAMILY = np.cumsum([0, *(len(group.families) for group in GROUPS)])
_CHINESE_EVERY = 10  # every tenth product line has Chinese titles
_ZIPF_EXPONENT = 0.9
_CHINESE_TASTE = (0.05, 20.0)  # weight of Chinese product lines for English and for Chinese customers


@dataclass(frozen=True)
class SampleCatalogue:
    """Products 0..n-1: item arrays are (n,), `line_` arrays (product lines,)."""

    item_ids: pa.Array
    titles: pa.Array
    brands: pa.Array
    variants: pa.Array
    chinese: Bools
    family: Ints  # index into FAMILIES
    product_line: Ints
    durable: Bools
    pence: Ints
    launched: Floats  # day on which it could first be bought
    withdrawn: Floats  # day from which it cannot be bought any more; infinite where it still can
    successors: Ints  # (n, 3) items that a buyer needs next, likeliest first; the third is in another product line
    line_start: Ints
    line_size: Ints
    line_staple: Ints  # a consumable item that is always on sale, so every customer can buy something
    line_share: Floats  # (2, product lines) cumulative Zipf popularity for English and Chinese customers

    @property
    def size(self) -> int:
        """The number of products."""
        return len(self.family)

    def table(self) -> pa.Table:
        """Return the items table; about 1 in 100 items has no price and 1 in 400 is listed twice."""
        rows = np.arange(self.size)
        key = keys(0, "listing", rows)
        unpriced = uniform(key, "unpriced") < 0.01
        names = [f.name_zh if zh else f.name for f in FAMILIES for zh in (False, True)]
        table = pa.table(
            {
                "item_id": self.item_ids,
                "title": self.titles,
                "category": pa.array(names, pa.string()).take(pa.array(self.family * 2 + self.chinese)),
                "brand": self.brands,
                "price": money(self.pence, unpriced),
                "available": pa.array(np.isinf(self.withdrawn) & np.ones(self.size, np.bool_)),
            }
        )
        twice = rows % 400 == 7
        return table.take(pa.array(np.repeat(rows, 1 + twice)))


def money(pence: Ints, missing: Bools | None = None) -> pa.Array:
    """Return pence as decimal(12, 2), built from 128-bit words because a cast goes through Python objects."""
    words = np.empty((len(pence), 2), np.int64)
    words[:, 0] = pence
    words[:, 1] = np.where(pence < 0, -1, 0)
    whole = pa.Array.from_buffers(pa.decimal128(12, 2), len(pence), [None, pa.py_buffer(words.tobytes())])
    if missing is None:
        return whole
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.decimal128(12, 2)), whole)


def build_catalogue(products: int, days: int, seed: int) -> SampleCatalogue:
    """Build the catalogue of `products` items over a period of `days` days."""
    shapes = [_group_shape(g) for g in range(len(GROUPS))]
    group, start, size = _product_lines(products, [len(shape) for shape in shapes])
    product_lines = np.arange(len(group))
    chinese_line = product_lines % _CHINESE_EVERY == 3
    product_line = np.repeat(product_lines, size)
    place = np.arange(products) - start[product_line]  # position in the product line
    shape = np.concatenate(shapes)  # rows (family, variant, successor and second successor in the line)
    first_row = np.cumsum([0, *(len(s) for s in shapes)])
    family, variant, near, second = shape[first_row[group[product_line]] + place].T
    item_key = keys(seed, "item", np.arange(products))
    durable = np.array([f.kind == "durable" for f in FAMILIES])[family]
    staple = np.array([s + int(np.argmin(durable[s : s + n])) for s, n in zip(start, size, strict=True)])
    launched, withdrawn = _seasons(item_key, days, np.isin(np.arange(products), staple))
    chinese = chinese_line[product_line]
    brand_names = [
        _brand(int(g), h // len(GROUPS), bool(zh)) for h, (g, zh) in enumerate(zip(group, chinese_line, strict=True))
    ]
    variant_names = [
        (FAMILIES[f].variants_zh if zh else FAMILIES[f].variants)[v]
        for f, v, zh in zip(family.tolist(), variant.tolist(), chinese.tolist(), strict=True)
    ]
    brands = pa.array(brand_names, pa.string()).take(pa.array(product_line))
    titles = _titles(brands.to_pylist(), family, variant_names, chinese, _relisted(item_key, variant))
    linked = _linked_lines(seed, chinese_line)[product_line]
    skew = uniform(item_key, "link") ** 2
    successors = np.stack(
        [start[product_line] + near % size[product_line], start[product_line] + second % size[product_line],
         start[linked] + (skew * size[linked]).astype(np.int64)], axis=1)  # fmt: skip
    return SampleCatalogue(
        item_ids=pa.array([f"P{i:06d}" for i in range(products)], pa.string()),
        titles=pa.array(titles, pa.string()),
        brands=brands,
        variants=pa.array(variant_names, pa.string()),
        chinese=chinese,
        family=family,
        product_line=product_line,
        durable=durable,
        pence=_prices(keys(seed, "house", product_line), family, variant),
        launched=launched,
        withdrawn=withdrawn,
        successors=successors,
        line_start=start,
        line_size=size,
        line_staple=staple,
        line_share=_line_shares(seed, chinese_line),
    )


def _group_shape(group: int) -> Ints:
    """Return (items, 4): family, variant, successor and second successor as places within a full product line."""
    families = GROUPS[group].families
    first = np.cumsum([0, *(len(f.variants) for f in families)])
    used_up = next(i for i, f in enumerate(families) if f.kind != "durable")
    rows = []
    for f, family in enumerate(families):
        following = f + 1 if f + 1 < len(families) else used_up
        after_that = following + 1 if following + 1 < len(families) else used_up

        def matching(other: int, variant: int) -> int:
            return int(first[other]) + variant % len(families[other].variants)

        for v in range(len(family.variants)):
            another = int(first[f]) + (v + 1) % len(family.variants)
            if family.kind == "durable":
                near, second = matching(following, v), matching(after_that, v)
            elif family.kind == "match":
                near, second = matching(following, v), another
            else:
                last = v + 1 == len(family.variants)
                near, second = (matching(following, 0), another) if last else (another, matching(following, v))
            rows.append((_FIRST_FAMILY[group] + f, v, near, second))
    return np.array(rows, np.int64)


def _product_lines(products: int, full_sizes: list[int]) -> tuple[Ints, Ints, Ints]:
    """Return group, first item and size of each product line; groups take turns and the last line may be smaller."""
    sizes = np.array(full_sizes, np.int64)
    rounds = products // int(sizes.sum()) + 1
    group = np.tile(np.arange(len(sizes)), rounds)
    ends = np.cumsum(sizes[group])
    product_lines = int(np.searchsorted(ends, products)) + 1
    group, ends = group[:product_lines], np.minimum(ends[:product_lines], products)
    start = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return group, start, ends - start


def _brand(group: int, turn: int, chinese: bool) -> str:
    """Return a brand that is unique in the group: first the listed ones, then ones made of syllables."""
    brands, syllables = (BRANDS_ZH, SYLLABLES_ZH) if chinese else (BRANDS, SYLLABLES)
    if turn < len(brands):
        return brands[(group * 5 + turn) % len(brands)]
    series, rest = divmod(turn - len(brands), len(syllables) ** 3)
    rest = (rest * 7919 + 4321) % len(syllables) ** 3  # 7919 and 20**3 are coprime, so no name repeats
    name = syllables[rest // 400] + syllables[rest // 20 % 20] + syllables[rest % 20]
    return name.capitalize() + (f" {series + 1}" if series else "")


def _titles(brands: list[str], family: Ints, variants: list[str], chinese: Bools, relisted: Bools) -> list[str]:
    """Return the titles; a relisted item has the title of the variant before it."""
    titles: list[str] = []
    rows = zip(brands, family.tolist(), variants, chinese.tolist(), relisted.tolist(), strict=True)
    for brand, f, variant, zh, again in rows:
        name = brand + FAMILIES[f].name_zh if zh else f"{brand} {FAMILIES[f].name}"
        titles.append(titles[-1] if again else f"{name} {variant}".rstrip())
    return titles


def _relisted(item_key: np.ndarray, variant: Ints) -> Bools:
    """Mark about 1 in 200 items, at least one if possible, among those with an earlier variant of the family."""
    rank = np.where(variant > 0, uniform(item_key, "relisted"), 2.0)
    wanted = min(max(1, len(rank) // 200), int((variant > 0).sum()))
    relisted = np.zeros(len(rank), np.bool_)
    relisted[np.argsort(rank, kind="stable")[:wanted]] = True
    return relisted


def _seasons(item_key: np.ndarray, days: int, always: Bools) -> tuple[Floats, Floats]:
    """Draw launch and withdrawal days: 1 in 10 items launches in the period, 1 in 25 is withdrawn."""
    u, when = uniform(item_key, "season"), uniform(item_key, "season day")
    launched = np.where((u < 0.10) & ~always, days * (0.1 + when), 0.0)
    withdrawn = np.where((u >= 0.10) & (u < 0.14) & ~always, days * (0.3 + 0.7 * when), np.inf)
    return launched, withdrawn


def _prices(line_key: np.ndarray, family: Ints, variant: Ints) -> Ints:
    """Return prices in pence: the family's price times factors of the line and the variant, ending in 9."""
    base = np.array([f.pence for f in FAMILIES])[family]
    price = base * (0.7 + 0.8 * uniform(line_key, "dear")) * (1 + 0.12 * variant)
    return (price // 10).astype(np.int64) * 10 + 9


def _linked_lines(seed: int, chinese: Bools) -> Ints:
    """Return for each product line the line of its language that buyers turn to next (tea after coffee)."""
    linked = np.arange(len(chinese))
    for language in (False, True):
        ring = np.flatnonzero(chinese == language)
        ring = ring[np.argsort(hashed(keys(seed, "house", ring), "ring"), kind="stable")]
        linked[ring] = np.roll(ring, -1)
    return linked


def _line_shares(seed: int, chinese: Bools) -> Floats:
    """Return (2, lines): cumulative Zipf shares of the product lines for English and for Chinese customers."""
    order = np.argsort(hashed(keys(seed, "house", np.arange(len(chinese))), "rank"), kind="stable")
    weight = np.empty(len(chinese))
    weight[order] = (1.0 + np.arange(len(chinese))) ** -_ZIPF_EXPONENT
    shares = np.cumsum([weight * np.where(chinese, taste, 1.0) for taste in _CHINESE_TASTE], axis=1)
    return np.asarray(shares / shares[:, -1:])
