"""Writes `recommendations`: the k most likely next products of each customer, with log-probabilities.

Mailings and analysts read it. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.scoring.failures import answered

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.recommend.recommender import Recommender

RESULT = "array<struct<item_id:string,score:double>>"


def score(requests: DataFrame, load: Callable[[], Recommender], candidates: int) -> DataFrame:
    """Run the model over distinct requests (`prompt`, `excluded`); adds `result` (best product first) and `failure`.

    `load` runs in the Python workers and caches the model there. Tests replace it by a fake.
    """

    def begin() -> Callable[..., list[Any]]:
        model = load()

        def recommend(prompts: list[str], excluded: list[Sequence[str]]) -> list[Any]:
            lists = model.recommend(prompts, [list(ids) for ids in excluded], candidates)
            return [[(c.item_id, float(c.score)) for c in found] for found in lists]

        return recommend

    return answered(requests, ["prompt", "excluded"], RESULT, begin)


def lists(prompts: DataFrame, results: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """Join customers with their results, drop products that cannot be sold today, and keep the best k.

    `prompts` has `user_id`, `key`, `prompt_hash`. `results` has one row per `key`, as the ledger gives it.
    """
    sellable = items.where("available").select("item_id", "title")
    candidates = (
        prompts.select("user_id", "key", "prompt_hash")
        .join(results.drop("prompt_hash"), on="key", how="inner")
        .select("*", F.posexplode("result").alias("position", "candidate"))
        .select("*", F.col("candidate.item_id").alias("item_id"), F.col("candidate.score").alias("score"))
        .join(sellable, on="item_id", how="inner")
    )
    return (
        candidates.withColumn("rank", _rank_within_customer())
        .where(F.col("rank") <= k)
        .select(
            "user_id",
            "rank",
            "item_id",
            "title",
            "score",
            "prompt_hash",
            "model_version",
            "catalogue_version",
            "scored_on",
            "why_scored",
        )
    )


def with_category_and_price(lists: DataFrame, items: DataFrame) -> DataFrame:
    """Add `category` and `price` of each listed product as the catalogue has them on the date."""
    return lists.join(items.select("item_id", "category", "price"), on="item_id", how="left")


def _rank_within_customer() -> Column:
    # The engine's order is total (best first, ties by item_id), so its position decides.
    return F.row_number().over(Window.partitionBy("user_id").orderBy("position"))
