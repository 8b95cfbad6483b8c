"""The ledger: the model answers each distinct request once, and every answer is kept.

`<store>/ledger/<task>/wave=<number>-<run_id>/part-00000.parquet`, append-only, one row per request that went through
the model. A request's key is a hash of all that decides its answer except the catalogue, because a shop's catalogue
changes nightly and a list stays usable while its products can still be sold.

Which answer a run uses. Of a key's answers those with `scored_on` after run_date do not exist for the run (they may
name products that were not sold yet), so a backfilled date equals what that night would have written; of the rest the
newest counts (then the highest wave). It is used if it was scored against the very catalogue of the run, or if enough
of its products can still be sold and it is not too old. Age is counted against a limit between half of `max_age_days`
and all of it, spread over the keys by their hash, so that what was scored in one night does not expire in one night. A
request that the model failed on is in the ledger too, with `failure` in place of `result`, and waits a week.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import files, parquet
from jobs.deadline import Deadline
from jobs.faults import point
from jobs.store import Store
from jobs.waves import Progress, Terms, row_schema, score_missing

#: A request that the model failed on is asked again so many days later: memory and libraries change.
_RETRY_DAYS = 7

#: Says of a column of results whether tonight's shop can still use each.
Enough = Callable[[Column], Column]


@dataclass(frozen=True)
class Results:
    """One row per answered request: `key` and the ledger's columns; and how many were reused, scored and left."""

    rows: DataFrame
    #: `key` and `failure` of the requests that the model failed on.
    failed: DataFrame
    reused: int
    scored: int
    #: Requests that the deadline left unanswered.
    late: int = 0
    #: Wall-clock seconds of the waves.
    model_seconds: float = 0.0


def request_key(
    task: str, prompt: Column, *, model_version: str, settings: Mapping[str, object], exclusions: Column | None = None
) -> Column:
    """SHA-256 in hex of what decides a request's answer; null where the prompt or the exclusions are null.

    `model_version` is the checkpoint's fingerprint (weights, tokenizer, template), `settings` the decoding settings,
    `exclusions` a hash of the ids that may not be listed. The prompt comes last and nothing before it can hold a
    newline, so no two different requests are the same text.
    """
    fixed = "\n".join((task, model_version, json.dumps(settings, sort_keys=True)))
    return F.sha2(
        F.concat(F.lit(fixed + "\n"), exclusions if exclusions is not None else F.lit(""), F.lit("\n"), prompt), 256
    )


def results(
    spark: SparkSession,
    store: Store,
    terms: Terms,
    requests: DataFrame,
    infer: Callable[[DataFrame], DataFrame],
    *,
    enough: Enough | None = None,
    wave_minutes: float = 5,
    progress: Progress | None = None,
    deadline: Deadline | None = None,
    max_failures: int = 0,
) -> Results:
    """Answer every distinct request from the ledger, after the model scored those that it cannot answer.

    `requests` has `key`, `prompt_hash` and what `infer` reads; equal keys are equal requests. It is read twice, so it
    should lie in a file. `infer` adds `result` (of terms.result_type, never null) to the rows that it is given and
    keeps the rest; where it adds a `failure` the result is null, and GateRefused is raised where that happens more than
    `max_failures` times. `enough` says of a `result` column whether tonight's shop can still use it. No wave starts
    after `deadline`; the requests that are left then have no row.
    """
    folder = f"{store.work(terms.run_id)}/{terms.task}_found"
    known = lookup(spark, store, terms, requests.select("key"), enough)
    asked = sum(footer.rows for footer in parquet.write(spark, known, folder))
    point("found-written")
    found = spark.read.schema(known.schema).parquet(files.for_reading(folder))
    missing = found.where(F.col("why_missing").isNotNull()).select("key", F.col("why_missing").alias("why_scored"))
    total = missing.count()
    rows = found.where(F.col("why_missing").isNull()).select(*terms.schema.names)
    scored, seconds = 0, 0.0
    if total:
        waves, scored, seconds = score_missing(
            spark,
            store,
            terms,
            requests,
            missing,
            infer,
            total=total,
            wave_minutes=wave_minutes,
            progress=progress,
            deadline=deadline,
            max_failures=max_failures,
        )
    if scored:
        new = spark.read.schema(terms.schema).parquet(*(files.for_reading(wave) for wave in waves))
        rows = rows.unionByName(new)
    has_failed = F.col("failure").isNotNull()
    failed = rows.where(has_failed).select("key", "failure")
    return Results(rows.where(~has_failed), failed, asked - total, scored, total - scored, seconds)


