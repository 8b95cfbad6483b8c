"""The ledger: each distinct request goes through the model once, and a date uses what existed on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pyspark.sql import functions as F

from jobs.scoring import ledger
from jobs.scoring.ledger import enough_sellable, request_key
from jobs.store.store import Store
from tests.ledgers import DAY, RESULT, found_by, listing, never, reasons, requests, terms, write_wave

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def test_a_key_depends_on_all_that_decides_the_answer(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("Bought: tea\n", "x1")], "prompt string, excluded string")
    fixed: dict[str, Any] = {
        "code_version": 1,
        "model_version": "m",
        "settings": {"k": 10, "beams": 8},
        "also_hash": F.col("excluded"),
    }
    prompt = F.col("prompt")
    variants = [
        request_key("recommend", prompt, **fixed),
        request_key("sentiment", prompt, **fixed),
        request_key("recommend", F.concat(prompt, F.lit(" ")), **fixed),
        request_key("recommend", prompt, **fixed | {"model_version": "m2"}),
        request_key("recommend", prompt, **fixed | {"code_version": 2}),
        request_key("recommend", prompt, **fixed | {"settings": {"k": 11, "beams": 8}}),
        request_key("recommend", prompt, **fixed | {"also_hash": F.lit("x2")}),
        request_key("recommend", prompt, **fixed | {"also_hash": None}),
        # A prompt cannot pass for exclusions and another prompt.
        request_key("recommend", F.concat(F.lit("x1\n"), prompt), **fixed | {"also_hash": None}),
    ]
    same = request_key("recommend", prompt, **fixed | {"settings": {"beams": 8, "k": 10}})
    missing = request_key("recommend", F.lit(None).cast("string"), **fixed)
    columns = [*variants, same, missing]
    (row,) = frame.select(*(column.alias(str(n)) for n, column in enumerate(columns))).collect()
    assert len(set(row[: len(variants)])) == len(variants)
    assert row[len(variants)] == row[0]
    assert len(row[0]) == 64
    assert row[-1] is None


def test_distinct_requests_go_through_the_model_exactly_once(spark: SparkSession, store: Store) -> None:
    rows, tasks = spark.sparkContext.accumulator(0), spark.sparkContext.accumulator(0)

    @F.pandas_udf(RESULT)
    def generate(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        tasks.add(1)
        for prompts in batches:
            rows.add(len(prompts))
            yield pd.Series([[(f"item of {prompt}", -1.0)] for prompt in prompts])

    def infer(frame: DataFrame) -> DataFrame:
        return frame.withColumn("result", generate("prompt"))

    prompts = [f"p{n % 100}" for n in range(300)]  # three customers have each prompt
    seen: list[tuple[int, int]] = []
    first = ledger.results(
        spark,
        store,
        terms("one"),
        requests(spark, prompts),
        infer,
        progress=lambda done, total: seen.append((done, total)),
    )
    answers = {row["prompt_hash"]: row for row in first.rows.collect()}
    assert (first.reused, first.scored) == (0, 100)
    assert rows.value == 100
    assert tasks.value > 1  # spread over the cores
    assert set(answers) == {f"hash of p{n}" for n in range(100)}
    assert {row["result"][0]["item_id"] for row in answers.values()} == {f"item of p{n}" for n in range(100)}
    assert {(r["why_scored"], r["scored_on"], r["catalogue_version"], r["run_id"]) for r in answers.values()} == {
        ("new", DAY, "c1", "one")
    }
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)

    again = ledger.results(spark, store, terms("two"), requests(spark, prompts), never)
    assert (again.reused, again.scored) == (100, 0)
    assert {row["prompt_hash"]: row for row in again.rows.collect()} == answers

    more = ledger.results(spark, store, terms("three"), requests(spark, [*prompts, "another"]), infer)
    assert (more.reused, more.scored, rows.value) == (100, 1, 101)
    assert more.rows.count() == 101


def test_answers_do_not_depend_on_partitions(spark: SparkSession, tmp_path: Path) -> None:
    asked = requests(spark, [f"p{n}" for n in range(50)])
    written = []
    for partitions in (1, 2, 7):
        store = Store(str(tmp_path / str(partitions)))
        ledger.results(spark, store, terms(), asked.repartition(partitions), listing("a"))
        (part,) = Path(store.ledger("recommend")).glob("*/*.parquet")
        written.append(part.read_bytes())
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize(
    ("infer", "says"),
    [
        (lambda rows: rows.withColumn("result", F.lit(None).cast(RESULT)), "3 of 3 requests got no result"),
        (lambda rows: rows.withColumn("result", F.lit("a")), "results are of type string, array<struct"),
        (lambda rows: listing("a")(rows).limit(2), "3 rows were expected, the files hold 2"),
        (lambda rows: listing("a")(rows.union(rows)), "3 rows were expected, the files hold 6"),
    ],
)
def test_broken_answers_never_reach_the_ledger(
    spark: SparkSession, store: Store, infer: Callable[[DataFrame], DataFrame], says: str
) -> None:
    with pytest.raises(Exception, match=says):
        ledger.results(spark, store, terms(), requests(spark, ["a", "b", "c"]), infer)
    assert not Path(store.ledger("recommend")).exists()


def why(spark: SparkSession, store: Store, day: date, keys: str, **values: Any) -> dict[str, tuple[Any, Any]]:
    """For each key the date and the reason that a run of `day` finds."""
    enough = values.pop("enough", None)
    frame = spark.createDataFrame([(key,) for key in keys], "key string")
    found = found_by(spark, store, terms(day=day, **values), frame, enough)
    assert found.asked == len(set(keys))
    assert found.answers.count() + found.missing.count() == found.asked
    return reasons(found)


def test_a_date_uses_what_existed_on_it(spark: SparkSession, store: Store) -> None:
    first, second, third = DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)
    write_wave(store, "00000001-a", [{"key": "x", "scored_on": first, "item": "old"}])
    write_wave(
        store, "00000002-b", [{"key": "x", "scored_on": third, "item": "zebra"}, {"key": "y", "scored_on": third}]
    )
    write_wave(store, "00000003-c", [{"key": "x", "scored_on": third, "item": "apple"}])
    assert why(spark, store, first, "xyz") == {"x": (first, None), "y": (None, "new"), "z": (None, "new")}
    assert why(spark, store, second, "xxy") == {"x": (first, None), "y": (None, "new")}
    assert why(spark, store, third, "xy") == {"x": (third, None), "y": (third, None)}
    assert why(spark, store, first - timedelta(days=1), "xy") == {"x": (None, "new"), "y": (None, "new")}
    keys = spark.createDataFrame([("x",)], "key string")
    (row,) = found_by(spark, store, terms(day=third), keys).answers.collect()
    assert row["result"][0]["item_id"] == "apple"  # of two on one date the later wave


@pytest.mark.parametrize("planned", [3, 2])
def test_an_answer_lives_while_its_products_are_sold(
    spark: SparkSession, store: Store, planned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalogue that fits into a plan, and one that is too large for that, decide alike."""
    monkeypatch.setattr(ledger, "_PLANNED_ITEMS", planned)
    results = {"a": ["it's \\ 3", "2"], "b": ["1", "8", "9"], "c": ["1"], "d": [], "f": ["9", "1", "2"]}
    rows = [
        {"key": key, "scored_on": DAY, "result": [{"item_id": item, "score": -1.0} for item in items]}
        for key, items in results.items()
    ]
    write_wave(store, "00000001-a", rows)
    enough = enough_sellable(["1", "2", "it's \\ 3"], k=2)
    # The very same catalogue: asking again would give the same, however short the list is.
    assert why(spark, store, DAY, "abcdf", enough=enough) == dict.fromkeys("abcdf", (DAY, None))
    changed = why(spark, store, DAY, "abcdef", enough=enough, catalogue_version="c2")
    assert {key: reason for key, (_, reason) in changed.items()} == {
        "a": None,
        "b": "catalogue",
        "c": "catalogue",
        "d": "catalogue",
        "e": "new",
        "f": None,
    }


