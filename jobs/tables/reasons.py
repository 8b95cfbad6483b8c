"""Why a product is in a list: the columns `parts`, `reasons` and `because` of `recommendations`.

The model's part runs in the Python workers and is kept in the ledger: the parts of each score, and the weights of the
events by their places in the prompt. Text and times of the events are those of the customer, and are added here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.engine.kv_tree import Floats
    from lm.recommend.recommender import Recommender, ScoredItem

PARTS = (
    "struct<gpt2:double,bought_together:double,bought_again:double,popular:double,like_its_title:double,rule:double>"
)
REASONS = "array<struct<kind:string,text:string,at:timestamp,weight:double>>"
#: The events of a prompt, line by line, as the requests of the night hold them.
EVENTS = "array<struct<kind:string,text:string,title:string,at:timestamp>>"
#: Events of a product that are kept: those with the largest weights above 0.
KEPT = 5
#: `because` names an event only if its weight is at least this share of the heaviest one's.
_LEAST_SHARE = 0.25
#: Marks a search that enough customers wrote.
FREQUENT = "_frequent"
#: A word of at least three letters, or two Chinese characters.
_WORD = r"\p{IsHan}{2}|[\p{L}&&[^\p{IsHan}]]{3,}"
#: A placeholder of redaction: its text is not repeated to a customer.
_REDACTED = r"\[[A-Z]+\]"


class _Wording(NamedTuple):
    """The sentence of `because` in one language: `start`, a search, `joint`, an event of a product, `end`."""

    start: str
    searched: str
    joint: str
    product: Mapping[str, str]  # kind of event -> words; {} is the title
    end: str


_WORDINGS = {
    "en": _Wording(
        "Because you ",
        "searched for “{}”",
        " and ",
        {
            "bought": "bought {}",
            "reviewed": "reviewed {}",
            "in cart": "put {} into your cart",
            "wished": "wished for {}",
            "viewed": "viewed {}",
        },
        ".",
    ),
    "zh": _Wording(
        "因为您",
        "搜索过“{}”",
        "并",
        {
            "bought": "购买过{}",
            "reviewed": "评价过{}",
            "in cart": "将{}加入过购物车",
            "wished": "收藏过{}",
            "viewed": "浏览过{}",
        },
        "。",
    ),
}


def scored_reasons(
    model: Recommender, prompts: Sequence[str], lists: Sequence[Sequence[ScoredItem]], *, only_first: bool
) -> list[Any]:
    """Add the parts of each score, and the weights of the events for the first or for all products.

    Older purchases of a long prompt are not weighed. Returns one list a prompt of (item_id, score, parts, weights or
    None).
    """
    from lm.recommend.reasons import NEWEST_PURCHASES, Reasoner

    reasoner = Reasoner(model)
    explained = [[one.item_id for one in (found[:1] if only_first else found)] for found in lists]
    weights = reasoner.event_weights(prompts, explained, NEWEST_PURCHASES)
    items = [[one.item_id for one in found] for found in lists]
    scores = [np.array([one.score - one.weight for one in found]) for found in lists]
    parts = reasoner.parts(prompts, items, scores)
    return [
        [
            (
                one.item_id,
                float(one.score),
                tuple(map(float, part._replace(rule=one.weight))),
                _heaviest(of_events[i]) if i < len(of_events) else None,
            )
            for i, (one, part) in enumerate(zip(found, of_list, strict=True))
        ]
        for found, of_list, of_events in zip(lists, parts, weights, strict=True)
    ]


def _heaviest(weights: Floats) -> list[tuple[int, float]]:
    """Return (event, weight) of the heaviest events, (events,) -> at most KEPT, the earlier event first on a tie."""
    order = np.argsort(-weights, kind="stable")[:KEPT]
    return [(int(event), float(weights[event])) for event in order if weights[event] > 0]


def with_shown_events(results: DataFrame) -> DataFrame:
    """Replace the places of events in `result` by what `events` (of the table's prompts) says of them.

    The structs of `result` get `reasons`, with `title` besides the fields of REASONS; `events` is dropped.
    """

    def shown(weight: Column) -> Column:
        event = F.col("events")[weight["event"]]
        fields = [event[name].alias(name) for name in ("kind", "text", "title", "at")]
        return F.struct(*fields, weight["weight"].alias("weight"))

    def explained(candidate: Column) -> Column:
        kept = [candidate[name].alias(name) for name in ("item_id", "score", "parts", "rule", "facts")]
        return F.struct(*kept, F.transform(candidate["weights"], shown).alias("reasons"))

    return results.withColumn("result", F.transform("result", explained)).drop("events")


def frequent_searches(searches: DataFrame, min_customers: int) -> DataFrame:
    """Return the searches of at least `min_customers` customers: `_plain` (see `plain`) and FREQUENT, true."""
    return (
        searches.groupBy(plain(F.col("query")).alias("_plain"))
        .agg(F.count_distinct("user_id").alias("customers"))
        .where(F.col("customers") >= min_customers)
        .select("_plain", F.lit(True).alias(FREQUENT))
    )


def heaviest_search() -> Column:
    """The text of the heaviest search in `reasons` that weighs enough to be named and fits `title`; null without.

    Any event may weigh much for a product that everybody buys. A person sees the reason in a search only if it shares
    a word with the product's title, or two Chinese characters.
    """
    least = F.col("reasons")[0]["weight"] * _LEAST_SHARE
    title = F.lower("title")

    def fits(text: Column) -> Column:
        words = F.regexp_extract_all(F.lower(text), F.lit(_WORD), F.lit(0))
        return F.exists(words, lambda word: F.contains(title, F.regexp_replace(word, "s$", "")))

    return F.filter(
        "reasons",
        lambda reason: (reason["kind"] == "searched") & (reason["weight"] >= least) & fits(reason["text"]),
    )[0]["text"]


def with_because(
    lists: DataFrame,
    searches: DataFrame | None,
    language: str,
    min_customers: int,
    frequent: DataFrame | None = None,
) -> DataFrame:
    """Add `because`, a sentence over the heaviest events in `reasons`, and leave the fields of REASONS in them.

    Names the heaviest search that fits the product, and the heaviest event of a product. A search that fewer than
    `min_customers` customers wrote is not named, nor is a redacted text. Null where no event can be named. `frequent`
    is the result of `frequent_searches`, if it is known already.
    """
    words = _WORDINGS[language]
    least = F.col("reasons")[0]["weight"] * _LEAST_SHARE
    search = heaviest_search()
    told = F.filter(
        "reasons",
        lambda reason: (
            reason["kind"].isin(*words.product)
            & (reason["weight"] >= least)
            & (F.trim(F.coalesce(reason["title"], F.lit(""))) != "")
            & ~reason["title"].rlike(_REDACTED)
        ),
    )[0]
    found = lists.withColumns({"_search": search, "_product": told})
    if searches is None:
        found = found.withColumn("_search", F.lit(None).cast("string"))
    else:
        if frequent is None:
            frequent = frequent_searches(searches, min_customers)
        found = found.withColumn("_plain", plain(F.col("_search"))).join(frequent, on="_plain", how="left")
        is_named = F.col(FREQUENT) & ~F.col("_search").rlike(_REDACTED)
        found = found.withColumn("_search", F.when(is_named, F.col("_search")))
    because = F.concat_ws(
        words.joint,
        _filled(words.searched, F.col("_search")),
        F.coalesce(
            *(
                F.when(F.col("_product.kind") == kind, _filled(text, F.trim("_product.title")))
                for kind, text in words.product.items()
            )
        ),
    )
    sentence = F.when(because != "", F.concat(F.lit(words.start), because, F.lit(words.end)))
    untitled = F.transform(
        "reasons", lambda reason: F.struct(*(reason[name].alias(name) for name in ("kind", "text", "at", "weight")))
    )
    helpers = [name for name in found.columns if name.startswith("_")]
    return found.withColumns({"because": sentence, "reasons": untitled}).drop(*helpers)


def _filled(text: str, value: Column) -> Column:
    """The text with the value in place of {}; null where the value is null."""
    before, after = text.split("{}")
    return F.concat(F.lit(before), value, F.lit(after))


def plain(text: Column) -> Column:
    """The text without differences of case and blanks."""
    return F.lower(F.regexp_replace(F.trim(text), r"\s+", " "))
