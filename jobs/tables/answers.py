"""Writes `answers`: for each question of the date an answer in the shop's words, or a refusal with article links.

Customer service reads it. Runs inside the night where questions, articles and models.answers are configured:
`regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config.settings import AnswerSettings
from jobs.scoring.failures import answered
from jobs.spark.pandas_udfs import pandas_udf

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.answers.answer_writer import AnswerWriter
    from lm.answers.asker import Asker

RESULT = "struct<answer:string,score:double,grounded:int>"
ASKED = "struct<prompt:string,article_ids:array<string>,confidence:double,refused_because:string>"
#: Newest purchases and reviews of one customer that are read; a prompt has room for a few.
_PURCHASES, _REVIEWS = 60, 10
NOT_GROUNDED, DEADLINE, FAILED = "not_grounded", "deadline", "model_failed"


def questions_of(questions: DataFrame, run_date: date, lookback_days: int) -> DataFrame:
    """Keep questions asked on run_date, or up to `lookback_days` before it, in the session's time zone."""
    day = F.to_date("asked_at")
    due = questions.where(day.between(F.date_sub(F.lit(run_date), lookback_days), F.lit(run_date)))
    return due.select("question_id", "user_id", "text", "asked_at")


def with_customer(questions: DataFrame, used: Mapping[str, DataFrame]) -> DataFrame:
    """Add the asking customer's `orders` and `own_reviews` as of each question's time, newest first.

    Both are bounded before they are collected. They are null where there are none or the customer is unknown.
    """
    titles = used["items"].select("item_id", "title")
    asking = questions.where("user_id IS NOT NULL").select("question_id", "user_id", "asked_at")
    bought = _newest(asking, used["purchases"], "purchased_at", _PURCHASES).join(titles, on="item_id", how="inner")
    order = F.coalesce("order_id", F.lit(""))  # no order number "-" to quote
    orders = (
        bought.groupBy("question_id", order.alias("order_id"), F.to_date("purchased_at").alias("day"))
        .agg(F.max("purchased_at").alias("at"), F.sort_array(F.collect_set("title")).alias("titles"))
        .groupBy("question_id")
        .agg(F.sort_array(F.collect_list(F.struct("at", "order_id", "day", "titles")), asc=False).alias("found"))
    )
    listed = F.transform(
        "found",
        lambda o: F.struct(
            o["order_id"].alias("order_id"),
            F.date_format(o["day"], "yyyy-MM-dd").alias("ordered_on"),
            o["titles"].alias("titles"),
        ),
    )
    known = questions.join(orders.select("question_id", listed.alias("orders")), on="question_id", how="left")
    if "reviews" not in used:
        return known.withColumn("own_reviews", F.lit(None).cast("array<struct<rating:int,title:string,text:string>>"))
    written = _newest(asking, used["reviews"].where("trim(text) <> ''"), "reviewed_at", _REVIEWS).join(
        titles, on="item_id", how="inner"
    )
    fields = F.struct("reviewed_at", "review_id", "rating", "title", "text")
    reviews = written.groupBy("question_id").agg(F.sort_array(F.collect_list(fields), asc=False).alias("found"))
    own = F.transform(
        "found", lambda r: F.struct(r["rating"].alias("rating"), r["title"].alias("title"), r["text"].alias("text"))
    )
    return known.join(reviews.select("question_id", own.alias("own_reviews")), on="question_id", how="left")


def _newest(asking: DataFrame, events: DataFrame, at: str, count: int) -> DataFrame:
    """The newest `count` events of each question's customer, up to the question's time."""
    newest = (
        Window.partitionBy("question_id")
        .orderBy(F.col(at).desc(), *(c for c in events.columns if c not in ("user_id", at)))
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    return (
        asking.join(events, on="user_id", how="inner")
        .where(F.col(at) <= F.col("asked_at"))
        .withColumn("__place", F.row_number().over(newest))
        .where(F.col("__place") <= count)
        .drop("__place")
    )


def with_prompts(questions: DataFrame, load: Callable[[], Asker], settings: AnswerSettings) -> DataFrame:
    """Make each question's prompt, find its articles, and state the reason where it is refused.

    Personal data is redacted here. The customer's words, orders and reviews reach the prompt and nothing else.
    """
    budget, links, least = settings.prompt_tokens, settings.articles, settings.min_confidence

    @pandas_udf(ASKED)
    def ask(batches: Iterator[tuple[pd.Series, pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        asker = load()
        for texts, orders, reviews in batches:
            customers = [asker.customer(o, r) for o, r in zip(_lists(orders), _lists(reviews), strict=True)]
            asked = asker.ask(texts.tolist(), customers, budget=budget, links=links, min_confidence=least)
            yield pd.DataFrame(asked, columns=["prompt", "article_ids", "confidence", "refused_because"])

    asked = questions.withColumn("__asked", ask("text", "orders", "own_reviews"))
    return asked.select("question_id", "user_id", "__asked.*")


def _lists(column: pd.Series) -> list[list[Any]]:
    return [[] if rows is None else list(rows) for rows in column]


def decoding(settings: AnswerSettings) -> dict[str, Any]:
    """The settings that decide the answer to a prompt."""
    return {
        "candidates": settings.candidates,
        "max_new_tokens": settings.max_answer_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
    }


def score(missing: DataFrame, load: Callable[[], AnswerWriter], settings: AnswerSettings) -> DataFrame:
    """Run the model over distinct requests (`prompt`); adds `result`, whose answer is null where none is grounded."""
    how = decoding(settings)

    def begin() -> Callable[..., list[Any]]:
        model = load()
        return lambda prompts: [tuple(answer) for answer in model.write(prompts, **how)]

    return answered(missing, ["prompt"], RESULT, begin)


def answers(asked: DataFrame, results: DataFrame, model_version: str, failed: DataFrame | None = None) -> DataFrame:
    """Join the questions with their results into the `answers` contract; the model failed on the keys of `failed`."""
    found = results.select("key", F.col("result.answer").alias("answer"), F.lit(NOT_GROUNDED).alias("otherwise"))
    if failed is not None:
        found = found.union(failed.select("key", F.lit(None).cast("string"), F.lit(FAILED)))
    joined = asked.join(found, on="key", how="left")
    return joined.select(
        "question_id",
        "user_id",
        "answer",
        "article_ids",
        "confidence",
        F.col("answer").isNull().alias("refused"),
        _reason().alias("refused_because"),
        F.when(F.col("answer").isNotNull(), F.col("prompt_hash")).alias("prompt_hash"),
        F.lit(model_version).alias("model_version"),
    )


def _reason() -> Column:
    return F.when(F.col("answer").isNull(), F.coalesce("refused_because", "otherwise", F.lit(DEADLINE)))
