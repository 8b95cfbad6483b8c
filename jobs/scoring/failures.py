"""Isolates requests that crash the model.

A row that raises an error: the worker halves its batch until the row stands alone. A row that kills or hangs its Python
worker also fails the task and the job. The driver then cuts the wave into parts and scores each as a wave of its own,
until a row has died alone. The ledger keeps a failed request like an answer, with `failure` in place of a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.inputs.quarantine import quarantine_rows
from jobs.spark.errors import GateRefused
from jobs.spark.pandas_udfs import pandas_udf
from lm.engine.token_count import tokens_so_far

#: Rules of `quarantine` and their details.
RAISED, DIED = "model_raised", "model_worker_died"
DETAILS = {
    RAISED: "the model raised an error on this row and on no other of its batch",
    DIED: "the model's Python worker died or hung on this row, alone and among others",
}
#: Most rows of one batch that may raise. Beyond it the model is broken, and its error is raised.
_RAISING_ROWS = 16
#: Parts into which a wave is cut that killed its worker, and each part that dies again.
_PARTS = 8
#: Seconds of silence after which a worker is killed during the search. Parts are small; each hung one costs this.
_IDLE_SECONDS = 120
_IDLE_SETTING = "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"
#: Spark's messages about a job that lost its Python worker or executor.
_DEATHS = (
    "Python worker exited unexpectedly",
    "Python worker process terminated due to idle timeout",
    "ExecutorLostFailure",
)


@dataclass
class Allowance:
    """The number of requests of a task that may fail in one night."""

    task: str
    most: int
    failed: int = 0

    def spend(self, failed: int) -> None:
        """Count new failures; GateRefused beyond the allowance, before they are kept."""
        self.failed += failed
        if self.failed > self.most:
            raise GateRefused(
                f"the model of task {self.task} failed on {self.failed:,} requests, gate.max_failures is {self.most:,}:"
                " the model is at fault, not single rows. Nothing was published, the old data stays, what was scored "
                "is kept. Check the machine's memory (regulars doctor) and the model folder. Then run the same command "
                "again, or allow more failures with --set gate.max_failures=<number>."
            )


def answered(
    requests: DataFrame, columns: Sequence[str], result: str, begin: Callable[[], Callable[..., Sequence[Any]]]
) -> DataFrame:
    """Ask the model about each row's `columns`; adds `result` (of this SQL type) and `failure`, one of them null.

    `begin` runs once per task in the Python worker. It returns a function from one list per column to the results.
    The first row of each batch has the batch's tokens in `model_tokens`, the others have 0.
    """

    @pandas_udf(f"struct<result:{result},failure:string,model_tokens:bigint>")
    def answer(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        ask = begin()
        for batch in batches:
            lists = [batch[name].tolist() for name in columns]

            def ask_part(part: slice, lists: list[list[Any]] = lists) -> Sequence[Any]:
                return ask(*(of[part] for of in lists))

            before = tokens_so_far()
            results, failures = answer_each(ask_part, len(batch))
            tokens = [tokens_so_far() - before, *[0] * (len(batch) - 1)][: len(batch)]
            answers = {"result": pd.Series(results, dtype=object), "failure": failures, "model_tokens": tokens}
            yield pd.DataFrame(answers)

    return requests.withColumn("__answered", answer(F.struct(*columns))).select("*", "__answered.*").drop("__answered")


def answer_each(ask: Callable[[slice], Sequence[Any]], size: int) -> tuple[list[Any], list[str | None]]:
    """Ask about all rows at once and halve them where that raises; returns each row's answer and failure, or None.

    Runs in the Python worker. The failure names the kind of error only, because its message may quote the row. Raises
    the last error where more than _RAISING_ROWS rows fail.
    """
    answers: list[Any] = [None] * size
    failures: list[str | None] = [None] * size
    waiting, failed = [slice(0, size)] if size else [], 0
    while waiting:
        part = waiting.pop()
        try:
            answers[part] = list(ask(part))
        except Exception as error:
            if part.stop - part.start > 1:
                middle = (part.start + part.stop) // 2
                waiting += [slice(middle, part.stop), slice(part.start, middle)]
                continue
            failures[part.start] = f"{RAISED} {type(error).__name__}"
            failed += 1
            if failed > _RAISING_ROWS:
                raise
    return answers, failures


def rejected(table: str, key: str, asked: DataFrame, failed: DataFrame) -> tuple[DataFrame, dict[str, int]]:
    """The rows of `asked` whose request failed, as `quarantine_rows` gives them, and their number by rule.

    `table` and `key` are what `quarantine` names the rows by.
    """
    rule = F.substring_index("failure", " ", 1)
    rows = quarantine_rows(
        asked.join(failed, on="key", how="inner"),
        F.lit(table),
        DETAILS,
        rule=rule,
        key_hash=F.sha2(F.col(key), 256),
        user_id=F.col("user_id") if "user_id" in asked.columns else None,
        error=_kind(),
    )
    return rows, {row["rule"]: row["count"] for row in rows.groupBy("rule").count().collect()}


def _kind() -> Column:
    """The kind of error; null where the worker died."""
    return F.nullif(F.regexp_extract("failure", " (.*)", 1), F.lit(""))


def surviving(
    spark: SparkSession,
    wave: DataFrame,
    size: int,
    score: Callable[[DataFrame, int], str],
    give_up: Callable[[DataFrame], str],
) -> list[str]:
    """Score a wave of `size` requests (`key`, ...), without the rows that kill their worker; returns the kept folders.

    `score` keeps a part and returns its folder; `give_up` keeps a single row as failed. The caller gets every error
    other than a worker's death.
    """
    folder = _score_or_die(score, wave, size)
    if folder:
        return [folder]
    keys = sorted(row["key"] for row in wave.select("key").collect())
    with _short_timeout(spark):
        return list(_of_dead(wave, keys, score, give_up))


def _of_dead(
    wave: DataFrame, keys: Sequence[str], score: Callable[[DataFrame, int], str], give_up: Callable[[DataFrame], str]
) -> Iterator[str]:
    """The folders of the parts that can be scored, of requests that died together."""
    length = -(-len(keys) // _PARTS)
    for start in range(0, len(keys), length):
        part = keys[start : start + length]
        rows = wave.where(F.col("key").between(part[0], part[-1]))
        folder = _score_or_die(score, rows, len(part))
        if folder:
            yield folder
        elif len(part) == 1:
            yield give_up(rows)
        else:
            yield from _of_dead(wave, part, score, give_up)


def _score_or_die(score: Callable[[DataFrame, int], str], rows: DataFrame, size: int) -> str | None:
    try:
        return score(rows, size)
    except (PySparkException, Py4JJavaError) as error:
        if not any(said in str(error) for said in _DEATHS):
            raise
        return None


@contextmanager
def _short_timeout(spark: SparkSession) -> Iterator[None]:
    usual = spark.conf.get(_IDLE_SETTING)
    spark.conf.set(_IDLE_SETTING, str(_IDLE_SECONDS))
    try:
        yield
    finally:
        spark.conf.set(_IDLE_SETTING, usual or "0")
