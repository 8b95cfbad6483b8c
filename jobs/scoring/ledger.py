"""The ledger keeps every answer of a model, so that each distinct request is scored once.

`<store>/ledger/<task>/` is append-only, and `ledger_files` names its files. It has one row per scored request. A
request's key is a hash of all that decides its answer except the catalogue. The catalogue changes nightly, and a list
stays usable while its products can still be sold.

Which answer a run uses. The run ignores answers whose `scored_on` is after run_date: they may name products that were
not sold yet. A backfilled date therefore equals what that night would have written. Of the rest the newest counts, then
the highest wave. The run uses it if it was scored against the run's own catalogue. It also uses it if enough of its
products can still be sold and it is not too old. The age limit lies between half of `max_age_days` and all of it. A
hash of the key spreads the limit, so that one night's answers do not all expire in one night. A request that the model
failed on is kept too, with `failure` in place of `result`. It is asked again after a week.

What a look-up costs. It reads the files whose range of keys is asked for. First it reads each row's key, date and
catalogue, and keeps the rows that pass a filter of tonight's keys; only these are shuffled. Then it reads the lists of
the waves that have a found answer, keeps those of found answers in the same way, holds them against the catalogue and
writes them to the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkContext
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from jobs.scoring.ledger_files import LedgerFile, ledger_files, read_files, with_keys_of
from jobs.scoring.waves import AnswerTerms, ReportProgress, ScoredWaves, score_missing
from jobs.spark import files, parquet
from jobs.spark.deadline import Deadline
from jobs.spark.fault_points import point
from jobs.spark.key_filter import might_be_in
from jobs.spark.pandas_udfs import arrow_udf
from jobs.store.store import Store

#: Days after which a failed request is asked again: memory and libraries change.
_RETRY_DAYS = 7
#: Bytes up to which all rows of the ledger are joined with the keys: a filter would cost more than it saves.
_UNFILTERED_BYTES = 64_000_000
#: A row's number holds its day, its wave (eight digits) and these flags, from left to right.
_HAS_FAILED, _SAME_CATALOGUE, _FLAGS = 1, 2, 4
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


@dataclass(frozen=True)
class Found:
    """What the ledger knows of a run's requests; the frames lie in files.

    `why_missing` is `new` (never scored), `catalogue` (too few of its products can still be sold) or `age`.
    """

    #: The usable rows of the ledger, failed requests included.
    answers: DataFrame
    #: `key`, `why_missing`, and `scored_on` of the newest answer, null where there is none.
    missing: DataFrame
    #: The numbers of distinct keys, of rows of `missing`, and of failed requests in `answers`.
    asked: int
    missing_count: int
    failures: int


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
    found = look_up(spark, store, terms, requests.select("key"), folder, enough)
    point("found-written")
    missing = found.missing.select("key", F.col("why_missing").alias("why_scored"))
    rows, total, scored = found.answers, found.missing_count, ScoredWaves()
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
        reused=found.asked - total,
        scored=scored.requests,
        late=total - scored.requests,
        model_seconds=scored.seconds,
        failures=found.failures + scored.failures,
        tokens=scored.tokens,
    )


def look_up(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    keys: DataFrame,
    folder: str,
    enough: Enough | None = None,
) -> Found:
    """Find the newest answer of each distinct `key` as of the run date, and write what is found to `folder`.

    `keys` is read several times, so it should lie in a file.
    """
    found = ledger_files(spark, store, terms.task)
    places = _newest(spark, store, terms, keys, found)
    asked = sum(footer.rows for footer in parquet.write(spark, places, f"{folder}/places"))
    places = spark.read.schema(places.schema).parquet(files.for_reading(f"{folder}/places"))
    unread = F.when(F.col("scored_on").isNull(), "new").when(_is_due_again(terms.run_date), "age")
    places = places.withColumn("why_missing", unread)
    counts = places.groupBy("wave_number", "has_failed", "why_missing").count().collect()
    lost = sum(row["count"] for row in counts if row["why_missing"])
    failures = sum(row["count"] for row in counts if row["has_failed"] and not row["why_missing"])
    columns, is_missing = ["key", "scored_on", "why_missing"], F.col("why_missing").isNotNull()
    missing = places.where(is_missing).select(*columns)
    if lost == asked:
        return Found(spark.createDataFrame([], terms.schema), missing, asked, lost, failures)
    waves = {row["wave_number"] for row in counts if not row["why_missing"]}
    used = [file for file in found if file.wave in waves]
    answers = _answers_at(spark, store, terms, places.where(~is_missing), asked - lost, used, enough)
    unusable = Observation()
    observed = answers.observe(unusable, F.count_if(is_missing).alias("rows"))
    parquet.write(spark, observed, f"{folder}/answers")
    answers = spark.read.schema(answers.schema).parquet(files.for_reading(f"{folder}/answers"))
    missing = missing.unionByName(answers.where(is_missing).select(*columns))
    usable = answers.where(~is_missing).select(*terms.schema.names)
    return Found(usable, missing, asked, lost + unusable.get["rows"], failures)


def _newest(
    spark: SparkSession, store: Store, terms: AnswerTerms, keys: DataFrame, found: Sequence[LedgerFile]
) -> DataFrame:
    """The place of the newest answer of each distinct `key`: `scored_on` and `wave_number`, null where there is none.

    `has_failed` and `same_catalogue` say what that answer is.
    """
    asked = keys.select("key", F.lit(None).cast("bigint").alias("number"), F.lit(True).alias("is_asked"))
    if found:
        rows = _rows_with(spark, store, terms, found, keys).where(F.col("scored_on") <= F.lit(terms.run_date))
        known = rows.select("key", _numbered(terms).alias("number"), F.lit(False).alias("is_asked"))
        asked = known.unionByName(asked)
    # One shuffle and one hash table for both: a join would sort them and need distinct keys.
    newest = (
        asked.repartition("key")
        .groupBy("key")
        .agg(F.max("number").alias("number"), F.max("is_asked").alias("is_asked"))
        .where("is_asked")
    )
    newest_place = F.floor(F.col("number") / _FLAGS)
    return newest.select(
        "key",
        F.date_from_unix_date(F.floor(newest_place / _WAVES).cast("int")).alias("scored_on"),
        F.pmod(newest_place, F.lit(_WAVES)).cast("int").alias("wave_number"),
        _flag(_HAS_FAILED).alias("has_failed"),
        _flag(_SAME_CATALOGUE).alias("same_catalogue"),
    )


def _answers_at(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    places: DataFrame,
    count: int,
    found: Sequence[LedgerFile],
    enough: Enough | None,
) -> DataFrame:
    """The rows at these `count` places, with `why_missing`: null where the shop can use the answer."""
    rows = _rows_with(spark, store, terms, found, places, count)
    at = ["key", "scored_on", "wave_number"]
    answers = rows.join(places.select(*at, "has_failed", "same_catalogue"), on=at, how="inner")
    decided = F.col("has_failed") | F.col("same_catalogue")
    why = F.when(decided, F.lit(None).cast("string"))
    if enough is not None:
        # Null for the rows already decided: Python need not see them.
        answers = answers.withColumn("is_enough", enough(F.when(~decided, F.col("result"))))
        why = why.when(~F.coalesce("is_enough", F.lit(False)), "catalogue")
    if terms.max_age_days is not None:
        why = why.when(is_too_old(terms.run_date, terms.max_age_days), "age")
    return answers.withColumn("why_missing", why).select(*terms.schema.names, "why_missing")


def _rows_with(
    spark: SparkSession,
    store: Store,
    terms: AnswerTerms,
    found: Sequence[LedgerFile],
    keys: DataFrame,
    count: int | None = None,
) -> DataFrame:
    """The rows of these files that may have one of the keys (`count` of them), with `wave_number`."""
    size = sum(files.each(lambda path: files.file_size(spark, path), [file.path for file in found]))
    if size <= _UNFILTERED_BYTES:
        return read_files(spark, store, terms.task, terms.result_type, found).withColumn("wave_number", wave_number())
    count = keys.count() if count is None else count
    found = with_keys_of(found, keys, count)
    rows = read_files(spark, store, terms.task, terms.result_type, found).withColumn("wave_number", wave_number())
    return rows.where(might_be_in(keys.select("key"), count, F.col("key")))


def wave_number() -> Column:
    """The number of the wave that a row of `read` came from; a newer wave has a higher number."""
    return F.substring("wave", 1, 8).cast("int")


def place() -> Column:
    """Orders the answers to one request from old to new: by day, then by `wave_number`."""
    return F.unix_date("scored_on").cast("bigint") * _WAVES + F.col("wave_number")


def read(spark: SparkSession, store: Store, task: str, result_type: str) -> DataFrame:
    """Read the whole ledger of a task, with the `wave` that each row came from; no rows before the first wave."""
    return read_files(spark, store, task, result_type, ledger_files(spark, store, task))


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


def _numbered(terms: AnswerTerms) -> Column:
    """A ledger row as one number; the greatest number of a key is its newest answer with its flags."""
    has_failed = F.col("failure").isNotNull()
    same_catalogue = F.col("catalogue_version").eqNullSafe(F.lit(terms.catalogue_version))
    return place() * _FLAGS + has_failed.cast("int") * _HAS_FAILED + same_catalogue.cast("int") * _SAME_CATALOGUE


def _flag(flag: int) -> Column:
    return F.coalesce(F.col("number").bitwiseAND(F.lit(flag)) > 0, F.lit(False))


def _is_due_again(run_date: date) -> Column:
    """Whether the newest answer is a failure that is asked again."""
    return F.col("has_failed") & (_age(run_date) >= _RETRY_DAYS)


def is_too_old(run_date: date, max_age_days: int) -> Column:
    """Whether the answer to `key`, of the date `scored_on`, is too old to serve another catalogue."""
    return _age(run_date) > _age_limit(max_age_days)


def _age(run_date: date) -> Column:
    return F.datediff(F.lit(run_date), F.col("scored_on"))


def _age_limit(max_age_days: int) -> Column:
    """Days for which a key's answer may serve another catalogue: from half of max_age_days to all of it."""
    return F.lit(max_age_days) - F.pmod(F.xxhash64("key"), F.lit(max_age_days // 2 + 1))
