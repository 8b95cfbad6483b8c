"""Writes `recommendations`: the k most likely next products of each customer, with log-probabilities.

Mailings and analysts read it. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.scoring.failures import answered
from jobs.tables.reasons import EVENTS, PARTS, scored_reasons, with_shown_events

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.recommend.recommender import Recommender

#: One list, best product first. `parts` and `weights` are null where no reasons were asked for.
RESULT = f"array<struct<item_id:string,score:double,parts:{PARTS},weights:array<struct<event:int,weight:double>>>>"


def score(requests: DataFrame, load: Callable[[], Recommender], candidates: int, reasons: str = "none") -> DataFrame:
    """Run the model over distinct requests (`prompt`, `excluded`); adds `result` (best product first) and `failure`.

    `reasons` is that of `recommend.reasons`. `load` runs in the Python workers and caches the model there.
    Tests replace it by a fake.
    """

    def begin() -> Callable[..., list[Any]]:
        model = load()

        def recommend(prompts: list[str], excluded: list[Sequence[str]]) -> list[Any]:
            lists = model.recommend(prompts, [list(ids) for ids in excluded], candidates)
            if reasons == "none":
                return [[(c.item_id, float(c.score), None, None) for c in found] for found in lists]
            return scored_reasons(model, prompts, lists, only_first=reasons == "first")

        return recommend

    return answered(requests, ["prompt", "excluded"], RESULT, begin)


def lists(prompts: DataFrame, results: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """Join customers with their results, drop products that cannot be sold today, and keep the best k.

    `prompts` has `user_id`, `key`, `prompt_hash`, and `events` if reasons are wanted. `results` has one row per `key`,
    as the ledger gives it. Adds `parts` and `reasons`, both null where the result has none.
    """
    sellable = items.where("available").select("item_id", "title")
    shown = [name for name in ("user_id", "key", "prompt_hash", "events") if name in prompts.columns]
    joined = prompts.select(*shown).join(results.drop("prompt_hash"), on="key", how="inner")
    if "events" not in shown:
        joined = joined.withColumn("events", F.lit(None).cast(EVENTS))
    candidates = (
        with_shown_events(joined)
        .select("*", F.posexplode("result").alias("position", "candidate"))
        .select("*", "candidate.*")
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
            "parts",
            "reasons",
        )
    )


def with_category_and_price(lists: DataFrame, items: DataFrame) -> DataFrame:
    """Add `category` and `price` of each listed product as the catalogue has them on the date."""
    return lists.join(items.select("item_id", "category", "price"), on="item_id", how="left")


def _rank_within_customer() -> Column:
    # The engine's order is total (best first, ties by item_id), so its position decides.
    return F.row_number().over(Window.partitionBy("user_id").orderBy("position"))
