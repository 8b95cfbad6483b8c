"""Nights of shops that have half of it: reviews without purchases, and purchases without a model for their reviews."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from jobs.commands.plan import plan
from jobs.commands.status import show_status
from jobs.commands.summary import show_summary
from jobs.config.config import load
from jobs.nightly import run_night
from jobs.sample import write_sample
from jobs.store.dates import DateState
from tests.models import save_causal, save_classifier


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop of 40 customers with tiny models, and the names of its input tables."""
    out = tmp_path_factory.mktemp("shop")
    info = write_sample(out, customers=40, products=30, days=10, seed=1)
    items = pd.read_parquet(out / "data/items")
    save_causal(out / "models/recommend", item_ids=sorted(items.item_id.dropna().unique()))
    save_classifier(out / "models/sentiment")
    return info


def configured(shop, name: str, tables: tuple[str, ...], **models: str | None) -> Path:
    """Write a configuration with these inputs and models, and a store of its own."""
    settings = yaml.safe_load(shop.config.read_text())
    settings["inputs"] = {table: source for table, source in settings["inputs"].items() if table in tables}
    settings |= {"store": f"./{name}", "models": models, "sentiment": {"lookback_days": 10}}
    file = shop.out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def night(spark, shop, file: Path) -> tuple[set[str], str]:
    """Run a night; return the published tables and what it printed."""
    console = Console(file=io.StringIO(), width=200)
    config = load(file)
    show_summary(spark, run_night(spark, config, shop.run_date, console, str(file)), console, config.options())
    return {path.name for path in Path(config.store, "tables").iterdir()}, console.file.getvalue()


def test_a_night_of_reviews_alone_labels_them(spark, shop):
    file = configured(shop, "labels", ("reviews",), sentiment="./models/sentiment")
    published, said = night(spark, shop, file)
    assert published == {"sentiments", "quarantine", "metrics", "runs"}
    labels = pd.read_parquet(shop.out / "labels/tables/sentiments")
    assert len(labels) > 10
    metrics = pd.read_parquet(shop.out / "labels/tables/metrics").set_index(["metric", "slice"]).value
    assert metrics["rows", "sentiments"] == len(labels)
    assert metrics["label_share"].sum() == pytest.approx(1)
    assert "sentiment: " in said
    assert "recommend" not in said
    config, console = load(file), Console(file=io.StringIO(), width=200)
    found = show_status(spark, config, console, str(file))
    assert [(one.run_date, one.state, one.rows) for one in found] == [(shop.run_date, "published", len(labels))]
    [planned] = plan(spark, config, {shop.run_date: (DateState(shop.run_date, "published"), "all")}, console, str(file))
    assert planned.to_score == {"sentiment": 0}


def test_a_night_of_lists_alone_leaves_its_reviews_without_labels(spark, shop):
    tables = ("purchases", "items", "reviews", "optouts")
    file = configured(shop, "lists", tables, recommend="./models/recommend", sentiment=None)
    published, said = night(spark, shop, file)
    assert {"recommendations", "prompts", "loyalty", "metrics"} <= published
    assert "sentiments" not in published
    assert "sentiment: " not in said
    reviewed = pd.read_parquet(shop.out / "lists/tables/loyalty").sentiment
    assert reviewed.notna().any()  # stars say it where no label does
