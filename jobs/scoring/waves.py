"""Scores the requests that the ledger cannot answer, in waves of some minutes; each wave is kept at once.

A wave is one range of slots (a slot is a hash of the key), one Spark job and one rename into the ledger. A run that is
killed loses one wave at most, and its next start asks only for what is still missing. The first wave is small, because
the speed is not known yet. The measured speed decides the size of the following ones.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, StringType, StructType, _parse_datatype_string

from jobs.scoring import failures
from jobs.spark import files, parquet
from jobs.spark.deadline import Deadline
from jobs.spark.fault_points import point
from jobs.spark.job_progress import model_tasks, watched
from jobs.store.store import Store

SLOTS = 16_384
FIRST_WAVE = 256
#: A wave is at most this many times the one before it, because the first speed includes loading the model.
_GROWTH = 8
#: Most missing keys that are broadcast. The broadcast avoids a shuffle of all requests.
_BROADCAST_KEYS = 200_000

#: Called with (requests done, requests in all) during and after every wave.
ReportProgress = Callable[[int, int], None]


class BrokenAnswers(Exception):
    """The model did not return one non-null result of the agreed type per request: a defect of the code."""


@dataclass(frozen=True)
class AnswerTerms:
    """Which answers of the ledger are good for one task of one run, and what a new answer is stamped with."""

    task: str
    result_type: str  # DDL
    run_id: str
    run_date: date
    model_version: str
    catalogue_version: str | None = None  # None: the task has no catalogue, so no answer ever expires
    max_age_days: int | None = None

    @property
    def schema(self) -> StructType:
        """The columns of this task's ledger."""
        return row_schema(self.result_type)


@dataclass(frozen=True)
class ScoredWaves:
    """The waves of one task: their ledger folders, scored and failed requests, model tokens, wall-clock seconds."""

    waves: Sequence[str] = ()
    requests: int = 0
    failures: int = 0
    tokens: int = 0
    seconds: float = 0.0


def row_schema(result_type: str) -> StructType:
    """The ledger's columns for results of a DDL type."""
    return (
        StructType()
        .add("key", StringType())
        .add("prompt_hash", StringType())
        .add("result", _parse_datatype_string(result_type))
        .add("model_version", StringType())
        .add("catalogue_version", StringType())
        .add("scored_on", DateType())
        .add("why_scored", StringType())
        .add("run_id", StringType())
        # Why there is no result; ledgers written before this column was there read as null.
        .add("failure", StringType())
    )


def score_missing(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    requests: DataFrame,
    missing: DataFrame,
    infer: Callable[[DataFrame], DataFrame],
    *,
    total: int,
    wave_minutes: float,
    progress: ReportProgress | None,
    deadline: Deadline | None = None,
    max_failures: int = 0,
) -> ScoredWaves:
    """Score the `total` keys of `missing` (`key`, `why_scored`), as many as there is time for before the deadline.

    GateRefused where the model fails on more than `max_failures` of them.
    """
    waiting = _write_requests(spark, store, terms, requests, missing, total)
    point("requests-written")
    counts = _count_slots(waiting)
    allowance = failures.Allowance(terms.task, max_failures)

    tokens: list[int] = []

    def keep(answered: DataFrame, size: int) -> str:
        folder, of_wave = _write_wave(spark, store, terms, answered, size, allowance)
        tokens.append(of_wave)
        return folder

    def score(rows: DataFrame, size: int) -> str:
        answered = infer(rows.repartition(model_tasks(spark.sparkContext, size)))
        return keep(answered, size)

    def give_up(row: DataFrame) -> str:
        nothing = F.lit(None).cast(terms.schema["result"].dataType)
        failed = row.withColumns({"result": nothing, "failure": F.lit(failures.DIED)})
        return keep(failed, 1)

    waves: list[str] = []
    start, done, target, spent = 0, 0, FIRST_WAVE, 0.0
    while done < total and (deadline is None or deadline.seconds_left() > 0):
        stop = next_stop(counts, start, target)
        size = sum(counts[start:stop])
        batch = waiting.where((F.col("slot") >= start) & (F.col("slot") < stop)).drop("slot")
        began = time.monotonic()
        with _watched(spark, f"{terms.run_id}-{terms.task}-{start}", size, done, total, progress):
            waves += failures.surviving(spark, batch, size, score, give_up)
        done, start = done + size, stop
        if progress:
            progress(done, total)
        seconds = time.monotonic() - began
        spent += seconds
        left = math.inf if deadline is None else max(deadline.seconds_left() / 60, 0.0)
        target = next_size(size, seconds, min(wave_minutes, left))
    return ScoredWaves(waves, done, allowance.failed, sum(tokens), spent)


def next_stop(counts: Sequence[int], start: int, target: int) -> int:
    """The end of a wave of about `target` requests from slot `start`. It absorbs a small remainder."""
    stop, size = start, 0
    while stop < len(counts) and size < target:
        size += counts[stop]
        stop += 1
    rest = sum(counts[stop:])
    return len(counts) if rest < target / 4 else stop


