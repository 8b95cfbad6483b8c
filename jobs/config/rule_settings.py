"""The keys of one rule of the list `rules`: what it does, for which products and customers, and from when to when."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from jobs.config.strict_model import PositiveInt, Section

Kind = Literal["deny", "allow", "cap", "price", "repeat", "boost", "bury", "pin", "share", "diversity", "disliked"]
_LIMITS = ("at_least", "at_most", "at_least_times", "at_most_times")
#: Of each kind the keys that it must have, and those that it may have.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "deny": ((), ()),
    "allow": (("items",), ()),
    "cap": (("most", "of"), ()),
    "price": ((), _LIMITS),
    "repeat": ((), ("after_days", "whole_category")),
    "boost": (("weight",), ()),
    "bury": (("weight",), ()),
    "pin": (("items",), ("rank", "within", "products", "share_of_customers")),
    "share": (("items", "products"), ()),
    "diversity": (("strength",), ()),
    "disliked": (("weight",), ("stars", "of", "newest_only")),
}
_COMMON = ("name", "kind", "items", "when", "starts_on", "ends_on")
#: Kinds that speak of all products.
_WITHOUT_ITEMS = ("diversity", "disliked")


class RuleSettings(Section):
    """One rule about the lists."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(min_length=1, max_length=80, pattern=r"^[^,\n]+$", description="name in tables and messages")
    kind: Kind = Field(description="what the rule does")
    items: str | None = Field(
        default=None, description="SQL condition over the columns of items; without it the rule is about all products"
    )
    when: str | None = Field(
        default=None, description="SQL condition over the columns of customers; without it the rule is for everybody"
    )
    starts_on: date | None = Field(default=None, alias="from", description="first run_date of the rule")
    ends_on: date | None = Field(default=None, alias="to", description="last run_date of the rule")
    most: PositiveInt | None = Field(default=None, description="cap: most products of a list with one value")
    of: str | None = Field(
        default=None,
        description="cap: SQL expression over the columns of items; products without a value do not count. disliked: "
        "products of one value are alike; without it, products of similar titles are",
    )
    at_least: float | None = Field(default=None, gt=0, description="price: lowest price")
    at_most: float | None = Field(default=None, gt=0, description="price: highest price")
    at_least_times: float | None = Field(
        default=None,
        gt=0,
        description="price: lowest price, as a multiple of the median price that the customer paid in the category",
    )
    at_most_times: float | None = Field(default=None, gt=0, description="price: highest price, as such a multiple")
    after_days: PositiveInt | None = Field(
        default=None, description="repeat: days after which a bought product may be listed again; without it never"
    )
    whole_category: bool = Field(
        default=False, description="repeat: until then no other product of its category is listed either"
    )
    weight: float | None = Field(
        default=None, gt=0, le=100, description="boost: added to the log-probability; bury and disliked: subtracted"
    )
    stars: int = Field(default=2, ge=1, le=4, description="disliked: highest rating of a disliked product")
    newest_only: bool = Field(default=False, description="disliked: only the customer's newest rating counts")
    rank: PositiveInt | None = Field(default=None, description="pin: the rank of a product of the rule")
    within: PositiveInt | None = Field(default=None, description="pin: the first ranks among which its products stand")
    products: PositiveInt | None = Field(default=None, description="pin, share: number of its products")
    share_of_customers: float = Field(
        default=1.0, gt=0, le=1, description="pin: share of the customers for whom it binds, drawn by a hash"
    )
    strength: float | None = Field(
        default=None, gt=0, le=1, description="diversity: 0 keeps the order of scores, 1 heeds only differences"
    )

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> RuleSettings:
        needed, possible = _KEYS[self.kind]
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        missing = [key for key in needed if key not in given]
        if missing:
            raise ValueError(f"{self.name}: a {self.kind} rule needs {' and '.join(missing)}")
        known = {*_COMMON, *needed, *possible} - ({"items"} if self.kind in _WITHOUT_ITEMS else set())
        if unknown := sorted(given - known):
            raise ValueError(
                f"{self.name}: a {self.kind} rule has no {unknown[0]}; its keys are "
                f"{', '.join(k for k in (*needed, *possible, 'when', 'from', 'to') if k in known | {'from', 'to'})}"
            )
        if self.kind == "price" and not given & set(_LIMITS):
            raise ValueError(f"{self.name}: a price rule needs one of {', '.join(_LIMITS)}")
        if self.kind == "pin" and (self.rank is None) == (self.within is None):
            raise ValueError(f"{self.name}: a pin has either rank or within")
        return self

    @model_validator(mode="after")
    def _limits_leave_something(self) -> RuleSettings:
        if self.starts_on and self.ends_on and self.starts_on > self.ends_on:
            raise ValueError(f"{self.name}: from {self.starts_on} is after to {self.ends_on}")
        for low, high in (("at_least", "at_most"), ("at_least_times", "at_most_times")):
            lowest, highest = getattr(self, low), getattr(self, high)
            if lowest is not None and highest is not None and lowest > highest:
                raise ValueError(f"{self.name}: {low} {lowest} is above {high} {highest}")
        if self.products and self.within and self.products > self.within:
            raise ValueError(f"{self.name}: {self.products} products do not fit within the first {self.within} ranks")
        return self

    def is_active(self, run_date: date) -> bool:
        """Whether the rule holds on a date."""
        return (self.starts_on or run_date) <= run_date <= (self.ends_on or run_date)

    @property
    def effect(self) -> str:
        """One clause that says what the rule does to a list for which it binds."""
        effects = {
            "deny": "leaves its products out",
            "allow": "lists its products only",
            "cap": f"lists at most {self.most} of its products with one value of {self.of}",
            "price": "leaves products out whose price is outside its limits",
            "repeat": "leaves out what the customer bought lately",
            "boost": f"adds {self.weight} to the score of its products",
            "bury": f"takes {self.weight} from the score of its products",
            "pin": f"puts its products on {f'rank {self.rank}' if self.rank else f'the first {self.within} ranks'}",
            "share": f"lists at least {self.products} of its products",
            "diversity": "prefers products that differ from those above them",
            "disliked": f"leaves badly rated products out, and takes up to {self.weight} from those like them",
        }
        return effects[self.kind]

    def overlaps(self, other: RuleSettings) -> bool:
        """Whether both rules hold on some date for the same customers."""
        start = max(self.starts_on or date.min, other.starts_on or date.min)
        end = min(self.ends_on or date.max, other.ends_on or date.max)
        return start <= end and (self.when is None or other.when is None or self.when == other.when)