def lookup(
    spark: SparkSession,
    store: Store,
    terms: Terms,
    keys: DataFrame,
    enough: Enough | None = None,
) -> DataFrame:
    """Return each distinct key with its newest answer as of the run date, and `why_missing`.

    That is null where the answer is usable, else `new` (never scored), `catalogue` (too few of its products can still
    be sold) or `age`.
    """
    payload = [name for name in terms.schema.names if name != "key"]
    newest = (
        read(spark, store, terms.task, terms.result_type)
        .where(F.col("scored_on") <= F.lit(terms.run_date))
        # The shuffle that the join needs; left to the aggregate, the wide rows would be sorted before it as well.
        .repartition("key")
        .groupBy("key")
        .agg(F.max_by(F.struct(*payload), F.struct("scored_on", "wave")).alias("found"))
    )
    return (
        keys.distinct()
        .join(newest, on="key", how="left")
        .select("key", *(F.col("found")[name].alias(name) for name in payload))
        .withColumn("why_missing", _why_missing(terms, enough))
    )


def read(spark: SparkSession, store: Store, task: str, result_type: str) -> DataFrame:
    """Read the whole ledger of a task, with the `wave` that each row came from; no rows before the first wave."""
    schema = row_schema(result_type).add("wave", "string")
    folder = store.ledger(task)
    if not files.listdir(spark, folder):
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(files.for_reading(folder))


def enough_sellable(item_ids: Iterable[str], k: int) -> Enough:
    """Say of a list result (array<struct<item_id, ...>>) whether at least k of its products are in `item_ids`.

    Arrow columns in, Arrow column out: each distinct id of a batch is looked up once, no row becomes Python objects.
    """
    sellable = frozenset(item_ids)

    def enough(listed: pa.Array) -> pa.Array:
        encoded = listed.flatten().dictionary_encode()
        is_sellable = np.fromiter((item in sellable for item in encoded.dictionary.to_pylist()), dtype=bool)
        so_far = np.concatenate([[0], np.cumsum(is_sellable[encoded.indices.to_numpy()])])
        lengths = pc.fill_null(pc.list_value_length(listed), 0).to_numpy()
        ends = np.cumsum(lengths)
        return pa.array(so_far[ends] - so_far[ends - lengths] >= k)

    answer = F.arrow_udf(enough, "boolean")  # type: ignore[attr-defined]
    return lambda result: answer(result["item_id"])


def _why_missing(terms: Terms, enough: Enough | None) -> Column:
    never_scored = F.col("scored_on").isNull()
    same_catalogue = F.col("catalogue_version").eqNullSafe(F.lit(terms.catalogue_version))
    has_failed = F.col("failure").isNotNull()
    why = F.when(never_scored, "new").when(has_failed & (_age(terms.run_date) >= _RETRY_DAYS), "age")
    why = why.when(has_failed | same_catalogue, F.lit(None))
    if enough is not None:
        # Null for the rows already decided: they need not travel to Python.
        undecided = F.when(~same_catalogue & ~never_scored, F.col("result"))
        why = why.when(~enough(undecided), "catalogue")
    if terms.max_age_days is not None:
        why = why.when(_age(terms.run_date) > _age_limit(terms.max_age_days), "age")
    return why


def _age(run_date: date) -> Column:
    return F.datediff(F.lit(run_date), F.col("scored_on"))


def _age_limit(max_age_days: int) -> Column:
    """Days for which a key's answer may be used against another catalogue: max_age_days or up to half of it less."""
    return F.lit(max_age_days) - F.pmod(F.xxhash64("key"), F.lit(max_age_days // 2 + 1))
