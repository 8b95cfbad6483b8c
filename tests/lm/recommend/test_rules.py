"""Lists under random sets of rules equal the definition of each rule, applied to the full ranking in plain Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm.recommend.catalogue import Catalogue
from lm.recommend.list_rules import KINDS, ListRule, RuleTable
from lm.recommend.recommender import Recommender, ScoredItem
from lm.text.prompt import PromptEncoder
from tests.lm.recommend.rules_oracle import Customer, Product, ShopRule, denying, expected, is_allowed, weight
from tests.models import save_causal

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = ["Red", "Blue", "Black", "Argan"]
THINGS = ["cotton T-shirt", "ink cartridge", "oil shampoo", "printer"]
SIZES = ["", ", size M", ", size L", " 2"]
BRANDS, CATEGORIES = ["Acme", "Bolt", "Cora", None], ["ink", "shirts", "hair", None]
PRICES = [1.5, 4.0, 9.99, 20.0, None]
TITLES = [f"{colour} {thing}{size}" for colour in COLOURS for thing in THINGS for size in SIZES]
SHOP = [
    Product(f"i{n:02d}", title, BRANDS[n * 7 % 4], CATEGORIES[n // 3 % 4], PRICES[n * 3 % 5])
    for n, title in enumerate(TITLES)
]
BY_ID = {product.item_id: product for product in SHOP}
PROMPTS = [
    "Customer history\nBought: Inkjet printer with scanner\nBought:",
    "Customer history\nSearched: ink for my printer\nBought: Black ink cartridge\nBought: Red cotton T-shirt\nBought:",
    "Customer history\nBought:",
]
K, CANDIDATES = 6, 8


@cache
def folder_of(coding: str, root: Path) -> Path:
    ids = [product.item_id for product in SHOP] if coding == "item_tokens" else ()
    return save_causal(root / coding, item_ids=ids, spread=0.15)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def shop_model(coding: str, root: Path) -> Recommender:
    path = folder_of(coding, root)
    catalogue = Catalogue.build([p.item_id for p in SHOP], [p.title for p in SHOP], PromptEncoder.load(path))
    return Recommender.load(path, catalogue, dtype="float32")


@cache
def full_ranking(coding: str, root: Path, prompt: str) -> dict[str, float]:
    (found,) = shop_model(coding, root).recommend([prompt], [[]], len(SHOP))
    return {one.item_id: one.score for one in found}


def table_of(rules: list[ShopRule], catalogue: Catalogue) -> RuleTable:
    backwards = SHOP[::-1]
    return RuleTable.build(
        catalogue,
        [one.rule for one in rules],
        K,
        [product.item_id for product in backwards],
        np.array([[product.item_id in one.products for product in backwards] for one in rules]),
        [[one.value(product) for product in backwards] if one.value else [] for one in rules],
        [product.category for product in backwards],
        [product.price for product in backwards],
        [[product.item_id for product in backwards] for _ in rules],
    )


@st.composite
def shop_rules(draw: st.DrawFn, kind: str | None = None) -> ShopRule:
    kind = kind or draw(st.sampled_from(KINDS))
    size = draw(st.sampled_from([1, 4, 16, 32, 60]))
    start, step = draw(st.integers(0, 63)), draw(st.sampled_from([1, 3, 5]))
    products = frozenset(SHOP[(start + step * n) % 64].item_id for n in range(size))
    value = draw(st.sampled_from([lambda p: p.brand, lambda p: p.category, lambda p: p.title.split(" ")[0]]))
    within = draw(st.integers(1, K))
    limits = st.one_of(st.none(), st.sampled_from([2.0, 9.0, 9.99]))
    rule = ListRule("", kind)
    if kind in ("boost", "bury", "disliked"):
        rule = replace(rule, weight=draw(st.sampled_from([0.5, 2.0, 30.0])))
    if kind == "cap":
        rule = replace(rule, most=draw(st.integers(1, 3)))
    if kind == "pin" and draw(st.booleans()):
        rule = replace(rule, rank=within)
    elif kind in ("pin", "share"):
        rule = replace(rule, within=within, products=draw(st.integers(1, within)))
    if kind == "diversity":
        rule = replace(rule, strength=draw(st.sampled_from([0.2, 0.5, 1.0])))
    if kind == "price":
        rule = replace(rule, at_least=draw(limits), at_most=draw(limits))
        rule = replace(rule, at_least_times=draw(limits), at_most_times=draw(limits))
    return ShopRule(rule, products, value if kind == "cap" else None)


@st.composite
def customers(draw: st.DrawFn) -> tuple[str, Customer]:
    ids = st.lists(st.sampled_from(sorted(BY_ID)), max_size=5, unique=True)
    paid = st.dictionaries(st.sampled_from(["ink", "shirts", "gone"]), st.sampled_from([0.5, 2.0, 10.0]), max_size=2)
    recent = draw(st.frozensets(st.sampled_from(["ink", "hair", "gone"]), max_size=2))
    customer = Customer(
        frozenset(draw(ids)), tuple(draw(ids)), draw(paid), {f"r{n}": recent for n in range(6)} if recent else None
    )
    return draw(st.sampled_from(PROMPTS)), customer


def binding_of(rules: list[ShopRule], bound: list[int], customer: Customer) -> str:
    """The request's part of the rules, with only what its rules need."""
    kinds = {rules[index].rule.kind for index in bound}
    found: dict[str, object] = {"rules": bound}
    disliking = [index for index in bound if rules[index].rule.kind == "disliked"]
    found["disliked"] = {str(index): [*customer.disliked, "left the shop"] for index in disliking}
    if "price" in kinds:
        found["paid"] = dict(customer.paid or {})
    if customer.recent:
        repeating = [index for index in bound if rules[index].rule.kind == "repeat"]
        found["recent"] = {str(index): sorted(customer.recent[rules[index].rule.name]) for index in repeating}
    return json.dumps(found)


