"""A sample shop that grows by a day a night, its catalogue changing, with a stub in place of the model.

`grow(day)` leaves in `growing/` what the shop's tables held at the end of that day; `data/` holds all of it. The
catalogue is one snapshot a date: each night a share of the products goes off sale and as many come back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jobs.config.config import Config, load
from jobs.nightly import run_night
from jobs.sample import write_sample
from jobs.scoring import models
from jobs.tables import recommendations
from jobs.tables.runs import Night
from jobs.tasks import recommend, sentiment
from schemas import contract
from tests.models import save_causal, save_classifier
from tests.nights import tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS = ("purchases", "searches", "reviews", "questions")
#: Nights for which a product is off sale.
OFF_SALE = 5


class GrowingShop:
    """The shop, its store names and its nights; `rows` counts what reached the stub inside the UDF."""

    def __init__(
        self,
        folder: Path,
        *,
        customers: int,
        products: int,
        days: int,
        churn: float,
        nights: int,
        shape: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder
        self.done: list[tuple[Night, int]] = []
        self.events: Sequence[str] = EVENTS
        info = write_sample(folder, customers=customers, products=products, days=days, seed=2)
        self.config_file, self.last = str(info.config), info.last_day
        self.nights = [self.last - timedelta(days=back) for back in reversed(range(nights))]
        self.items = pd.read_parquet(folder / "data/items").dropna(subset=["item_id"]).drop_duplicates("item_id")
        self.off_each_night = max(1, round(len(self.items) * churn))
        for number, day in enumerate([*self.nights, self.last + timedelta(days=1)]):
            self._write_snapshot(day, number)
        save_causal(folder / "models/recommend", item_ids=sorted(self.items.item_id), **(shape or {}))
        save_classifier(folder / "models/sentiment", **(shape or {}))

    def sellable(self, day: date) -> set[str]:
        """The products on sale on `day`."""
        items = pd.read_parquet(self.folder / f"items/{day}")
        return set(items[items.available].item_id)

    def grow(self, day: date) -> None:
        """Leave in `growing/` the events before the end of `day`; rows without a time were there from the start."""
        end = pd.Timestamp(day, tz="Europe/London") + pd.Timedelta(days=1)
        for table in EVENTS:
            rows = pd.read_parquet(self.folder / "data" / table)
            at = contract(table).time_column
            there = rows[~(rows[at] >= end)]
            target = self.folder / "growing" / table
            target.mkdir(parents=True, exist_ok=True)
            there.to_parquet(target / "part-00000.parquet", index=False)

    def config(self, store: str, *overrides: str, growing: bool = False) -> Config:
        """The configuration of one store; with `growing` its inputs are what the shop has so far."""
        paths = [f"inputs.{table}.path={self.folder}/growing/{table}" for table in self.events] if growing else []
        items = f"inputs.items.path={self.folder}/items/{{run_date}}"
        return load(self.config_file, [f"store={self.folder / store}", items, "report.write=false", *paths, *overrides])

    def night(self, spark: SparkSession, store: str, day: date, *overrides: str, growing: bool = False) -> Night:
        """Run one night."""
        config = self.config(store, *overrides, growing=growing)
        return run_night(spark, config, day, Console(quiet=True), self.config_file)

    def table(self, store: str, name: str, day: date) -> pd.DataFrame:
        """One published date of a table."""
        return pd.read_parquet(self.folder / store / "tables" / name / f"run_date={day}")

    def digests(self, store: str) -> dict[str, str]:
        """Every published file, except the runs, which tell their own story, by the SHA-256 of its rows."""
        return {name: digest for of_table in tables(self.folder / store).values() for name, digest in of_table.items()}

    def _write_snapshot(self, day: date, number: int) -> None:
        """A window of the catalogue, in a fixed random order, is off sale; it moves on every night."""
        order = np.random.default_rng(0).permutation(len(self.items))
        off = (order - number * self.off_each_night) % len(self.items) < OFF_SALE * self.off_each_night
        folder = self.folder / f"items/{day}"
        folder.mkdir(parents=True)
        self.items.assign(available=~off).to_parquet(folder / "part-00000.parquet", index=False)


def use_stub(spark: SparkSession, patch: pytest.MonkeyPatch) -> Any:
    """Put a stub in place of both models, and return the count of prompts that reach the recommender's.

    A list is the products of the night's catalogue in the order of a hash with the prompt, a label a hash of its text:
    both depend on all that a model's answer depends on, and on nothing else.
    """
    rows = spark.sparkContext.accumulator(0)

    def digest(*texts: str) -> int:
        return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest()[:6], "big")

    def recommender(model: models.Model, folder: str, *_: object) -> Callable[[], Any]:
        def recommend(prompts: Sequence[str], excluded: Sequence[Sequence[str]], k: int) -> list[Any]:
            from lm.recommend.catalogue import Catalogue

            rows.add(len(prompts))
            ids = [str(item) for item in Catalogue.load(Path(folder)).item_ids]
            lists = []
            for prompt, gone in zip(prompts, excluded, strict=True):
                scored = sorted((digest(prompt, item), item) for item in set(ids) - set(gone))[:k]
                lists.append([SimpleNamespace(item_id=item, score=-1 - n / 2**48, rules=()) for n, item in scored])
            return lists

        return lambda: SimpleNamespace(recommend=recommend)

    def without_reasons(model: Any, prompts: Any, lists: Any, *, only_first: bool) -> list[Any]:
        return [[(one.item_id, float(one.score), None, None) for one in found] for found in lists]

    def classifier(model: models.Model) -> Callable[[], Any]:
        def judge(texts: Sequence[str], max_tokens: int, categories: Sequence[str]) -> Any:
            drawn = np.array([[1 + digest(text, label) % 1000 for label in "abc"] for text in texts], dtype=float)
            p = drawn / drawn.sum(axis=1, keepdims=True)
            return SimpleNamespace(label=p.argmax(axis=1), p=p, of_text=p, shortened=np.zeros(len(texts), bool))

        return lambda: SimpleNamespace(judge=judge)

    patch.setattr(recommend, "recommender_loader", recommender)
    patch.setattr(recommendations, "scored_reasons", without_reasons)
    patch.setattr(sentiment, "classifier_loader", classifier)
    return rows
