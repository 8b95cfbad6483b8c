"""Requests, answers and waves for tests of the ledger, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from jobs.scoring.ledger import Found, look_up, request_key
from jobs.scoring.waves import AnswerTerms
from jobs.store.store import Store

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RESULT = "array<struct<item_id:string,score:double>>"
DAY = date(2026, 3, 1)


def terms(run_id: str = "run", day: date = DAY, **values: Any) -> AnswerTerms:
    return AnswerTerms(
        "recommend", RESULT, run_id, day, "model-1", **({"catalogue_version": "c1", "max_age_days": 30} | values)
    )


def requests(spark: SparkSession, prompts: Sequence[str]) -> DataFrame:
    rows = spark.createDataFrame([(p, f"hash of {p}") for p in prompts], "prompt string, prompt_hash string")
    return rows.withColumn(
        "key", request_key("recommend", F.col("prompt"), code_version=1, model_version="model-1", settings={"k": 2})
    )


def found_by(spark: SparkSession, store: Store, asking: AnswerTerms, keys: DataFrame, enough: Any = None) -> Found:
    """A look-up in a new folder: frames of earlier look-ups stay readable."""
    return look_up(spark, store, asking, keys, f"{store.root}/look-ups/{uuid4().hex}", enough)


def reasons(found: Found) -> dict[str, tuple[date | None, str | None]]:
    """For each key the date of its newest answer, and why that cannot be used."""
    usable = {row["key"]: (row["scored_on"], None) for row in found.answers.collect()}
    return usable | {row["key"]: (row["scored_on"], row["why_missing"]) for row in found.missing.collect()}


def listing(*items: str) -> Callable[[DataFrame], DataFrame]:
    """A model that lists these items, best first, for every prompt, without Python workers."""
    scored = [F.struct(F.lit(item).alias("item_id"), F.lit(-1.0 - n).alias("score")) for n, item in enumerate(items)]
    return lambda rows: rows.withColumn("result", F.array(*scored))


def never(rows: DataFrame) -> DataFrame:
    raise AssertionError("the model was asked for what the ledger knows")


def write_wave(store: Store, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """One wave as an earlier night would have left it."""
    fill = {"prompt_hash": "h", "model_version": "m", "catalogue_version": "c1", "why_scored": "new", "run_id": "r"}
    full = [fill | {"result": [{"item_id": row.pop("item", "i"), "score": -1.0}]} | row for row in rows]
    folder = Path(store.ledger("recommend")) / f"wave={name}"
    folder.mkdir(parents=True)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("key", "prompt_hash")),
            ("result", pa.list_(pa.struct([("item_id", pa.string()), ("score", pa.float64())]))),
            *((name, pa.string()) for name in ("model_version", "catalogue_version")),
            ("scored_on", pa.date32()),
            *((name, pa.string()) for name in ("why_scored", "run_id")),
        ]
    )
    pq.write_table(pa.Table.from_pylist(full, schema), folder / "part-00000.parquet")


def row_of(key: str, days: int) -> dict[str, Any]:
    """What was scored for a key so many days after DAY."""
    return {"key": key, "prompt_hash": f"hash of {key}", "scored_on": DAY + timedelta(days=days)}


def write_waves(store: Store, rows: Iterable[dict[str, Any]]) -> None:
    """A wave for each row, in this order."""
    for number, row in enumerate(rows):
        write_wave(store, f"{number + 1:08d}-n", [row])