def check_lists(coding: str, root: Path, rules: list[ShopRule], asked: list[tuple[str, Customer, list[int]]]) -> None:
    """Compare the engine's lists with the oracle's."""
    model = shop_model(coding, root)
    model.rules = table = table_of(rules, model.catalogue)
    vectors = table.titles.vectors.toarray()
    row = {product.item_id: n for n, product in enumerate(SHOP)}

    def cosine(one: str, other: str) -> float:
        return float(vectors[row[one]] @ vectors[row[other]])

    lists = model.recommend(
        [prompt for prompt, _, _ in asked],
        [sorted(customer.excluded) for _, customer, _ in asked],
        CANDIDATES,
        [binding_of(rules, bound, customer) if bound else None for _, customer, bound in asked],
    )
    for (prompt, customer, chosen), found in zip(asked, lists, strict=True):
        bound = [rules[index] for index in chosen]
        similarity = {i: max((cosine(i, d) for d in customer.disliked), default=0.0) for i in BY_ID}
        scored = [
            (product, float(np.float32(score) + w) if coding == "item_tokens" else score + float(w))
            for item_id, score in full_ranking(coding, root, prompt).items()
            for product in [BY_ID[item_id]]
            for w in [weight(product, similarity[item_id] if _dislikes(bound) else 0.0, bound)]
            if is_allowed(product, customer, bound)
        ]
        ranking = sorted(scored, key=lambda one: (-one[1], one[0].item_id))
        has_constraints = any(one.rule.kind in ("pin", "share") for one in bound)
        wanted = expected(ranking, bound, K if has_constraints else CANDIDATES, cosine)
        assert [one.item_id for one in found] == wanted
        plain = full_ranking(coding, root, prompt)
        assert np.allclose([one.score - one.weight for one in found], [plain[i] for i in wanted], rtol=0, atol=1e-4)
        assert np.allclose([one.score for one in found], [dict(_by_id(scored))[i] for i in wanted], rtol=0, atol=1e-4)
        if coding == "item_tokens":
            check_names(plain, found, customer, bound)


def check_names(
    plain: Mapping[str, float], found: Sequence[ScoredItem], customer: Customer, bound: list[ShopRule]
) -> None:
    """A rule that denies products is named at those below the best of them, and at no other."""
    weighted = {i: float(np.float32(score) + weight(BY_ID[i], 0.0, bound)) for i, score in plain.items()}
    best = denying(weighted, BY_ID, customer, bound)
    for rule in [one.rule for one in bound if one.rule.kind in ("deny", "allow", "price", "repeat", "disliked")]:
        for product in found:
            better = best.get(rule.name, -np.inf) - product.score
            if abs(better) > 1e-4 and (better > 0 or rule.kind != "disliked"):  # disliked also names what it buries
                assert (rule.name in product.rules) == (better > 0)


def _dislikes(bound: list[ShopRule]) -> bool:
    return any(one.rule.kind == "disliked" for one in bound)


