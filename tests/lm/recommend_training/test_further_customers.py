"""Customers who are not in memory: what is counted, and what GPT-2 learns from them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lm.checkpoint.manifest import read_manifest
from lm.metrics.baselines import Baskets
from lm.recommend.cold_items import ColdItems
from lm.recommend_training.count_purchases import bought_items, count_hybrid
from lm.recommend_training.further_customers import FurtherCustomers, part_of_epoch
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents
from lm.text.prompt import Event
from lm.train.training_loop import TrainingProgress
from lm.train.training_state import TrainingError
from tests.lm.recommend_training.test_train_recommender import ITEMS, TINY, shop

TITLES = {item: item for item in "abcdef"}


def written(folder: Path, customers: list[CustomerEvents], parts: int = 1) -> FurtherCustomers:
    """Customers in the files of Spark; those with an odd number are in part 1, and so on."""
    bought = [
        [(event.item_id, day) for event, day in zip(one.events, one.days, strict=True) if event.kind == BOUGHT]
        for one in customers
    ]
    purchases = pa.table(
        {
            "items": [[item for item, _ in one] for one in bought],
            "days": pa.array([[day for _, day in one] for one in bought], pa.list_(pa.int32())),
        }
    )
    folder.mkdir(parents=True)
    pq.write_table(purchases, folder / "purchases.parquet", row_group_size=7)
    if parts > 1:
        rows = {
            "part": [1 + number % (parts - 1) for number in range(len(customers))],
            "user_id": [f"{number:04}" for number in range(len(customers))],
            "events": [[event._asdict() for event in one.events] for one in customers],
            "days": [list(one.days) for one in customers],
            "moments": [list(range(len(one.days))) for one in customers],
        }
        pq.write_table(pa.table(rows), folder / "histories.parquet")
    histories = folder / "histories.parquet" if parts > 1 else None
    return FurtherCustomers(folder / "purchases.parquet", histories, parts, len(customers), "0")


def buys(items: Sequence[str]) -> CustomerEvents:
    """A purchase a day."""
    return CustomerEvents([Event(BOUGHT, item, item) for item in items], range(len(items)))


def test_what_only_others_bought_counts_as_bought_and_as_bought_together(tmp_path):
    others = [buys("bc"), buys("cdx"), buys("d")]  # x is no item of the model
    codes = {item: code for code, item in enumerate(TITLES)}
    own, everybody = (bought_items(map(buys, some), codes, 0, timed=True) for some in (["ab"], ["ab", "bc", "cd", "d"]))
    parts = {"co_purchase": True, "cold_items": True}
    counted = count_hybrid(own, TITLES, **parts, further=written(tmp_path / "w", others))
    all_in_memory = count_hybrid(everybody, TITLES, **parts)
    assert isinstance(counted.cold_items, ColdItems)
    assert counted.cold_items.bought.tolist() == [True] * 4 + [False] * 2
    assert (counted.co_purchase.cosines != all_in_memory.co_purchase.cosines).nnz == 0
    np.testing.assert_array_equal(counted.co_purchase.popular, all_in_memory.co_purchase.popular)
    assert counted.co_purchase.cosines.nnz == 6


def test_the_newest_fifty_distinct_items_up_to_the_last_day_are_counted(tmp_path):
    rng = random.Random(0)
    items = {f"{n:03}": n for n in range(120)}
    histories = [rng.choices(list(items), k=rng.choice([0, 3, 90])) for _ in range(40)]
    further = written(tmp_path / "w", [buys(history) for history in histories]).upto(69)
    baskets, purchases = further.counts(items, newest=69)
    expected = Baskets.of([history[:70] for history in histories], items)
    assert baskets.codes.tolist() == expected.codes.tolist()
    assert baskets.offsets.tolist() == expected.offsets.tolist()
    bought = [items[item] for history in histories for item in history[:70]]
    assert purchases[0].tolist() == np.bincount(bought, minlength=120).tolist()
    lately = [2 ** (-(69 - day) / 28) for history in histories for day, _ in enumerate(history[:70])]
    np.testing.assert_allclose(purchases[1], np.bincount(bought, lately, minlength=120))


def test_every_pass_reads_each_part_once_in_an_order_of_its_own(tmp_path):
    part = part_of_epoch(written(tmp_path / "w", [buys("ab")] * 9, parts=4), seed=0)
    passes = [[part(epoch) for epoch in range(start, start + 4)] for start in range(0, 20, 4)]
    assert all(sorted(parts) == [0, 1, 2, 3] for parts in passes)
    assert len(set(map(tuple, passes))) > 1
    assert part_of_epoch(None, seed=0)(5) == 0


def test_gpt2_learns_from_customers_who_are_not_in_memory(tmp_path):
    in_memory, others = shop(20), shop(160, seed=1)
    settings = RecommendTrainSettings(**(vars(TINY) | {"neighbours": False, "newcomers": False, "max_epochs": 4}))
    heard: list[TrainingProgress] = []
    further = written(tmp_path / "w", others, parts=3)
    alone = train_recommend(in_memory, ITEMS, settings, tmp_path / "alone")
    figures = train_recommend(in_memory, ITEMS, settings, tmp_path / "all", report=heard.append, further=further)
    assert max(progress.epochs for progress in heard) == 12  # four passes over three parts
    assert figures["customers"] == alone["customers"]
    likelihood = [read_manifest(tmp_path / name).training["lines"][-1]["loss"] for name in ("alone", "all")]
    assert likelihood[1] < likelihood[0]
    assert read_manifest(tmp_path / "all").training["counted"]["customers"] == 180


def test_lost_files_are_said(tmp_path):
    with pytest.raises(TrainingError, match="put the store on a file system that all executors mount"):
        FurtherCustomers(tmp_path / "no", tmp_path / "no", 2, 1, "0").part(1)
