"""What lists under rules must be, in plain Python over the full ranking: the definition of each rule, word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lm.recommend.list_rules import ListRule

WINDOW = 5


@dataclass(frozen=True)
class Product:
    """A product of the test shop."""

    item_id: str
    title: str
    brand: str | None
    category: str | None
    price: float | None


@dataclass(frozen=True)
class ShopRule:
    """A rule with its products, and for a cap the value of each."""

    rule: ListRule
    products: frozenset[str]
    value: Callable[[Product], str | None] | None = None


@dataclass(frozen=True)
class Customer:
    """What the rules need of a customer."""

    excluded: frozenset[str] = frozenset()
    disliked: tuple[str, ...] = ()
    paid: Mapping[str, float] | None = None
    recent: Mapping[str, frozenset[str]] | None = None  # categories by the name of a rule


def is_allowed(product: Product, customer: Customer, bound: Sequence[ShopRule]) -> bool:
    """Whether no rule denies the product to the customer."""
    return product.item_id not in customer.excluded and not any(_denies(one, product, customer) for one in bound)


def denying(
    scores: Mapping[str, float], products: Mapping[str, Product], customer: Customer, bound: Sequence[ShopRule]
) -> dict[str, float]:
    """By rule the best score of a product that it denies; `scores` have the weights of boosts and buries."""
    best: dict[str, float] = {}
    for item_id, score in scores.items():
        for one in bound:
            if item_id not in customer.excluded and _denies(one, products[item_id], customer):
                best[one.rule.name] = max(best.get(one.rule.name, -np.inf), score)
    return best


def _denies(one: ShopRule, product: Product, customer: Customer) -> bool:
    rule, is_of_rule, price = one.rule, product.item_id in one.products, product.price
    if rule.kind == "deny":
        return is_of_rule
    if rule.kind == "allow":
        return not is_of_rule
    if rule.kind == "disliked":
        return product.item_id in customer.disliked
    if rule.kind == "repeat":
        return is_of_rule and product.category in (customer.recent or {}).get(rule.name, ())
    if rule.kind == "price" and is_of_rule and price is not None:
        paid = (customer.paid or {}).get(product.category or "", None)
        limits = [(rule.at_least, rule.at_most)]
        if paid is not None:
            limits.append(tuple(t and t * paid for t in (rule.at_least_times, rule.at_most_times)))
        return any((low is not None and price < low) or (high is not None and price > high) for low, high in limits)
    return False


def weight(product: Product, similarity: float, bound: Sequence[ShopRule]) -> np.float32:
    """What the rules add to the score; `similarity` to the nearest disliked product."""
    total = np.float32(0)
    for one in bound:
        if product.item_id in one.products and one.rule.kind in ("boost", "bury"):
            total += np.float32(one.rule.weight if one.rule.kind == "boost" else -one.rule.weight)
    buried = np.float32(0)
    for one in bound:
        if one.rule.kind == "disliked":
            buried += -np.float32(one.rule.weight) * np.float32(similarity)
    return total + buried


def expected(
    ranking: Sequence[tuple[Product, float]], bound: Sequence[ShopRule], k: int, cosine: Callable[[str, str], float]
) -> list[str]:
    """The list of the allowed products in `ranking`, which has weighted scores and is ordered by them."""
    constraints = [one for one in bound if one.rule.kind in ("pin", "share")]
    caps = [one for one in bound if one.rule.kind == "cap"]
    diverse = [one.rule.strength for one in bound if one.rule.kind == "diversity"]
    first = ranking[: WINDOW * k]
    listed: list[Product] = []
    given_up: set[str] = set()

    def can_take(product: Product) -> bool:
        if product in listed:
            return False
        for one in caps:
            assert one.value is not None
            value = one.value(product)
            if value is not None and sum(one.value(other) == value for other in listed) >= one.rule.most:
                return False
        return True

    def best_of(candidates: list[tuple[Product, float]]) -> Product | None:
        if not candidates:
            return None
        if not diverse:
            return candidates[0][0]
        best, worst = first[0][1], first[-1][1]

        def worth(candidate: tuple[Product, float]) -> float:
            product, score = candidate
            relevance = (score - worst) / (best - worst) if best > worst else 1.0
            similarity = max((cosine(product.item_id, other.item_id) for other in listed), default=0.0)
            return round((1 - max(diverse)) * relevance - max(diverse) * similarity, 6)

        return max(candidates[: WINDOW * k], key=worth)[0]

    def needed(rank: int) -> list[ShopRule]:
        left = [one for one in constraints if one.rule.name not in given_up]
        pinned = [one for one in left if one.rule.rank == rank]
        if pinned:
            return pinned[:1]
        owed = {
            one.rule.name: one.rule.products - sum(product.item_id in one.products for product in listed)
            for one in left
            if not one.rule.rank and one.rule.within >= rank
        }
        owing = [one for one in left if owed.get(one.rule.name, 0) > 0]
        for within in sorted({one.rule.within for one in owing}):
            due = [one for one in owing if one.rule.within <= within]
            taken = {one.rule.rank for one in left if rank < one.rule.rank <= within}
            if sum(owed[one.rule.name] for one in due) >= within - rank + 1 - len(taken):
                return due
        return []

    for rank in range(1, k + 1):
        chosen = None
        while chosen is None and (due := needed(rank)):
            ids = frozenset().union(*(one.products for one in due))
            chosen = best_of([one for one in ranking if can_take(one[0]) and one[0].item_id in ids])
            if chosen is None:
                given_up.update(one.rule.name for one in due)
        chosen = chosen or best_of([one for one in ranking if can_take(one[0])])
        if chosen is None:
            break
        listed.append(chosen)
    return [product.item_id for product in listed]
