"""A night whose model fails on some customers: they keep the lists of the date before, and are in quarantine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from jobs.scoring.failures import RAISED
from jobs.tables.carried_lists import CARRIED
from jobs.tasks import recommend
from tests.growing_shop import GrowingShop, use_stub
from tests.nights import without_inputs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults


def is_poison(prompt: str) -> bool:
    return crc32(prompt.encode()) % 5 == 0


class FailingModel:
    """A model that raises on a fifth of the prompts."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def recommend(self, prompts: Sequence[str], *arguments: Any) -> list[Any]:
        if any(map(is_poison, prompts)):
            raise ValueError("a row of a customer")
        lists: list[Any] = self.model.recommend(prompts, *arguments)
        return lists


def failing(load: Callable[..., Callable[[], Any]]) -> Callable[..., Callable[[], Any]]:
    """The same loader of a model that fails."""

    def loader(*args: Any) -> Callable[[], Any]:
        begin = load(*args)
        return lambda: FailingModel(begin())

    return loader


def test_customers_on_whom_the_model_fails_keep_their_lists(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(spark, monkeypatch)
    shop = GrowingShop(tmp_path, customers=40, products=30, days=6, churn=0.05, nights=2)
    shop.events = ("purchases", "reviews")
    without_inputs(Path(shop.config_file), "searches", "questions", "articles", "optouts")
    first, second = shop.nights
    shop.night(spark, "store", first)
    monkeypatch.setattr(recommend, "recommender_loader", failing(recommend.recommender_loader))
    night = shop.night(spark, "store", second, "recommend.spares=4")  # other requests than last night's
    prompts = shop.table("store", "prompts", second)
    victims = set(prompts.user_id[prompts.prompt.map(is_poison)])
    assert victims
    assert night.quarantined["prompts", RAISED] == len(victims)
    quarantine = shop.table("store", "quarantine", second)
    assert (quarantine.rule == RAISED).sum() == len(victims)
    assert not quarantine.detail.str.contains("a row of a customer").any()
    before, after = (shop.table("store", "recommendations", day) for day in (first, second))
    had, has = ({user: set(rows.item_id) for user, rows in lists.groupby("user_id")} for lists in (before, after))
    assert set(has) == set(prompts.user_id) - (victims - set(had))
    for user in victims & set(had):
        assert has[user] <= had[user] & shop.sellable(second)
        assert set(after.why_scored[after.user_id == user]) == {CARRIED}
    others = after[~after.user_id.isin(victims)]
    assert CARRIED not in set(others.why_scored)
    assert (others.scored_on.astype(str) == str(second)).all()
