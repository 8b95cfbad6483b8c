"""A few rows of what a night published, for its end: one customer's list, labels and answers.

They name no customer and no review. Of a customer's history only the products that they bought are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.markup import escape
from rich.table import Table

from jobs.spark import files
from jobs.tables.runs import Night

_PRODUCTS, _BOUGHT, _ANSWERS = 5, 6, 2
_LONGEST_ANSWER = 160
#: A purchase in a prompt: the product's token alone in a line, or its title.
_PURCHASE = re.compile(r"^(?:<\|item:([^|\n]*)\|>|(?:Bought: |购买：)(.+))$", re.MULTILINE)
#: Digits that may be an order's number.
_NUMBER = re.compile(r"\d{4,}")


def samples(spark: SparkSession, night: Night) -> Iterator[Table]:
    """Yield a table for each kind of published rows. The same rows are shown each time."""
    tables = {"recommendations": _one_list, "sentiments": _labels, "answers": _answers}
    for name, shown in tables.items():
        if night.rows.get(name):
            yield shown(spark, night)


def _one_list(spark: SparkSession, night: Night) -> Table:
    rows = _published(spark, night, "recommendations")
    likeliest = rows.where("rank = 1").orderBy(F.col("because").isNull(), F.desc("score"), "user_id").limit(1)
    one = likeliest.select("user_id")  # a join with it: the id as a literal would reach the event log
    found = rows.join(one, on="user_id", how="left_semi").orderBy("rank").limit(_PRODUCTS).collect()
    table = Table(
        "rank", "product", "score", "because", title="One customer's list: the one whose first product is the likeliest"
    )
    for row in found:
        table.add_row(str(row["rank"]), escape(row["title"]), f"{row['score']:.2f}", escape(row["because"] or ""))
    prompt = _published(spark, night, "prompts").join(one, on="user_id", how="left_semi").select("prompt").first()
    bought = _bought(rows, prompt["prompt"]) if prompt else []
    table.caption = escape(f"Bought before, newest last: {' · '.join(bought)}") if bought else "Bought nothing before"
    return table


def _bought(rows: DataFrame, prompt: str) -> list[str]:
    """Return the titles of the newest purchases in a prompt. A product that is in nobody's list has its id."""
    newest = [(unquote(item), title) for item, title in _PURCHASE.findall(prompt)][-_BOUGHT:]
    titles = (
        rows.where(F.col("item_id").isin([item for item, _ in newest]))
        .groupBy("item_id")
        .agg(F.max("title").alias("title"))
    )
    known = {row["item_id"]: row["title"] for row in titles.collect()}
    return [title or known.get(item, item) for item, title in newest]


def _labels(spark: SparkSession, night: Night) -> Table:
    """One review of each label."""
    of_label = Window.partitionBy("label").orderBy(F.xxhash64("review_id"), "review_id")
    rows = _published(spark, night, "sentiments").withColumn("number", F.row_number().over(of_label))
    first = rows.where("number = 1").orderBy("label")
    shown = first.select("item_id", "rating", "label", "p_negative", "p_neutral", "p_positive", "disagrees")
    table = Table(*shown.columns, title="A review of each label")
    for row in shown.collect():
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else escape(str(v)) for v in row))
    return table


def _answers(spark: SparkSession, night: Night) -> Table:
    """Two answers and one refusal, where the night has them."""
    rows = _published(spark, night, "answers").orderBy(F.xxhash64("question_id"), "question_id")
    table = Table("answer", "articles", "confidence", title="Answers to questions")
    for row in [*rows.where("NOT refused").take(_ANSWERS), *rows.where("refused").take(1)]:
        text = f"refused: {row['refused_because']}" if row["refused"] else _NUMBER.sub("…", row["answer"])
        text = text if len(text) <= _LONGEST_ANSWER else text[:_LONGEST_ANSWER] + "…"
        table.add_row(escape(text), escape(", ".join(row["article_ids"][:2])), f"{row['confidence']:.2f}")
    return table


def _published(spark: SparkSession, night: Night, table: str) -> DataFrame:
    return spark.read.parquet(files.for_reading(night.store.date_folder(table, night.run_date)))