def contradiction(rules: list[RuleSettings], k: int) -> str | None:
    """The first contradiction between rules that is seen without the tables, for lists of `k` products."""
    seen: dict[str, RuleSettings] = {}
    for rule in rules:
        if rule.name in seen:
            return f"two rules are called {rule.name}: give each a name of its own"
        seen[rule.name] = rule
        for key in ("rank", "within", "products"):
            value = getattr(rule, key)
            if value is not None and value > k:
                return f"{rule.name}: {key} is {value}, and a list has recommend.k = {k} products"
    for number, one in enumerate(rules):
        for other in rules[number + 1 :]:
            if one.overlaps(other) and (problem := _clash(one, other, k)):
                return f"{one.name} and {other.name} contradict each other: {problem}"
    return None


def _clash(one: RuleSettings, other: RuleSettings, k: int) -> str | None:
    kinds = {one.kind, other.kind}
    same_items = one.items == other.items
    if kinds == {"allow", "deny"} and (same_items or None in (one.items, other.items)):
        return "one allows only the products that the other denies; remove one of them"
    if "deny" in kinds and kinds & {"pin", "share", "boost"} and len(kinds) == 2 and same_items:
        return "one lists the products that the other denies; remove one of them"
    if kinds == {"pin"} and one.rank is not None and one.rank == other.rank:
        return f"both pin rank {one.rank}; give them different ranks or customers"
    wanted = (one.products or 1) + (other.products or 1)
    if kinds == {"share"} and not same_items and wanted > k:
        return f"together they want {wanted} of the {k} products of a list; lower one of them"
    if kinds == {"price"} and same_items:
        for low, high in (("at_least", "at_most"), ("at_least_times", "at_most_times")):
            for first, second in ((one, other), (other, one)):
                lowest, highest = getattr(first, low), getattr(second, high)
                if lowest is not None and highest is not None and lowest > highest:
                    return f"{low} {lowest} is above {high} {highest}; no price passes both"
    return None