def _by_id(scored: list[tuple[Product, float]]) -> list[tuple[str, float]]:
    return [(product.item_id, score) for product, score in scored]


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_lists_equal_the_definition(coding: str, root: Path) -> None:
    """Random sets of up to six rules, of which random ones bind for each customer."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(shop_rules(), min_size=1, max_size=6), st.data())
    def compare(rules: list[ShopRule], data: st.DataObject) -> None:
        rules = [replace(one, rule=replace(one.rule, name=f"r{n}")) for n, one in enumerate(rules)]
        subsets = st.lists(st.integers(0, len(rules) - 1), unique=True).map(sorted)
        asked = data.draw(st.lists(st.tuples(customers(), subsets), min_size=1, max_size=6))
        check_lists(coding, root, rules, [(prompt, customer, bound) for (prompt, customer), bound in asked])

    compare()


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_a_price_rule_knows_what_the_customer_paid(coding: str, root: Path) -> None:
    """Half of what the customer paid, in one of two categories."""
    limit = ListRule("cheaper", "price", at_most_times=0.5)
    rules = [ShopRule(limit, frozenset(BY_ID))]
    customer = Customer(paid={"ink": 2.0})
    check_lists(coding, root, rules, [(prompt, customer, [0]) for prompt in PROMPTS])
    dear = {product.item_id for product in SHOP if product.category == "ink" and (product.price or 0) > 1}
    assert dear


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
@pytest.mark.parametrize("disliked", [SHOP[0], next(product for product in SHOP if product.brand is None)])
def test_products_of_one_value_are_like_a_disliked_one(coding: str, disliked: Product, root: Path) -> None:
    rule = ShopRule(ListRule("brand", "disliked", weight=2.0, by_value=True), frozenset(), lambda p: p.brand)
    model = shop_model(coding, root)
    model.rules = table_of([rule], model.catalogue)
    told = json.dumps({"rules": [0], "disliked": {"0": [disliked.item_id]}})
    (found,) = model.recommend([PROMPTS[0]], [[]], CANDIDATES, [told])
    alike = {one.item_id for one in SHOP if one.brand is not None and one.brand == disliked.brand}
    lowered = {i: s - 2.0 * (i in alike) for i, s in full_ranking(coding, root, PROMPTS[0]).items()}
    del lowered[disliked.item_id]
    wanted = sorted(lowered, key=lambda item: (-lowered[item], item))[:CANDIDATES]
    assert [one.item_id for one in found] == wanted
    assert [one.rules for one in found] == [("brand",) if item in alike else () for item in wanted]


def test_the_names_of_rules_do_not_depend_on_the_batch(root: Path) -> None:
    """Two rules deny products to single customers, two to all; each customer meets them in another order."""
    rules = [
        ShopRule(ListRule("b", "repeat"), frozenset(BY_ID)),
        ShopRule(ListRule("a", "disliked", weight=1.0), frozenset()),
        ShopRule(ListRule("c", "deny"), frozenset(sorted(BY_ID)[::3])),
        ShopRule(ListRule("d", "deny"), frozenset(sorted(BY_ID)[1::3])),
    ]
    model = shop_model("item_tokens", root)
    model.rules = table_of(rules, model.catalogue)
    recent = {"b": frozenset(["ink"])}
    told = [
        binding_of(rules, [0, 3], Customer(recent=recent)),
        binding_of(rules, [1], Customer(disliked=tuple(sorted(BY_ID)[1:9]))),
        binding_of(rules, [0, 1, 2, 3], Customer(disliked=tuple(sorted(BY_ID)[1:9]), recent=recent)),
    ]

    def named(order: list[int]) -> dict[int, list[tuple[str, tuple[str, ...]]]]:
        lists = model.recommend([PROMPTS[0]] * len(order), [[]] * len(order), K, [told[n] for n in order])
        return {n: [(one.item_id, one.rules) for one in found] for n, found in zip(order, lists, strict=True)}

    together = named([0, 1, 2])
    assert {name for found in together.values() for _, names in found for name in names} == {"a", "b", "c", "d"}
    assert together == named([2, 1, 0]) == named([0]) | named([1]) | named([2])


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_two_thousand_customers_under_twenty_sets_of_rules(coding: str, root: Path) -> None:
    """The same for many customers, whose purchases, ratings and rules are drawn by seed."""
    ids = sorted(BY_ID)

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(shop_rules(), min_size=2, max_size=6), st.integers(0, 1 << 30))
    def compare(rules: list[ShopRule], seed: int) -> None:
        rules = [replace(one, rule=replace(one.rule, name=f"r{n}")) for n, one in enumerate(rules)]
        rng = np.random.default_rng(seed)
        asked = []
        for _ in range(2000):
            bought, disliked = (frozenset(rng.choice(ids, rng.integers(0, 6)).tolist()) for _ in range(2))
            paid = {name: float(rng.choice([0.5, 2.0, 10.0])) for name in ("ink", "shirts") if rng.random() < 0.5}
            recent = frozenset(["hair"]) if rng.random() < 0.3 else frozenset()
            customer = Customer(
                bought, tuple(sorted(disliked)), paid, {one.rule.name: recent for one in rules} if recent else None
            )
            bound = [n for n in range(len(rules)) if rng.random() < 0.6]
            asked.append((PROMPTS[rng.integers(0, len(PROMPTS))], customer, bound))
        check_lists(coding, root, rules, asked)

    compare()
