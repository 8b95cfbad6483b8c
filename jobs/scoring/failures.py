"""Requests that the model cannot answer: found in the worker where they raise, from the driver where they kill it.

A row that raises costs its batch a few calls more: the batch is cut in two until the row stands alone. A row that
kills its Python worker (out of memory, a fault in native code) or hangs in it takes the task and the job along, so the
driver cuts the wave into parts and scores each as a wave of its own, until a row has died alone. Nothing that was
found out is found out again: what failed is in the ledger like an answer, with `failure` in place of a result.
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

#: Rules of `quarantine`, and what each says of the row.
RAISED, DIED = "model_raised", "model_worker_died"
DETAILS = {
    RAISED: "the model raised an error on this row and on no other of its batch",
    DIED: "the model's Python worker died or hung on this row, alone and among others",
}
#: Whose rows a task answers, and the key of that table.
_TABLES = {
    "recommend": ("prompts", "user_id"),
    "sentiment": ("reviews", "review_id"),
    "answers": ("questions", "question_id"),
}
#: More rows of one batch than this are no odd rows: the model is broken, and the error is told as it is.
_RAISING_ROWS = 16
#: A wave that killed its worker is cut into so many parts, and each that dies again likewise.
_PARTS = 8
#: While rows are looked for a worker may be silent for so long: parts are small, and each hung one costs this.
_IDLE_SECONDS = 120
_IDLE_SETTING = "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"
#: What Spark says of a job whose Python worker or executor was gone.
_DEATHS = (
    "Python worker exited unexpectedly",
    "Python worker process terminated due to idle timeout",
    "ExecutorLostFailure",
)


@dataclass
class Allowance:
    """How many requests of a task may fail tonight before the model, not the rows, is at fault."""

    task: str
    most: int
    failed: int = 0

    def spend(self, failed: int) -> None:
        """Count new failures; GateRefused beyond the allowance, before they are kept."""
        self.failed += failed
        if self.failed > self.most:
            raise GateRefused(
                f"the model of task {self.task} failed on {self.failed:,} requests, gate.max_failures is {self.most:,}:"
                " more than odd rows. Nothing was published, the old data stays, what was scored is kept. Does the "
                "machine have the memory for it (regulars doctor), and is the model folder whole? Mend that and run "
                "the same command again, or let it pass with --set gate.max_failures=<number>."
            )


def answered(
    requests: DataFrame, columns: Sequence[str], result: str, begin: Callable[[], Callable[..., Sequence[Any]]]
) -> DataFrame:
    """Put each row's `columns` to the model, adding `result` (of this SQL type) and `failure`, one of them null.

    `begin` runs in the Python worker, once a task, and returns what answers: a function of one list per column.
    """

    @pandas_udf(f"struct<result:{result},failure:string>")
    def answer(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        ask = begin()
        for batch in batches:
            lists = [batch[name].tolist() for name in columns]

            def ask_part(part: slice, lists: list[list[Any]] = lists) -> Sequence[Any]:
                return ask(*(of[part] for of in lists))

            results, failures = answer_each(ask_part, len(batch))
            yield pd.DataFrame({"result": pd.Series(results, dtype=object), "failure": failures})

    return requests.withColumn("__answered", answer(F.struct(*columns))).select("*", "__answered.*").drop("__answered")


def answer_each(ask: Callable[[slice], Sequence[Any]], size: int) -> tuple[list[Any], list[str | None]]:
    """Ask for all rows at once; where that raises, cut in two. Returns per row its answer or None, and why it failed.

    Runs in the Python worker. The reason names the kind of error only: its message may quote the row. Raises the last
    error where more rows fail than odd ones would.
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


def rejected(task: str, asked: DataFrame, failed: DataFrame) -> tuple[str, DataFrame, dict[str, int]]:
    """Of the rows of `asked` whose request failed: their table, their `quarantine` rows, their number by rule."""
    table, key = _TABLES[task]
    rule = F.substring_index("failure", " ", 1)
    rows = quarantine_rows(
        asked.join(failed, on="key", how="inner"),
        F.lit(table),
        DETAILS,
        rule=rule,
        key_hash=F.sha2(F.col(key), 256),
        error=_kind(),
    )
    return table, rows, {row["rule"]: row["count"] for row in rows.groupBy("rule").count().collect()}


def _kind() -> Column:
    """The kind of error, where there is one."""
    return F.nullif(F.regexp_extract("failure", " (.*)", 1), F.lit(""))


def surviving(
    spark: SparkSession,
    wave: DataFrame,
    size: int,
    score: Callable[[DataFrame, int], str],
    give_up: Callable[[DataFrame], str],
) -> list[str]:
    """Score a wave of `size` requests (`key`, ...); where it kills its worker, all of it but the rows that do.

    `score` keeps a part and returns its folder, `give_up` keeps a single row as failed. Any error but a worker's death
    goes on to the caller.
    """
    folder = _score_or_die(score, wave, size)
    if folder:
        return [folder]
    keys = sorted(row["key"] for row in wave.select("key").collect())
    with _impatient(spark):
        return list(_of_dead(wave, keys, score, give_up))


def _of_dead(
    wave: DataFrame, keys: Sequence[str], score: Callable[[DataFrame, int], str], give_up: Callable[[DataFrame], str]
) -> Iterator[str]:
    """The folders of what can be kept of requests that died together."""
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
def _impatient(spark: SparkSession) -> Iterator[None]:
    usual = spark.conf.get(_IDLE_SETTING)
    spark.conf.set(_IDLE_SETTING, str(_IDLE_SECONDS))
    try:
        yield
    finally:
        spark.conf.set(_IDLE_SETTING, usual or "0")
