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
from jobs.tables.same_titles import one_of_each_title
from lm.recommend.list_rules import Binding

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.recommend.recommender import Recommender, ScoredItem

#: One list, best product first. `parts` and `weights` are null where no reasons were asked for. `rule` names the rules
#: that moved a product or weighted it, `facts` is what the rules of its request know of it.
RESULT = (
    f"array<struct<item_id:string,score:double,parts:{PARTS},weights:array<struct<event:int,weight:double>>,"
    "rule:string,facts:string>>"
)


def score(requests: DataFrame, load: Callable[[], Recommender], candidates: int, reasons: str = "none") -> DataFrame:
    """Run the model over distinct requests; adds `result` (best product first) and `failure`.

    A request has `prompt`, `excluded` and, where rules are configured, `rules`. `reasons` is that of
    `recommend.reasons`. `load` runs in the Python workers and caches the model there. Tests replace it by a fake.
    """

    def begin() -> Callable[..., list[Any]]:
        model = load()

        def recommend(
            prompts: list[str], excluded: list[Sequence[str]], rules: list[str | None] | None = None
        ) -> list[Any]:
            bindings = () if rules is None else (rules,)
            lists = model.recommend(prompts, [list(ids) for ids in excluded], candidates, *bindings)
            if reasons == "none":
                scored = [[(c.item_id, float(c.score), None, None) for c in found] for found in lists]
            else:
                scored = scored_reasons(model, prompts, lists, only_first=reasons == "first")
            bound = [None] * len(lists) if rules is None else rules
            ruled = [_rules_and_facts(model, found, text) for found, text in zip(lists, bound, strict=True)]
            return [[(*one, *of) for one, of in zip(*both, strict=True)] for both in zip(scored, ruled, strict=True)]

        return recommend

    columns = [name for name in ("prompt", "excluded", "rules") if name in requests.columns]
    return answered(requests, columns, RESULT, begin)


def _rules_and_facts(
    model: Recommender, found: Sequence[ScoredItem], rules: str | None
) -> list[tuple[str | None, str | None]]:
    """Of each product of a list: the names of the rules that moved or weighted it, and what its rules know of it."""
    facts: Sequence[str | None] = [None] * len(found)
    if rules and found and model.rules is not None:
        facts = model.rules.facts(Binding.parse(rules).rules, [one.item_id for one in found])
    return [(", ".join(one.rules) or None, fact) for one, fact in zip(found, facts, strict=True)]


def lists(prompts: DataFrame, results: DataFrame, items: DataFrame, k: int, *, titles_differ: bool = True) -> DataFrame:
    """Join customers with their results, drop products that cannot be sold today, and keep the best k.

    `prompts` has `user_id`, `key`, `prompt_hash`, and `events` if reasons are wanted. `results` has one row per `key`,
    as the ledger gives it. Adds `parts` and `reasons`, both null where the result has none. With rules, `prompts` also
    has `rules` and `items` has `facts`; products of which a rule now knows something else are dropped. Unless
    `titles_differ`, `items` has `title_key`, and a list has one product of each.
    """
    has_rules = "rules" in prompts.columns
    facts = [F.col("facts").alias("facts_today")] if has_rules else []
    keys = [] if titles_differ else ["title_key"]
    sellable = items.where("available").select("item_id", "title", *facts, *keys)
    shown = [name for name in ("user_id", "key", "prompt_hash", "events", "rules") if name in prompts.columns]
    joined = prompts.select(*shown).join(results.drop("prompt_hash"), on="key", how="inner")
    if "events" not in shown:
        joined = joined.withColumn("events", F.lit(None).cast(EVENTS))
    candidates = (
        with_shown_events(joined)
        .select("*", F.posexplode("result").alias("position", "candidate"))
        .select("*", "candidate.*")
        .join(sellable, on="item_id", how="inner")
    )
    if has_rules:
        candidates = candidates.where(_facts_are_the_same())
    if not titles_differ:
        candidates = one_of_each_title(candidates, k)
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
            "rule",
        )
    )


def with_category_and_price(lists: DataFrame, items: DataFrame) -> DataFrame:
    """Add `category` and `price` of each listed product as the catalogue has them on the date."""
    return lists.join(items.select("item_id", "category", "price"), on="item_id", how="left")


def _facts_are_the_same() -> Column:
    """Whether the rules that bind know of a product what they knew when it was listed."""
    numbers = F.from_json("rules", "rules array<int>")["rules"]
    today = F.filter(F.transform(numbers, lambda n: F.col("facts_today")[n]), lambda text: text != "")
    return F.coalesce(F.array_join(today, ","), F.lit("")) == F.coalesce("facts", F.lit(""))


def _rank_within_customer() -> Column:
    # The engine's order is total (best first, ties by item_id), so its position decides.
    return F.row_number().over(Window.partitionBy("user_id").orderBy("position"))
