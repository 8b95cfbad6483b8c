"""The section `rules` on one run date: the rules that hold, and the products that each of them speaks of.

`jobs.tables.customer_rules` says for whom they bind; the engine applies them (`lm.recommend.list_rules`). Runs inside
the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.config.rule_settings import RuleSettings
from jobs.sources.expressions import column_or_sql, refuse_unsafe_sql
from jobs.spark.errors import ConfigurationError, InputError
from lm.recommend.list_rules import ListRule

#: Keys of a rule that choose customers and dates. They decide for whom it binds, not what it does.
_CHOOSING = {"when", "starts_on", "ends_on", "share_of_customers"}
#: Kinds that no product of a list can break.
_SOFT = ("boost", "bury", "disliked", "diversity")


@dataclass(frozen=True)
class NightRules:
    """The rules that hold on a run date, in the order of the file; lists have `k` products."""

    rules: Sequence[RuleSettings]
    k: int
    run_date: date
    #: The name of a rule that binds for nobody, to see what the others do without it.
    without: str | None = None

    @classmethod
    def of(cls, config: Config, run_date: date) -> NightRules:
        """The rules of the configuration that hold on a date, and what `recommend.after_bad_review` makes of them."""
        rules = [rule for rule in config.rules if rule.is_active(run_date)]
        return cls([*rules, *_after_bad_review(config)], config.recommend.k, run_date)

    def for_engine(self) -> list[ListRule]:
        """The rules as the engine takes them, in the same order."""
        known = {field.name for field in fields(ListRule)}
        found = []
        for rule in self.rules:
            given = {name: value for name, value in rule if name in known and value is not None}
            if rule.kind == "disliked" and rule.of:
                given["by_value"] = True
            if rule.kind in ("pin", "share") and rule.rank is None:
                given = {"within": self.k, "products": 1} | given
            found.append(ListRule(**given))
        return found

    def digests(self) -> list[str]:
        """16 hex digits of each rule, which change with all that it does to a list for which it binds."""
        texts = [json.dumps([self.k, rule.model_dump(mode="json", exclude=_CHOOSING)]) for rule in self.rules]
        return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def _after_bad_review(config: Config) -> list[RuleSettings]:
    """The rules by which customers whose newest rating is bad get fewer products of that brand and category."""
    settings = config.recommend
    if not (settings.after_bad_review and settings.disliked_stars and "reviews" in config.inputs):
        return []
    same = {"kind": "disliked", "weight": settings.after_bad_review, "stars": settings.disliked_stars}
    found = [{"name": f"after_bad_review {value}", "of": value, "newest_only": True} for value in ("brand", "category")]
    return [RuleSettings.model_validate(same | one) for one in found]


def with_products(items: DataFrame, night: NightRules) -> DataFrame:
    """Add arrays to products, with an element for each rule.

    `members`: whether the rule speaks of the product; `never`: whether it never lists it, whoever the customer is;
    `values`: what a cap counts; and `facts`.
    A fact is what the rule knows of the product, as a short text. A list whose products still have their facts still
    keeps the rule. Raises ConfigurationError, naming the rule, for SQL that does not fit the columns of items.
    """
    members, never, values, facts = [], [], [], []
    no_text = F.lit(None).cast("string")
    for rule, digest in zip(night.rules, night.digests(), strict=True):
        member = condition(items, rule.items, f"rules: {rule.name}: items")
        value = _checked(items, rule.of, f"rules: {rule.name}: of").cast("string") if rule.of else no_text
        of_category = F.col("category") if rule.whole_category or rule.kind == "price" else no_text
        price = F.col("price").cast("string") if rule.kind == "price" else no_text
        fact = F.substring(F.sha2(F.to_json(F.struct(member, value, of_category, price)), 256), 1, 8)
        members.append(member)
        never.append(_never(rule, member))
        values.append(value)
        facts.append(F.lit("") if rule.kind in _SOFT else F.concat(F.lit(digest[:8]), fact))
    found = {"members": members, "never": never, "values": values, "facts": facts}
    return items.withColumns({name: F.array(*columns) for name, columns in found.items()})


def _never(rule: RuleSettings, member: Column) -> Column:
    """Whether a rule never lists a product, whoever the customer is."""
    if rule.kind == "deny":
        return member
    if rule.kind == "allow":
        return ~member
    beyond = F.lit(False)
    if rule.at_least is not None:
        beyond |= F.col("price") < rule.at_least
    if rule.at_most is not None:
        beyond |= F.col("price") > rule.at_most
    return F.coalesce(member & beyond, F.lit(False))


def refuse_empty_lists(
    members: NDArray[np.bool_], never: NDArray[np.bool_], sets: Sequence[Sequence[bool]], night: NightRules
) -> None:
    """Raise ConfigurationError where rules that hold together leave no product, naming them.

    `members` and `never` (R, I) are those of `with_products` for the products on sale; `sets` those of `sets_of_rules`.
    """
    if not members.size:
        return
    for rule, speaks in zip(night.rules, members, strict=True):
        if rule.kind in ("allow", "pin", "share") and not speaks.any():
            raise ConfigurationError(
                f"rules: {rule.name}: no product on sale matches its `items`: correct the condition, or remove the rule"
            )
    for holds in sets:
        left = np.ones(members.shape[1], np.bool_)
        names: list[str] = []
        for rule, denied, holding in zip(night.rules, never, holds, strict=True):
            if not (holding and denied.any()):
                continue
            names.append(rule.name)
            left &= ~denied
            if not left.any():
                who = "together leave" if len(names) > 1 else "leaves"
                raise ConfigurationError(
                    f"rules: {' and '.join(names)} {who} no product on sale for some customers: change `items` or "
                    "`when` of one of them"
                )


def condition(rows: DataFrame, sql: str | None, key: str) -> Column:
    """A condition of the configuration over `rows`, false where it is null; true without one. `key` is for messages."""
    if sql is None:
        return F.lit(True)
    return F.coalesce(_checked(rows, sql, key).cast("boolean"), F.lit(False))


def _checked(rows: DataFrame, sql: str, key: str) -> Column:
    """A column from SQL of the configuration; ConfigurationError where it does not fit the columns of `rows`."""
    try:
        refuse_unsafe_sql(rows, sql, key)
        column = column_or_sql(rows, sql)
        _ = rows.select(column).schema
        return column
    except InputError as error:
        raise ConfigurationError(str(error)) from None
    except PySparkException as error:
        reason = (error.getMessage() or type(error).__name__).split("\n")[0].split(" SQLSTATE")[0]
        raise ConfigurationError(
            f"{key}: {reason} The columns are {', '.join(rows.columns)}. Correct the condition in the configuration."
        ) from None
