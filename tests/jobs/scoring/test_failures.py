"""Rows that the model cannot answer: found, quarantined with their reason, and the only ones without an answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jobs.scoring import ledger
from jobs.scoring.failures import DIED, RAISED, answer_each, rejected
from jobs.spark.errors import GateRefused
from jobs.store.store import Store
from jobs.tables import recommendations
from tests.ledgers import DAY, found_by, never, requests, terms

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def double(rows: Sequence[int], poison: Sequence[int], calls: list[int] | None = None) -> list[int]:
    if calls is not None:
        calls.append(len(rows))
    if set(rows) & set(poison):
        raise ValueError("must not be seen: C0001391")
    return [2 * row for row in rows]


@pytest.mark.parametrize("poison", [[], [0], [99], [3, 4, 50, 98], list(range(16))])
def test_only_rows_that_raise_get_no_answer(poison: list[int]) -> None:
    rows, calls = list(range(100)), []
    answers, failures = answer_each(lambda part: double(rows[part], poison, calls), 100)
    assert answers == [None if row in poison else 2 * row for row in rows]
    assert failures == [f"{RAISED} ValueError" if row in poison else None for row in rows]
    assert len(calls) <= 1 + 2 * 7 * len(poison)  # the halves of 100 rows are cut seven times
    assert answer_each(lambda part: double(rows[part], []), 0) == ([], [])


def test_a_broken_model_is_not_taken_for_poison_rows() -> None:
    rows = list(range(1000))
    with pytest.raises(ValueError, match="must not be seen"):
        answer_each(lambda part: double(rows[part], rows), 1000)


class Poisoned:
    """A model that answers each prompt with itself and does to its worker what some prompts say."""

    def recommend(self, prompts: Sequence[str], excluded: Sequence[Sequence[str]], k: int) -> list[Any]:
        for prompt in prompts:
            if prompt.startswith("raise"):
                raise IndexError(prompt)
            if prompt.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if prompt.startswith("abort"):
                os.abort()
            if prompt.startswith("hang"):
                time.sleep(600)
        return [[SimpleNamespace(item_id=prompt, score=-1.0, rules=())] for prompt in prompts]


def answered(spark: SparkSession, store: Store, prompts: Sequence[str], run: str = "run", most: int = 20) -> Any:
    from pyspark.sql import functions as F

    asked = requests(spark, prompts).withColumn("excluded", F.array().cast("array<string>"))

    def score(rows: DataFrame) -> DataFrame:
        return recommendations.score(rows, Poisoned, 1)

    of_lists = replace(terms(run), result_type=recommendations.RESULT)
    return ledger.results(spark, store, of_lists, asked, score, max_failures=most)


def listed(found: Any) -> dict[str, str]:
    """Each answered prompt by its hash, as the ledger has it."""
    return {row.prompt_hash: row.result[0].item_id for row in found.rows.collect()}


def test_the_night_goes_on_without_a_row_that_raises(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.sql import functions as F

    store = Store(str(tmp_path))
    prompts = [f"prompt {n}" for n in range(40)]
    found = answered(spark, store, [*prompts, "raise it"])
    assert listed(found) == {f"hash of {prompt}": prompt for prompt in prompts}
    asked = requests(spark, [*prompts, "raise it"]).withColumn("user_id", F.concat(F.lit("customer of "), "prompt"))
    rows, counts = rejected("prompts", "user_id", asked, found.failed)
    assert counts == {RAISED: 1}
    (row,) = rows.collect()
    assert (row.key_hash, row.user_id) == (sha256(b"customer of raise it").hexdigest(), "customer of raise it")
    assert row.detail == "the model raised an error on this row and on no other of its batch: IndexError"
    # The same command again asks the model nothing; a week later it is tried again, whatever the catalogue.
    asked = requests(spark, [*prompts, "raise it"])
    again = ledger.results(spark, store, terms("again"), asked, never)
    assert (again.scored, again.failed.count(), len(listed(again))) == (0, 1, 40)
    later = terms("later", DAY + timedelta(days=7), catalogue_version="c2")
    missing = found_by(spark, store, later, asked.select("key")).missing
    assert [row.why_missing for row in missing.collect()] == ["age"]


@pytest.mark.faults
def test_too_many_failures_refuse_the_night_and_are_not_kept(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(GateRefused, match=r"task recommend failed on 3 requests, gate\.max_failures is 2"):
        answered(spark, store, ["fine", "raise 1", "raise 2", "raise 3"], most=2)
    assert not Path(store.ledger("recommend")).exists()


@pytest.mark.faults
@pytest.mark.parametrize("fate", ["kill", "abort", "hang"])
def test_a_row_that_takes_its_worker_along_is_found(
    spark: SparkSession, tmp_path: Path, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.scoring.failures._IDLE_SECONDS", 25)
    spark.conf.set("spark.sql.execution.pyspark.udf.idleTimeoutSeconds", "35")
    store = Store(str(tmp_path))
    prompts = [f"prompt {n}" for n in range(150)]
    began = time.monotonic()
    try:
        found = answered(spark, store, [*prompts, f"{fate} it", "raise it"])
        assert spark.conf.get("spark.sql.execution.pyspark.udf.idleTimeoutSeconds") == "35"
    finally:
        spark.conf.unset("spark.sql.execution.pyspark.udf.idleTimeoutSeconds")
    assert listed(found) == {f"hash of {prompt}": prompt for prompt in prompts}
    assert sorted(row.failure for row in found.failed.collect()) == [f"{RAISED} IndexError", DIED]
    assert time.monotonic() - began < 150
    # It is known now: nothing is asked again, so no worker dies again.
    everything = requests(spark, [*prompts, f"{fate} it", "raise it"])
    assert ledger.results(spark, store, terms("again"), everything, never).scored == 0


@pytest.mark.faults
def test_a_model_that_kills_every_worker_ends_the_night(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match=r"gate\.max_failures is 2: the model is at fault"):
        answered(spark, Store(str(tmp_path)), [f"kill {n}" for n in range(20)], most=2)
