"""Nights under rules: what lists contain, what a changed rule costs, and what customers without events get."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.commands.plan import plan
from jobs.commands.rules import show_rules
from jobs.config.config import Config, load
from jobs.nightly import Night, run_night
from jobs.sample import SampleInfo, write_sample
from jobs.store.dates import DateState
from tests.models import save_causal

pytestmark = pytest.mark.slow

RULES = """
- {name: adults, kind: deny, items: "category = '%s'", when: "age < 18"}
- {name: two of a kind, kind: cap, most: 2, of: category}
- {name: own, kind: boost, weight: 1.0, items: "price < 20", when: "region = 'north'"}
"""


@dataclass
class Shop:
    """A sample shop with customers, and its nights."""

    spark: SparkSession
    info: SampleInfo
    rules: str

    def config(self, rules: str) -> Config:
        return load(self.info.config, ["inputs.customers={path: data/customers}", f"rules={rules}"])

    def night(self, rules: str = "[]") -> tuple[Night, pd.DataFrame]:
        day, console = self.info.run_date, Console(file=io.StringIO())
        night = run_night(self.spark, self.config(rules), day, console, str(self.info.config))
        return night, self.table("recommendations")

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.info.out / "store/tables" / name)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    out = tmp_path_factory.mktemp("shop")
    info = write_sample(out, customers=80, products=60, days=20, seed=1)
    items = pd.read_parquet(out / "data/items")
    save_causal(out / "models/recommend", item_ids=sorted(items.item_id.dropna().unique()))
    for name in ("reviews", "searches", "questions", "articles"):
        without_input(info.config, name)
    users = sorted(pd.read_parquet(out / "data/purchases").user_id.dropna().unique())
    customers = pd.DataFrame({"user_id": [*users, *(f"new{n}" for n in range(10))]})
    customers["age"] = [15 + 10 * (n % 3) for n in range(len(customers))]
    customers["region"] = ["north" if n % 2 else "south" for n in range(len(customers))]
    (out / "data/customers").mkdir()
    customers.to_parquet(out / "data/customers/part-0.parquet")
    category = items.category.mode()[0]
    return Shop(spark, info, "[" + ",".join(RULES.strip().removeprefix("- ").split("\n- ")) % category + "]")


def without_input(config: Path, table: str) -> None:
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith(f"  {table}:")), encoding="utf-8")


def test_nights_under_rules(shop: Shop) -> None:
    _, plain = shop.night()
    users = set(pd.read_parquet(shop.info.out / "data/customers").user_id)
    assert {f"new{n}" for n in range(10)} <= set(plain.user_id) <= users
    assert plain.rule.isna().all()

    state = DateState(shop.info.run_date, "published")
    (planned,) = plan(
        shop.spark, shop.config(shop.rules), {shop.info.run_date: (state, "due")}, Console(file=io.StringIO()), ""
    )
    second, lists = shop.night(shop.rules)
    assert second.scored["recommend"] == planned.to_score["recommend"] > 0
    assert planned.by_rule["two of a kind"] == planned.to_score["recommend"] > planned.by_rule["adults"] > 0

    items = pd.read_parquet(shop.info.out / "data/items").drop_duplicates("item_id").set_index("item_id")
    customers = pd.read_parquet(shop.info.out / "data/customers").set_index("user_id")
    category, age = lists.item_id.map(items.category), lists.user_id.map(customers.age)
    assert category.isin([items.category.mode()[0]])[age < 18].sum() == 0
    assert category.isin([items.category.mode()[0]])[age >= 18].sum() > 0
    assert lists.assign(category=category).groupby(["user_id", "category"]).size().max() <= 2
    boosted = lists.rule.str.contains("own", na=False)
    cheap, north = lists.item_id.map(items.price) < 20, lists.user_id.map(customers.region) == "north"
    assert (boosted == (cheap & north)).all()
    metrics = shop.table("metrics").set_index(["metric", "slice"]).value
    asked = shop.table("prompts").user_id
    assert metrics["rule_customers", "adults"] == (asked.map(customers.age) < 18).sum()
    assert metrics["rule_rows", "own"] == boosted.sum()

    again, same = shop.night(shop.rules)
    assert again.scored["recommend"] == 0
    pd.testing.assert_frame_equal(same.drop(columns="run_date"), lists.drop(columns="run_date"))
    # The rule for the north alone is changed: nobody else is asked.
    third, _ = shop.night(shop.rules.replace("weight: 1.0", "weight: 2.0"))
    assert 0 < third.scored["recommend"] <= (asked.map(customers.region) == "north").sum()
    # Without rules the first lists are used again.
    last, unruled = shop.night()
    assert last.scored["recommend"] == 0
    ranks = ["user_id", "rank", "item_id", "score"]
    pd.testing.assert_frame_equal(unruled[ranks], plain[ranks])


def test_the_bill_of_the_rules(shop: Shop, tmp_path: Path) -> None:
    log = io.StringIO()
    file = tmp_path / "bill.json"
    day = shop.info.first_day + (shop.info.run_date - shop.info.first_day) / 2
    bills = {
        bill.rule: bill
        for bill in show_rules(
            shop.spark, shop.config(shop.rules), day, 9, 60, Console(file=log, width=200), "regulars.yaml", file
        )
    }
    assert set(bills) == {"adults", "two of a kind", "own", "same_title"}
    assert all(bill.customers > 0 and bill.rows > 0 and bill.ndcg is not None for bill in bills.values())
    worst = bills["adults"].worst
    assert worst[0][1] >= worst[-1][1] > 0
    assert worst[0][0] in file.read_text(encoding="utf-8")
    assert worst[0][0] not in log.getvalue()
    assert "adults displaces" in log.getvalue()
