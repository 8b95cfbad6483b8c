"""Builds the sellable products of the run date as flat arrays, which the workers map into memory."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from jobs.tables.list_rules import NightRules
from lm.recommend import catalogue
from lm.recommend.list_rules import RuleTable
from lm.recommend.same_titles import SameTitles
from lm.text.prompt import PromptEncoder

#: The columns of products that rules need.
_RULED = ("category", "price", "members", "never", "values", "facts")


class SellableCatalogue:
    """The products that a list may contain on the run date, and their version.

    `write` builds the arrays, so a night without model requests never builds them. With rules, `items` are those of
    `jobs.tables.list_rules.with_products`, and the version is of what the rules know of the products too. The
    `title_key` is that of `jobs.tables.same_titles`.
    """

    def __init__(self, items: DataFrame, night: NightRules) -> None:
        columns = ["item_id", "title", *(_RULED if night.rules else ())]
        with_keys = "title_key" in items.columns
        if with_keys:  # a customer may have bought a product that is no longer on sale
            everything = items.select(*columns, "available", "title_key").toArrow()
            on_sale = everything["available"]
            rows, others = everything.filter(on_sale), everything.filter(pc.invert(on_sale))
        else:
            rows = items.where("available").select(*columns).toArrow()
        self._columns: dict[str, list[Any]] = {name: rows.column(name).to_pylist() for name in columns}
        self._night = night
        #: Products of one title; None where all titles differ, and where `items` has no `title_key`.
        self.same_titles: SameTitles | None = None
        if with_keys:
            ids_and_keys = [of[name].to_pylist() for of in (rows, others) for name in ("item_id", "title_key")]
            self.same_titles = SameTitles.build(*ids_and_keys)
        self.item_ids: list[str] = self._columns["item_id"]
        self.titles: list[str] = self._columns["title"]
        #: What the rules know of each product, by item_id; None where no rule can be broken by a product.
        self.facts: dict[str, frozenset[str]] | None = None
        known = self.titles
        if any(map(any, self._columns.get("facts", ()))):
            facts = self._columns["facts"]
            self.facts = {item: frozenset(of_item) for item, of_item in zip(self.item_ids, facts, strict=True)}
            known = ["\n".join([title, *of_item]) for title, of_item in zip(self.titles, facts, strict=True)]
        self.version: str = catalogue.catalogue_version(self.item_ids, known)

    def with_same_titles(self) -> SellableCatalogue:
        """The same products for lists that may show a title more than once."""
        other = copy(self)
        other.same_titles = None
        return other

    @property
    def members(self) -> NDArray[np.bool_]:
        """(R, I) which rule speaks of which product."""
        return self._by_rule("members")

    @property
    def never(self) -> NDArray[np.bool_]:
        """(R, I) which rule never lists which product."""
        return self._by_rule("never")

    def _by_rule(self, name: str) -> NDArray[np.bool_]:
        if not (self._night.rules and self.item_ids):
            return np.zeros((len(self._night.rules), 0), np.bool_)
        return np.array(self._columns[name], np.bool_).T

    def write(self, folder: Path, encoder: PromptEncoder) -> Path:
        """Build the arrays for one model's tokens, save them into the local `folder` and return it."""
        built = catalogue.Catalogue.build(self.item_ids, self.titles, encoder)
        folder.mkdir(parents=True, exist_ok=True)
        built.save(folder)
        if self._night.rules:
            self._rule_table(built).save(folder)
        if self.same_titles is not None:
            self.same_titles.save(folder)
        return folder

    def _rule_table(self, built: catalogue.Catalogue) -> RuleTable:
        columns = self._columns
        values, facts = ([list(one) for one in zip(*columns[name], strict=True)] for name in ("values", "facts"))
        return RuleTable.build(
            built,
            self._night.for_engine(),
            self._night.k,
            self.item_ids,
            self.members,
            values,
            columns["category"],
            columns["price"],
            facts,
        )
