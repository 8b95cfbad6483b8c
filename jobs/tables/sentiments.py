"""Writes `sentiments`: for each review of the date a label, three probabilities, and whether the stars disagree.

Analysts and product managers read it. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.scoring.failures import answered
from jobs.spark.pandas_udfs import pandas_udf
from jobs.spark.plan_size import broadcast_if_small
from lm.redaction.redact import redact
from lm.sentiment.labels import LABELS

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.sentiment.classifier import SentimentClassifier

RESULT = (
    "struct<label:string,p_negative:double,p_neutral:double,p_positive:double,shortened:boolean,"
    "says_negative:double,says_positive:double>"  # null in ledgers of earlier releases
)


def reviews_of(reviews: DataFrame, run_date: date, lookback_days: int) -> DataFrame:
    """Keep reviews with a text, written on run_date or up to `lookback_days` before it, in the session's time zone."""
    day = F.to_date("reviewed_at")
    return reviews.where("trim(text) <> ''").where(
        day.between(F.date_sub(F.lit(run_date), lookback_days), F.lit(run_date))
    )


def with_category(reviews: DataFrame, items: DataFrame | None) -> DataFrame:
    """Add the `category` of each review's product; empty where it has none or `items` is None."""
    if items is None:
        return reviews.withColumn("category", F.lit(""))
    known = broadcast_if_small(items.select("item_id", "category"))
    return reviews.join(known, on="item_id", how="left").withColumn("category", F.coalesce("category", F.lit("")))


def with_clean_text(reviews: DataFrame) -> DataFrame:
    """Replace `text` by its redacted form `prompt`, which the model reads."""

    @pandas_udf("string")
    def clean(texts: pd.Series) -> pd.Series:
        return texts.map(redact, na_action="ignore")

    return reviews.withColumn("prompt", clean("text")).drop("text")


def score(requests: DataFrame, load: Callable[[], SentimentClassifier], max_tokens: int) -> DataFrame:
    """Run the classifier over distinct requests (`prompt`, `category`); adds `result` and `failure`."""

    def begin() -> Callable[..., list[Any]]:
        model = load()

        def judge(prompts: list[str], categories: list[str]) -> list[Any]:
            judged = model.judge(prompts, max_tokens, categories)
            says = judged.of_text[:, [LABELS.index("negative"), LABELS.index("positive")]]
            rows = zip(judged.label, judged.p.tolist(), judged.shortened, says.tolist(), strict=True)
            return [(LABELS[label], *p, bool(shortened), *said) for label, p, shortened, said in rows]

        return judge

    return answered(requests, ["prompt", "category"], RESULT, begin)


def labels(
    reviews: DataFrame, results: DataFrame, stars: StarLabels, min_confidence: float = 0.0, likeliest: bool = False
) -> DataFrame:
    """Join reviews with their results into the `sentiments` contract.

    The label is the model's, or with `likeliest` the most probable one. It is null where its probability is below
    `min_confidence`.
    """
    scored = reviews.join(results, on="key", how="inner").select("*", "result.*")
    if likeliest:
        scored = scored.withColumn("label", _likeliest())
    return scored.withColumn("label", F.when(_p_of_label() >= min_confidence, F.col("label"))).select(
        "review_id",
        "user_id",
        "item_id",
        "label",
        *(f"p_{label}" for label in LABELS),
        "rating",
        stars.disagree(F.col("rating")).alias("disagrees"),
        "shortened",
        "model_version",
        "scored_on",
    )


class StarLabels:
    """The label that stars imply, by the configured cut points, and whether a text contradicts it."""

    def __init__(self, negative: list[int], positive: list[int], confidence: float) -> None:
        self.negative, self.positive, self.confidence = negative, positive, confidence

    def disagree(self, rating: Column) -> Column:
        """True where the text says the opposite label with the configured confidence; false if unrated.

        It asks what the text says (`says_*`), not which stars such texts usually get (`p_*`).
        """
        bad, good = rating.isin(self.negative), rating.isin(self.positive)
        says = {label: F.coalesce(f"says_{label}", f"p_{label}") for label in ("negative", "positive")}
        against = F.when(bad, says["positive"]).when(good, says["negative"]).otherwise(0.0)
        return F.coalesce(against, F.lit(0.0)) >= self.confidence


def _likeliest() -> Column:
    """The most probable label; the first of equal ones."""
    highest = F.greatest(*(f"p_{label}" for label in LABELS))
    return F.coalesce(*(F.when(F.col(f"p_{label}") == highest, F.lit(label)) for label in LABELS))


def _p_of_label() -> Column:
    return F.coalesce(*(F.when(F.col("label") == label, F.col(f"p_{label}")) for label in LABELS))
