"""The ledger keeps every answer of a model, so that each distinct request is scored once.

`<store>/ledger/<task>/wave=<number>-<run_id>/part-00000.parquet` is append-only. It has one row per scored request. A
request's key is a hash of all that decides its answer except the catalogue. The catalogue changes nightly, and a list
stays usable while its products can still be sold.

Which answer a run uses. The run ignores answers whose `scored_on` is after run_date: they may name products that were
not sold yet. A backfilled date therefore equals what that night would have written. Of the rest the newest counts, then
the highest wave. The run uses it if it was scored against the run's own catalogue. It also uses it if enough of its
products can still be sold and it is not too old. The age limit lies between half of `max_age_days` and all of it. A
hash of the key spreads the limit, so that one night's answers do not all expire in one night. A request that the model
failed on is kept too, with `failure` in place of `result`. It is asked again after a week.

What a look-up costs. Lists are wide, so the look-up does not shuffle them. It decides where a list is read whether the
list is still good, and shuffles its key and one number. The lists that are used are read a second time, where they are
joined with their customers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkContext
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from jobs.scoring.waves import AnswerTerms, ReportProgress, ScoredWaves, row_schema, score_missing
from jobs.spark import files, parquet
from jobs.spark.deadline import Deadline
from jobs.spark.fault_points import point
from jobs.spark.pandas_udfs import arrow_udf
from jobs.store.store import Store

#: Days after which a failed request is asked again: memory and libraries change.
_RETRY_DAYS = 7
#: Most keys that are broadcast to the ledger's rows. The broadcast skips the rows of other keys.
BROADCAST_KEYS = 200_000
#: A row's number holds its day, its wave (eight digits) and these flags, from left to right.
_HAS_FAILED, _SAME_CATALOGUE, _ENOUGH, _FLAGS = 1, 2, 4, 8
_WAVES = 100_000_000
#: Most products that a Spark plan holds.
_PLANNED_ITEMS = 50_000

#: Maps a column of lists (array<struct<item_id, ...>>) to whether the shop can still use each of them.
Enough = Callable[[Column], Column]


@dataclass(frozen=True)
class Results:
    """The answered requests (`key` and the ledger's columns), and how many were reused, scored and left."""

    rows: DataFrame
    #: `key` and `failure` of the requests that the model failed on.
    failed: DataFrame
    reused: int
    scored: int
    #: Requests that the deadline left unanswered.
    late: int = 0
    #: Wall-clock seconds of the waves.
    model_seconds: float = 0.0
    #: The number of rows of `failed`.
    failures: int = 0
    #: Tokens that went through the model for the scored requests.
    tokens: int = 0


def request_key(
    task: str,
    prompt: Column,
    *,
    code_version: int,
    model_version: str,
    settings: Mapping[str, object],
    also_hash: Column | None = None,
) -> Column:
    """SHA-256 in hex of what decides a request's answer; null where `prompt` or `also_hash` is null.

    `code_version` is the task's own version, `model_version` the checkpoint's fingerprint (weights, tokenizer,
    template), `settings` the decoding settings and the number format.
    `also_hash` is a hash of whatever else the model is given, such as excluded ids. The prompt comes last and nothing
    before it can hold a newline, so two different requests never have the same text.
    """
    fixed = "\n".join((task, str(code_version), model_version, json.dumps(settings, sort_keys=True)))
    also = F.lit("") if also_hash is None else also_hash
    return F.sha2(F.concat(F.lit(fixed + "\n"), also, F.lit("\n"), prompt), 256)


def results(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    requests: DataFrame,
    infer: Callable[[DataFrame], DataFrame],
    *,
    enough: Enough | None = None,
    wave_minutes: float = 5,
    progress: ReportProgress | None = None,
    deadline: Deadline | None = None,
    max_failures: int = 0,
) -> Results:
    """Answer every distinct request from the ledger, and score those that it cannot answer.

    `requests` has `key`, `prompt_hash` and what `infer` reads; equal keys are equal requests. It is read twice, so it
    should lie in a file. `infer` adds `result` (of terms.result_type, never null) to its rows and keeps their columns.
    Where it adds a `failure` the result is null. More than `max_failures` of them raise GateRefused. `enough` says of a
    list whether the shop can still use it. No wave starts after `deadline`; the requests that are left have
    no row.
    """
    folder = f"{store.work(terms.run_id)}/{terms.task}_found"
    known = lookup(spark, store, terms, requests.select("key"), enough)
    asked = sum(footer.rows for footer in parquet.write(spark, known, folder))
    point("found-written")
    found = spark.read.schema(known.schema).parquet(files.for_reading(folder))
    missing = found.where(F.col("why_missing").isNotNull()).select("key", F.col("why_missing").alias("why_scored"))
    is_missing = F.col("why_missing").isNotNull()
    kinds = found.groupBy(is_missing.alias("is_missing"), "has_failed").count().collect()
    total = sum(kind["count"] for kind in kinds if kind["is_missing"])
    failures = sum(kind["count"] for kind in kinds if kind["has_failed"] and not kind["is_missing"])
    rows, scored = usable_answers(spark, store, terms, found, asked), ScoredWaves()
    if total:
        scored = score_missing(
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
    if scored.waves:
        new = spark.read.schema(terms.schema).parquet(*(files.for_reading(wave) for wave in scored.waves))
        rows = rows.unionByName(new)
    has_failed = F.col("failure").isNotNull()
    failed = rows.where(has_failed).select("key", "failure")
    return Results(
        rows=rows.where(~has_failed),
        failed=failed,
        reused=asked - total,
        scored=scored.requests,
        late=total - scored.requests,
        model_seconds=scored.seconds,
        failures=failures + scored.failures,
        tokens=scored.tokens,
    )


def lookup(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    keys: DataFrame,
    enough: Enough | None = None,
) -> DataFrame:
    """Find the newest answer of each distinct `key` as of the run date: its place in the ledger and `why_missing`.

    `why_missing` is null where the answer is usable, else `new` (never scored), `catalogue` (too few of its products
    can still be sold) or `age`. `scored_on` and `wave_number` are null without an answer. `has_failed` marks the answer
    of a request that the model failed on. `keys` is read twice.
    """
    ledger = read(spark, store, terms.task, terms.result_type).where(F.col("scored_on") <= F.lit(terms.run_date))
    if keys.count() <= BROADCAST_KEYS:
        ledger = ledger.join(F.broadcast(keys), on="key", how="left_semi")
    ledger = ledger.withColumn("wave_number", wave_number())
    known = ledger.select("key", _numbered(terms, enough).alias("number"), F.lit(False).alias("is_asked"))
    asked = keys.select("key", F.lit(None).cast("bigint").alias("number"), F.lit(True).alias("is_asked"))
    # One shuffle and one hash table for both: a join would sort them and need distinct keys.
    newest = (
        known.unionByName(asked)
        .repartition("key")
        .groupBy("key")
        .agg(F.max("number").alias("number"), F.max("is_asked").alias("is_asked"))
        .where("is_asked")
    )
    newest_place = F.floor(F.col("number") / _FLAGS)
    return (
        newest.withColumns(
            {
                "scored_on": F.date_from_unix_date(F.floor(newest_place / _WAVES).cast("int")),
                "wave_number": F.pmod(newest_place, F.lit(_WAVES)).cast("int"),
                "has_failed": _flag(_HAS_FAILED),
            }
        )
        .withColumn("why_missing", _why_missing(terms, has_limits=enough is not None))
        .select("key", "scored_on", "wave_number", "has_failed", "why_missing")
    )


def usable_answers(spark: SparkSession, store: Store, terms: AnswerTerms, found: DataFrame, size: int) -> DataFrame:
    """The ledger's rows that `found` (at most `size` rows of `lookup`) calls usable, failed requests included."""
    where = ["key", "scored_on", "wave_number"]
    usable = found.where(F.col("why_missing").isNull()).select(*where)
    rows = read(spark, store, terms.task, terms.result_type).withColumn("wave_number", wave_number())
    if size <= BROADCAST_KEYS:
        usable = F.broadcast(usable)
    return rows.join(usable, on=where, how="inner").select(*terms.schema.names)


def wave_number() -> Column:
    """The number of the wave that a row of `read` came from; a newer wave has a higher number."""
    return F.substring("wave", 1, 8).cast("int")


def place() -> Column:
    """Orders the answers to one request from old to new: by day, then by `wave_number`."""
    return F.unix_date("scored_on").cast("bigint") * _WAVES + F.col("wave_number")


def read(spark: SparkSession, store: Store, task: str, result_type: str) -> DataFrame:
    """Read the whole ledger of a task, with the `wave` that each row came from; no rows before the first wave."""
    schema = row_schema(result_type).add("wave", "string")
    folder = store.ledger(task)
    if not files.listdir(spark, folder):
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(files.for_reading(folder))


def enough_sellable(item_ids: Iterable[str], k: int) -> Enough:
    """A test of lists: at least k products of each are among these `item_ids`.

    A catalogue that fits into a Spark plan becomes one set in the JVM. A larger one is looked up in Python, each
    distinct id of a batch once.
    """
    sellable = frozenset(item_ids)
    if len(sellable) <= _PLANNED_ITEMS:
        return lambda listed: F.size(F.filter(listed["item_id"], lambda item: _is_in(item, sellable))) >= k

    def enough(listed: pa.Array) -> pa.Array:
        return _at_least(k, listed, listed.flatten(), sellable.__contains__)

    in_python = arrow_udf("boolean")(enough)
    return lambda listed: in_python(listed["item_id"])


def enough_unchanged(facts: Mapping[str, frozenset[str]], k: int) -> Enough:
    """A test of lists: at least k products of each are keys of `facts` and have each fact that the list has of them.

    A list's `facts` of a product are joined by commas; null where it has none.
    """

    def is_unchanged(product: str) -> bool:
        item_id, _, listed = product.partition("\0")
        known = facts.get(item_id)
        return known is not None and (not listed or known.issuperset(listed.split(",")))

    def enough(listed: pa.Array) -> pa.Array:
        products = listed.flatten()
        of_list = pc.fill_null(products.field("facts"), "")
        joined = pc.binary_join_element_wise(products.field("item_id"), of_list, "\0")
        return _at_least(k, listed, joined, is_unchanged)

    return arrow_udf("boolean")(enough)


def _at_least(k: int, listed: pa.Array, products: pa.Array, is_good: Callable[[str], bool]) -> pa.Array:
    """Whether at least k products of each list are good. `products` are those of all lists, as texts."""
    encoded = products.dictionary_encode()
    good = np.fromiter(map(is_good, encoded.dictionary.to_pylist()), dtype=bool)
    so_far = np.concatenate([[0], np.cumsum(good[encoded.indices.to_numpy()])])
    lengths = pc.fill_null(pc.list_value_length(listed), 0).to_numpy()
    ends = np.cumsum(lengths)
    return pa.array(so_far[ends] - so_far[ends - lengths] >= k)


def _is_in(item: Column, item_ids: Iterable[str]) -> Column:
    """Whether `item` is one of these ids. They go to the JVM as one text: `Column.isin` makes a call for each."""
    java = cast("Any", SparkContext.getOrCreate())._jvm.java
    ids = java.util.Collections.list(java.util.StringTokenizer("\0".join(sorted(item_ids)), "\0"))  # they have no NUL
    is_in: Column = cast("Any", ClassicColumn)(cast("Any", item)._jc.isInCollection(ids))
    return is_in


def _numbered(terms: AnswerTerms, enough: Enough | None) -> Column:
    """A ledger row as one number; the greatest number of a key is its newest answer with its flags."""
    has_failed = F.col("failure").isNotNull()
    same_catalogue = F.col("catalogue_version").eqNullSafe(F.lit(terms.catalogue_version))
    number = place() * _FLAGS + has_failed.cast("int") * _HAS_FAILED + same_catalogue.cast("int") * _SAME_CATALOGUE
    if enough is None:
        return number
    # Null for the rows already decided: Python need not see them.
    undecided = F.when(~same_catalogue & ~has_failed, F.col("result"))
    return number + F.coalesce(enough(undecided).cast("int"), F.lit(0)) * _ENOUGH


def _flag(flag: int) -> Column:
    return F.coalesce(F.col("number").bitwiseAND(F.lit(flag)) > 0, F.lit(False))


def _why_missing(terms: AnswerTerms, *, has_limits: bool) -> Column:
    has_failed, same_catalogue = _flag(_HAS_FAILED), _flag(_SAME_CATALOGUE)
    why = F.when(F.col("number").isNull(), "new").when(has_failed & (_age(terms.run_date) >= _RETRY_DAYS), "age")
    why = why.when(has_failed | same_catalogue, F.lit(None))
    if has_limits:
        why = why.when(~_flag(_ENOUGH), "catalogue")
    if terms.max_age_days is not None:
        why = why.when(_age(terms.run_date) > _age_limit(terms.max_age_days), "age")
    return why


def _age(run_date: date) -> Column:
    return F.datediff(F.lit(run_date), F.col("scored_on"))


def _age_limit(max_age_days: int) -> Column:
    """Days for which a key's answer may serve another catalogue: from half of max_age_days to all of it."""
    return F.lit(max_age_days) - F.pmod(F.xxhash64("key"), F.lit(max_age_days // 2 + 1))