def test_a_product_counts_only_with_the_facts_that_rules_had_of_it(spark: SparkSession) -> None:
    """At least two products of each list are on sale and as the rules knew them."""
    facts = {"a": frozenset({"f1", "g1"}), "b": frozenset({"f2"}), "c": frozenset()}
    lists = [
        [("a", "f1,g1"), ("b", "f2")],
        [("a", "f1,g2"), ("b", "f2")],  # another fact of a
        [("a", None), ("c", ""), ("z", None)],  # no rule bound; z is not sold
        [("c", "f1"), ("b", "f2")],
        None,
    ]
    schema = "n int, listed array<struct<item_id:string,facts:string>>"
    frame = spark.createDataFrame(list(enumerate(lists)), schema)
    found = frame.select("n", ledger.enough_unchanged(facts, 2)(F.col("listed")).alias("enough")).orderBy("n").collect()
    assert [row["enough"] for row in found] == [True, False, True, False, False]


def test_an_answer_grows_too_old_only_where_the_catalogue_changed(spark: SparkSession, store: Store) -> None:
    keys = [f"{n}" for n in range(200)]
    write_wave(store, "00000001-a", [{"key": key, "scored_on": DAY} for key in keys])
    frame = spark.createDataFrame([(key,) for key in keys], "key string")

    def expired(days: int, **values: Any) -> int:
        asked = terms(day=DAY + timedelta(days=days), max_age_days=10, **values)
        return found_by(spark, store, asked, frame).missing.where("why_missing = 'age'").count()

    by_day = {days: expired(days, catalogue_version="c2") for days in (4, 5, 6, 9, 10, 11)}
    assert by_day[4] == by_day[5] == 0
    assert 10 < by_day[6] < by_day[9] < by_day[10] < 200  # not all in one night
    assert by_day[11] == 200
    assert expired(400, catalogue_version="c1") == 0


def test_why_scored_says_why_and_stays(spark: SparkSession, store: Store) -> None:
    asked = requests(spark, ["p"])
    enough = enough_sellable(["a"], k=1)
    later = DAY + timedelta(days=40)
    nights = [
        (terms("one"), "new", DAY),
        (terms("two", catalogue_version="c2"), "new", DAY),  # another catalogue, but the product is still sold
        (terms("three", later, catalogue_version="c3"), "age", later),
        (terms("four", later, catalogue_version="c3"), "age", later),
    ]
    for night, reason, scored_on in nights:
        (row,) = ledger.results(spark, store, night, asked, listing("a"), enough=enough).rows.collect()
        assert (row["why_scored"], row["scored_on"]) == (reason, scored_on), night.run_id
    gone = enough_sellable(["b"], k=1)
    (row,) = ledger.results(
        spark, store, terms("five", later, catalogue_version="c4"), asked, listing("b"), enough=gone
    ).rows.collect()
    assert (row["why_scored"], row["result"][0]["item_id"], row["catalogue_version"]) == ("catalogue", "b", "c4")
