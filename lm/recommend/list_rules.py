"""Rules of a shop about its lists: the sets of products that they speak of, and what binds one request.

The catalogue's side is a `RuleTable`: for each rule, which products it speaks of. The customer's side is a `Binding`:
the rules that bind for one request, with what they need of the customer. `RuleTable.resolve` joins both:

| kind | effect |
|---|---|
| deny, allow | the rule's products, or all others, are never listed |
| price | products above or below a limit are never listed; products without a price are |
| repeat | products of the categories that the customer bought lately are never listed |
| boost, bury | the weight is added to the log-probability |
| disliked | a disliked product is never listed; `weight` times its similarity is subtracted from products like it |
| cap | at most `most` products of a list have one value; products without a value are not counted |
| pin | the product on rank `rank` is one of the rule's, or `products` of the first `within` products are |
| share | `products` of the first `within` products are the rule's |
| diversity | maximal marginal relevance of this `strength` |

`lm.recommend.arrange_list` applies the last four; the others decide scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lm.recommend.catalogue import Catalogue, CatalogueError
from lm.recommend.plain_titles import telling_titles
from lm.recommend.title_similarity import TitleSimilarity

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]

KINDS = ("deny", "allow", "price", "repeat", "boost", "bury", "disliked", "cap", "pin", "share", "diversity")
_ARRAYS = ("member", "value", "category", "price", "fact")
_FILE = "rules.json"
#: Most sets of rules that are kept resolved.
_MOST_RESOLVED = 1000
#: Bytes of cached weights, about.
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class ListRule:
    """One rule without its products and its customers; a kind uses some of the fields."""

    name: str
    kind: str
    #: What is added to a log-probability (boost), or subtracted from it (bury, disliked).
    weight: float = 0.0
    #: Whether products of one value are like a disliked one, and not products of similar titles (disliked).
    by_value: bool = False
    #: The most products of a list with one value (cap).
    most: int = 0
    #: The number of products (pin, share), among the first `within` ones.
    products: int = 1
    within: int = 0
    #: The rank of a pin; 0 where `within` says it.
    rank: int = 0
    #: From 0 (order of scores) to 1 (diversity).
    strength: float = 0.0
    #: Limits of a price, and limits as multiples of what the customer paid in the product's category.
    at_least: float | None = None
    at_most: float | None = None
    at_least_times: float | None = None
    at_most_times: float | None = None


class Binding(NamedTuple):
    """What binds for one request: indexes of rules, ascending, and what these need of the customer."""

    rules: tuple[int, ...]
    #: Of rules of the kind disliked, the item_ids that the customer rated badly.
    disliked: tuple[tuple[int, tuple[str, ...]], ...] = ()
    #: The median price that the customer paid, by category.
    paid: tuple[tuple[str, float], ...] = ()
    #: Of rules of the kind repeat, the categories that the customer bought lately.
    recent: tuple[tuple[int, tuple[str, ...]], ...] = ()

    @staticmethod
    @lru_cache(maxsize=1000)  # most requests of a night have one of a few texts
    def parse(text: str) -> Binding:
        """Read a JSON object with the keys `rules`, `disliked`, `paid` and `recent`; all but `rules` may lack."""
        found = json.loads(text)
        return Binding(
            tuple(found["rules"]),
            tuple(sorted((int(rule), tuple(items)) for rule, items in found.get("disliked", {}).items())),
            tuple(sorted((category, float(price)) for category, price in found.get("paid", {}).items())),
            tuple(sorted((int(rule), tuple(values)) for rule, values in found.get("recent", {}).items())),
        )


class ListConstraint(NamedTuple):
    """A pin or a share: so many `products` of the first `within`, or the one on `rank`, are of rows with `member`."""

    name: str
    member: Bools  # (I,)
    products: int
    within: int
    rank: int


class Cap(NamedTuple):
    """At most `most` products of a list have the same `value`; -1 is no value."""

    name: str
    value: Ints  # (I,)
    most: int


@dataclass(frozen=True, eq=False)
class Resolved:
    """The rules of one request over I catalogue rows."""

    #: (I,) what is added to scores; -inf is never listed. Requests with the same rules share the array.
    weights: Float32s
    #: (I,) as `weights`, also for products that are never listed.
    soft_weights: Float32s
    #: The rules that never list some products: the name and the (I,) products of each.
    masks: Sequence[tuple[str, Bools]]
    #: Rows that a rule never lists, of this request alone, in any order.
    denied: Sequence[tuple[str, Ints]]
    #: Rows and what is added to their scores, of this request alone.
    near: Ints
    near_weights: Float32s
    #: Weights of the request by rule: its name and the (I,) rows that it weights.
    weighting: Sequence[tuple[str, Bools]]
    #: The rules that bury products like disliked ones, each with the rows that it buries.
    similar: Sequence[tuple[str, Ints]] = ()
    caps: Sequence[Cap] = ()
    constraints: Sequence[ListConstraint] = ()
    diversity: tuple[str, float] | None = None

    @property
    def arranges(self) -> bool:
        """Whether the list is more than the best scores."""
        return bool(self.caps or self.constraints or self.diversity)


@dataclass(frozen=True, eq=False)
class RuleTable:
    """R rules over the I rows of a catalogue, which ascend by item_id."""

    catalogue: Catalogue
    rules: Sequence[ListRule]
    #: The length of a list. A list with pins or shares has no spare products.
    k: int
    member: Bools  # (R, I) the rule's products
    value: Ints  # (R, I) of rules with values the number of the product's value, -1 where it has none
    category: Ints  # (I,) index in `categories`, -1 where the product has none
    categories: Sequence[str]
    price: Floats  # (I,) NaN where unknown
    #: (R, I) index in `fact_texts` of what each rule knows of each product; a text is empty where nothing matters.
    fact: Ints
    fact_texts: Sequence[str]
    _weights: dict[tuple[int, ...], tuple[Float32s, Float32s]] = field(default_factory=dict, repr=False)
    _resolved: dict[tuple[int, ...], Resolved] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        rules: Sequence[ListRule],
        k: int,
        item_ids: Sequence[str],
        member: Bools,
        values: Sequence[Sequence[str | None]],
        category: Sequence[str | None],
        price: Sequence[float | None],
        facts: Sequence[Sequence[str]],
    ) -> RuleTable:
        """The table of a catalogue's products, given in any order.

        `member` is (R, I), `facts` has R times I texts. `values` has I values for caps and rules `by_value`, and none
        for other rules.
        """
        order = pc.sort_indices(pa.array(item_ids, pa.large_string())).to_numpy().astype(np.int64)
        value = np.full((len(rules), len(order)), -1, np.int64)
        for index, column in enumerate(values):
            if len(column):
                value[index] = _encoded(column)[0][order]
        codes, categories = _encoded(category)
        prices = np.array([np.nan if one is None else float(one) for one in price], np.float64)
        fact, texts = _encoded([text for of_rule in facts for text in of_rule])
        fact = fact.reshape(len(rules), len(order))[:, order]
        member, codes, prices = member[:, order], codes[order], prices[order]
        return cls(catalogue, tuple(rules), k, member, value, codes, categories, prices, fact, texts)

    @classmethod
    def empty(cls, catalogue: Catalogue) -> RuleTable:
        """The table without rules."""
        items = len(catalogue)
        none, nowhere = np.zeros((0, items), np.int64), np.full(items, -1, np.int64)
        return cls(catalogue, (), 0, none.astype(np.bool_), none, nowhere, (), np.full(items, np.nan), none, ())

    def save(self, folder: Path) -> None:
        """Write the table beside its saved catalogue."""
        for name in _ARRAYS:
            np.save(folder / f"rules_{name}.npy", getattr(self, name), allow_pickle=False)
        texts = {"categories": list(self.categories), "fact_texts": list(self.fact_texts)}
        about = texts | {"k": self.k, "rules": [asdict(rule) for rule in self.rules]}
        (folder / _FILE).write_text(json.dumps(about), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> RuleTable | None:
        """Read the table of a saved catalogue, None where it has none. Raises CatalogueError for a broken one."""
        if not (folder / _FILE).exists():
            return None
        try:
            about = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            arrays = {n: np.load(folder / f"rules_{n}.npy", mmap_mode="c", allow_pickle=False) for n in _ARRAYS}
            rules = tuple(ListRule(**rule) for rule in about["rules"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            mend = "run the night again, which builds it again"
            raise CatalogueError(f"the rules of {folder} are incomplete ({type(error).__name__}): {mend}") from error
        texts = {name: about[name] for name in ("categories", "fact_texts")}
        return cls(catalogue, rules, about["k"], **texts, **arrays)

    def resolve(self, binding: Binding) -> Resolved:
        """The rules of a request. Disliked products that left the catalogue do nothing."""
        if any(binding[1:]):
            return self._resolve(binding)
        found = self._resolved.get(binding.rules)
        if found is None:
            if len(self._resolved) >= _MOST_RESOLVED:
                self._resolved.clear()
            found = self._resolved[binding.rules] = self._resolve(binding)
        return found

    def _resolve(self, binding: Binding) -> Resolved:
        bound = [(index, self.rules[index]) for index in binding.rules]
        denied: list[tuple[str, Ints]] = []
        similar: list[tuple[str, Ints, Float32s]] = []
        for index, items in binding.disliked:
            rows = self.catalogue.index(items).astype(np.int64)
            rows = rows[rows >= 0]
            denied.append((self.rules[index].name, rows))
            similar.append((self.rules[index].name, *self._near(rows, index)))
        near, near_weights = _joined([(rows, weights) for _, rows, weights in similar])
        for index, rule in bound:
            if rule.kind == "price":
                denied += [(rule.name, self._beyond(index, rule, category, paid)) for category, paid in binding.paid]
        for index, values in binding.recent:
            denied += [(self.rules[index].name, self._of_category(index, value)) for value in values]
        diverse = [(rule.name, rule.strength) for _, rule in bound if rule.kind == "diversity"]
        weights, soft_weights = self._weights_of(binding.rules)
        return Resolved(
            weights=weights,
            soft_weights=soft_weights,
            masks=[(rule.name, never) for i, rule in bound if (never := self._never[i]) is not None],
            denied=[(name, rows) for name, rows in denied if len(rows)],
            near=near,
            near_weights=near_weights,
            weighting=[(rule.name, self._members[i]) for i, rule in bound if rule.kind in ("boost", "bury")],
            similar=[(name, rows) for name, rows, _ in similar],
            caps=[Cap(rule.name, self._values[i], rule.most) for i, rule in bound if rule.kind == "cap"],
            constraints=[
                ListConstraint(rule.name, self._members[i], rule.products, rule.within, rule.rank)
                for i, rule in bound
                if rule.kind in ("pin", "share")
            ],
            diversity=max(diverse, key=lambda one: one[1]) if diverse else None,
        )

    def facts(self, rules: tuple[int, ...], item_ids: Sequence[str]) -> list[str]:
        """What the rules know of products, as one text each."""
        numbers = self.fact[np.array(rules, np.int64)[:, None], self.catalogue.index(item_ids)].T.tolist()
        return [",".join(text for n in of_item if (text := self.fact_texts[n])) for of_item in numbers]

    def _weights_of(self, rules: tuple[int, ...]) -> tuple[Float32s, Float32s]:
        """(I,) the weights that depend on the rules alone, with -inf for what is never listed, and without."""
        found = self._weights.get(rules)
        if found is None:
            if 2 * len(self._weights) * self.price.nbytes > _CACHE_BYTES:
                self._weights.clear()
            soft = np.zeros(len(self.price), np.float32)
            for index in rules:
                rule = self.rules[index]
                if rule.kind in ("boost", "bury"):
                    soft[self._members[index]] += np.float32(rule.weight if rule.kind == "boost" else -rule.weight)
            hard = soft.copy()
            for index in rules:
                if (never := self._never[index]) is not None:
                    hard[never] = -np.inf
            found = self._weights[rules] = hard, soft
        return found

    @cached_property
    def _never(self) -> Sequence[Bools | None]:
        """Of each rule the (I,) products that it never lists, whoever the customer is; None where it has none."""
        found = [self._never_of(rule, member) for rule, member in zip(self.rules, self._members, strict=True)]
        return [one if one is not None and one.any() else None for one in found]

    def _never_of(self, rule: ListRule, member: Bools) -> Bools | None:
        if rule.kind == "deny":
            return member
        if rule.kind == "allow":
            return ~member
        if rule.kind != "price":
            return None
        none = np.zeros(len(member), np.bool_)
        too_low = none if rule.at_least is None else self.price < rule.at_least
        too_high = none if rule.at_most is None else self.price > rule.at_most
        return member & (too_low | too_high)

    def _beyond(self, index: int, rule: ListRule, category: str, paid: float) -> Ints:
        """The products of a category whose price is beyond a multiple of what the customer paid in it."""
        rows = self._of_category(index, category)
        price = self.price[rows]
        too_low = price < (-np.inf if rule.at_least_times is None else rule.at_least_times * paid)
        too_high = price > (np.inf if rule.at_most_times is None else rule.at_most_times * paid)
        return rows[too_low | too_high]

    def _of_category(self, index: int, category: str) -> Ints:
        rows = self._rows_by_category.get(category, np.empty(0, np.int64))
        return rows[self._members[index][rows]]

    @cached_property
    def _members(self) -> Sequence[Bools]:
        """The rows of `member`, always the same arrays: their identity is a key."""
        return tuple(self.member)

    @cached_property
    def _values(self) -> Sequence[Ints]:
        """The rows of `value`, likewise."""
        return tuple(self.value)

    @cached_property
    def _rows_by_category(self) -> Mapping[str, Ints]:
        order = np.argsort(self.category, kind="stable")
        start = np.searchsorted(self.category[order], np.arange(len(self.categories) + 1))
        return {name: order[start[n] : start[n + 1]] for n, name in enumerate(self.categories)}

    def _near(self, rows: Ints, index: int) -> tuple[Ints, Float32s]:
        """The products that a rule finds like those of `rows`, ascending, and what is added to their scores."""
        if not len(rows):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        weight = self.rules[index].weight
        if self.rules[index].by_value:
            disliked = self.value[index][rows]
            alike = np.flatnonzero(np.isin(self.value[index], disliked[disliked >= 0]))
            return alike, np.full(len(alike), -weight, np.float32)
        found = [self.titles.neighbours(row) for row in rows.tolist()]
        others, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((-cosines, others))
        others, cosines = others[order], cosines[order]
        is_first = np.diff(others, prepend=-1) != 0
        return others[is_first], -np.float32(weight) * cosines[is_first]

    @cached_property
    def titles(self) -> TitleSimilarity:
        """Similarities of the catalogue's titles; one that says nothing is like no other."""
        ids = list(self.catalogue.item_ids)
        told = telling_titles(dict(zip(ids, self.catalogue.titles, strict=True)))
        return TitleSimilarity([told.get(item, "") for item in ids])


def _joined(parts: Sequence[tuple[Ints, Float32s]]) -> tuple[Ints, Float32s]:
    """Distinct ascending rows, and the sums of their weights, which are added in order."""
    if len(parts) == 1:
        return parts[0]
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(part for part, _ in parts)]))
    weights = np.zeros(len(rows), np.float32)
    for part, added in parts:
        weights[np.searchsorted(rows, part)] += added
    return rows, weights


def _encoded(values: Sequence[str | None]) -> tuple[Ints, list[str]]:
    """Each value's index among the distinct ones, -1 for None; and the distinct values."""
    encoded = pa.array(values, pa.large_string()).dictionary_encode()
    return pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(), encoded.dictionary.to_pylist()