def next_size(size: int, seconds: float, wave_minutes: float) -> int:
    """The requests of the next wave, from the size and seconds of the last one; at least one."""
    aim = size / max(seconds, 1e-3) * wave_minutes * 60
    return max(1, min(int(aim), size * _GROWTH))


def _write_requests(
    spark: SparkSession, store: Store, terms: AnswerTerms, requests: DataFrame, missing: DataFrame, total: int
) -> DataFrame:
    """Write each distinct missing request once, sorted by slot so that a wave reads only its own pages."""
    folder = f"{store.work(terms.run_id)}/{terms.task}_requests"
    wanted = F.broadcast(missing) if total <= _BROADCAST_KEYS else missing
    # Equal keys are equal requests: one of them is enough.
    distinct = requests.join(wanted, on="key", how="inner").dropDuplicates(["key"])
    slotted = distinct.withColumn("slot", F.pmod(F.xxhash64("key"), F.lit(SLOTS)).cast("int"))
    written = sum(footer.rows for footer in parquet.write(spark, slotted.sortWithinPartitions("slot"), folder))
    if written != total:
        raise BrokenAnswers(
            f"{total:,} requests are missing from the ledger but {written:,} were found again: the frame of requests "
            "differs between two reads. Write it to a file first."
        )
    return spark.read.schema(slotted.schema).parquet(files.for_reading(folder))


def _count_slots(waiting: DataFrame) -> list[int]:
    counts = [0] * SLOTS
    for row in waiting.groupBy("slot").agg(F.count("*").alias("requests")).collect():
        counts[row["slot"]] = row["requests"]
    return counts


def _write_wave(
    spark: SparkSession, store: Store, terms: AnswerTerms, answered: DataFrame, size: int, allowance: failures.Allowance
) -> tuple[str, int]:
    """Write the raw model output before anything filters or counts it, check it, and rename it into the ledger.

    Returns the wave's folder and the tokens that went through the model for it.
    """
    got, agreed = (schema["result"].dataType.simpleString() for schema in (answered.schema, terms.schema))
    if got != agreed:
        raise BrokenAnswers(f"task {terms.task}: the model's results are of type {got}, {agreed} was agreed")
    wave = f"wave={next_number(spark, store, terms.task):08d}-{terms.run_id}"
    staged = f"{store.staging(terms.run_id)}/{terms.task}/{wave}"
    seen = Observation()
    if "failure" not in answered.columns:
        answered = answered.withColumn("failure", F.lit(None))
    if "model_tokens" not in answered.columns:
        answered = answered.withColumn("model_tokens", F.lit(0))
    rows = parquet.one_sorted_partition(answered.select(*_columns(terms), "model_tokens"), ["key"])
    has_failed = F.col("failure").isNotNull()
    counts = {"nulls": F.col("result").isNull() & ~has_failed, "failures": has_failed}
    counted = [F.count_if(c).alias(n) for n, c in counts.items()] + [F.sum("model_tokens").alias("tokens")]
    written = parquet.write(spark, rows.observe(seen, *counted).drop("model_tokens"), staged)
    parquet.check_footers(written, terms.schema, size, f"task {terms.task}, {wave}")
    if seen.get["nulls"]:
        raise BrokenAnswers(f"task {terms.task}: {seen.get['nulls']:,} of {size:,} requests got no result")
    allowance.spend(seen.get["failures"])
    files.sync(staged)
    point("wave-written")
    target = f"{store.ledger(terms.task)}/{wave}"
    files.rename(spark, staged, target)
    point("wave-committed")
    return target, int(seen.get["tokens"] or 0)


def _columns(terms: AnswerTerms) -> list[Column]:
    return [
        F.col("key"),
        F.col("prompt_hash"),
        F.col("result"),
        F.lit(terms.model_version).alias("model_version"),
        F.lit(terms.catalogue_version).cast("string").alias("catalogue_version"),
        F.lit(terms.run_date).alias("scored_on"),
        F.col("why_scored"),
        F.lit(terms.run_id).alias("run_id"),
        F.col("failure").cast("string").alias("failure"),
    ]


def next_number(spark: SparkSession, store: Store, task: str) -> int:
    """Waves are numbered in the order of writing, whatever the clock says: the higher one is the newer."""
    names = files.listdir(spark, store.ledger(task))
    return 1 + max((int(found[1]) for name in names if (found := re.match(r"wave=(\d+)-", name))), default=0)


def _watched(
    spark: SparkSession, group: str, size: int, done: int, total: int, progress: ReportProgress | None
) -> AbstractContextManager[None]:
    """Report progress within a wave from its finished tasks."""
    if progress is None:
        return nullcontext()
    tasks = model_tasks(spark.sparkContext, size)

    def report(finished: int) -> None:
        progress(done + size * finished // tasks, total)

    return watched(spark.sparkContext, group, f"scoring {size} requests", tasks, report)
