"""The ledger: each distinct request goes through the model once, and a date uses what existed on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs import faults, ledger, waves
from jobs.compact import compact
from jobs.deadline import Deadline
from jobs.ledger import enough_sellable, request_key
from jobs.publish import recover
from jobs.store import Store
from jobs.waves import Terms
from tests.test_swap import Killed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RESULT = "array<struct<item_id:string,score:double>>"
DAY = date(2026, 3, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def terms(run_id: str = "run", day: date = DAY, **values: Any) -> Terms:
    return Terms(
        "recommend", RESULT, run_id, day, "model-1", **({"catalogue_version": "c1", "max_age_days": 30} | values)
    )


def requests(spark: SparkSession, prompts: Sequence[str]) -> DataFrame:
    rows = spark.createDataFrame([(p, f"hash of {p}") for p in prompts], "prompt string, prompt_hash string")
    return rows.withColumn("key", request_key("recommend", F.col("prompt"), model_version="model-1", settings={"k": 2}))


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


def test_a_key_depends_on_all_that_decides_the_answer(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("Bought: tea\n", "x1")], "prompt string, excluded string")
    fixed = {"model_version": "m", "settings": {"k": 10, "beams": 8}, "exclusions": F.col("excluded")}
    prompt = F.col("prompt")
    variants = [
        request_key("recommend", prompt, **fixed),
        request_key("sentiment", prompt, **fixed),
        request_key("recommend", F.concat(prompt, F.lit(" ")), **fixed),
        request_key("recommend", prompt, **fixed | {"model_version": "m2"}),
        request_key("recommend", prompt, **fixed | {"settings": {"k": 11, "beams": 8}}),
        request_key("recommend", prompt, **fixed | {"exclusions": F.lit("x2")}),
        request_key("recommend", prompt, **fixed | {"exclusions": None}),
        # A prompt cannot pass for exclusions and another prompt.
        request_key("recommend", F.concat(F.lit("x1\n"), prompt), **fixed | {"exclusions": None}),
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


def test_a_killed_run_loses_one_wave_at_most(
    spark: SparkSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise Killed

    monkeypatch.setattr(faults, "_kill", die)
    monkeypatch.setattr(waves, "FIRST_WAVE", 15)
    monkeypatch.setattr(waves, "next_size", lambda size, seconds, minutes: 15)
    asked = requests(spark, [f"p{n}" for n in range(50)])
    sizes: list[int] = []

    def infer(frame: DataFrame) -> DataFrame:
        sizes.append(frame.count())
        return listing("a", "b")(frame)

    for point, kept in (("found-written", 0), ("requests-written", 0), ("wave-written:2", 1), ("wave-committed:1", 2)):
        monkeypatch.setattr(faults, "_passages", Counter())
        monkeypatch.setenv(faults.VARIABLE, point)
        with pytest.raises(Killed):
            ledger.results(spark, store, terms(point.replace(":", "-")), asked, infer)
        recover(spark, store)
        assert len(list(Path(store.ledger("recommend")).glob("*/*.parquet"))) == kept, point
    monkeypatch.delenv(faults.VARIABLE)
    lost = sizes[1]  # scored, but the kill came before its rename
    finished = ledger.results(spark, store, terms("last"), asked, infer)
    assert finished.reused == sizes[0] + sizes[2]
    assert finished.scored == 50 - finished.reused
    assert sum(sizes) == 50 + lost
    assert finished.rows.count() == 50
    names = sorted(p.name for p in Path(store.ledger("recommend")).iterdir())
    assert [name.split("-")[0] for name in names] == [f"wave={n:08d}" for n in range(1, len(names) + 1)]


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
        (lambda rows: listing("a")(rows).limit(2), "3 rows were to be written, the files hold 2"),
        (lambda rows: listing("a")(rows.union(rows)), "3 rows were to be written, the files hold 6"),
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
    found = ledger.lookup(spark, store, terms(day=day, **values), frame, enough).collect()
    assert len(found) == len(set(keys))
    return {row["key"]: (row["scored_on"], row["why_missing"]) for row in found}


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
    (row,) = ledger.lookup(spark, store, terms(day=third), keys).collect()
    assert row["result"][0]["item_id"] == "apple"  # of two on one date the later wave


def test_an_answer_lives_while_its_products_are_sold(spark: SparkSession, store: Store) -> None:
    results = {"a": ["1", "2", "3"], "b": ["1", "8", "9"], "c": ["1"], "d": [], "f": ["9", "1", "2"]}
    rows = [
        {"key": key, "scored_on": DAY, "result": [{"item_id": item, "score": -1.0} for item in items]}
        for key, items in results.items()
    ]
    write_wave(store, "00000001-a", rows)
    enough = enough_sellable(["1", "2", "3"], k=2)
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


def test_an_answer_grows_too_old_only_where_the_catalogue_changed(spark: SparkSession, store: Store) -> None:
    keys = [f"{n}" for n in range(200)]
    write_wave(store, "00000001-a", [{"key": key, "scored_on": DAY} for key in keys])
    frame = spark.createDataFrame([(key,) for key in keys], "key string")

    def expired(days: int, **values: Any) -> int:
        asked = terms(day=DAY + timedelta(days=days), max_age_days=10, **values)
        return ledger.lookup(spark, store, asked, frame).where("why_missing = 'age'").count()

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


HISTORY = [
    ("x", 0, "c1", "x0"), ("x", 3, "c2", "x3"), ("x", 3, "c2", "x3 again"), ("x", 9, "c3", "x9"),
    ("y", 5, "c1", "y5"), ("z", 1, "c1", "z1"), ("z", 2, "c2", "z2"),
]  # fmt: skip


@pytest.mark.parametrize("keep_from", [None, 4])
def test_compaction_changes_no_answer(spark: SparkSession, store: Store, keep_from: int | None) -> None:
    for number, (key, day, version, item) in enumerate(HISTORY):
        scored = {"key": key, "scored_on": DAY + timedelta(days=day), "catalogue_version": version, "item": item}
        write_wave(store, f"{number + 1:08d}-n", [scored])
    keys = spark.createDataFrame([("x",), ("y",), ("z",), ("new",)], "key string")

    def answers(days: Sequence[int]) -> list[Any]:
        nights = [terms(day=DAY + timedelta(days=d), catalogue_version="c9", max_age_days=4) for d in days]
        found = [ledger.lookup(spark, store, night, keys).orderBy("key").collect() for night in nights]
        return [[(r["key"], r["result"], r["why_missing"]) for r in rows] for rows in found]

    days = (0, 3, 7, 11) if keep_from is None else (keep_from, 11)
    before = answers(days)
    start = None if keep_from is None else DAY + timedelta(days=keep_from)
    in_use = ledger.read(spark, store, "recommend", RESULT).select("prompt_hash")  # every prompt is published
    kept = compact(spark, store, "recommend", RESULT, "gc", start, in_use)
    assert kept == (7, 6 if keep_from is None else 4)
    assert [p.name for p in Path(store.ledger("recommend")).iterdir()] == ["wave=00000008-gc"]
    assert answers(days) == before
    assert compact(spark, store, "recommend", RESULT, "gc2") == (kept[1], kept[1])


@pytest.mark.parametrize("point", ["intent-opened", "swap-done", "retired:1", "retired:3", "intent-closed"])
def test_a_killed_compaction_is_finished(
    spark: SparkSession, store: Store, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise Killed

    for number, (key, day, version, item) in enumerate(HISTORY):
        scored = {"key": key, "scored_on": DAY + timedelta(days=day), "catalogue_version": version, "item": item}
        write_wave(store, f"{number + 1:08d}-n", [scored])
    monkeypatch.setattr(faults, "_kill", die)
    monkeypatch.setattr(faults, "_passages", Counter())
    monkeypatch.setenv(faults.VARIABLE, point)
    with pytest.raises(Killed):
        compact(spark, store, "recommend", RESULT, "gc")
    # In between a look-up may see a row in both waves: it is the same answer.
    keys = spark.createDataFrame([("x",)], "key string")
    (row,) = ledger.lookup(spark, store, terms(day=DAY + timedelta(days=9)), keys).collect()
    assert row["result"][0]["item_id"] == "x9"
    monkeypatch.delenv(faults.VARIABLE)
    recover(spark, store)
    assert [p.name for p in Path(store.ledger("recommend")).iterdir()] == ["wave=00000008-gc"]
    assert ledger.read(spark, store, "recommend", RESULT).count() == 6


class CountingDeadline(Deadline):
    """One that passes after so many looks at the clock."""

    def seconds_left(self) -> float:
        looks.append(1)
        return 2.0 - len(looks)


looks: list[int] = []


def test_after_the_deadline_no_wave_starts(spark: SparkSession, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waves, "FIRST_WAVE", 15)
    asked = requests(spark, [f"p{n}" for n in range(50)])
    passed = Deadline(datetime(2020, 1, 1, tzinfo=UTC), "05:30")
    none = ledger.results(spark, store, terms("one"), asked, never, deadline=passed)
    assert (none.reused, none.scored, none.late, none.model_seconds) == (0, 0, 50, 0.0)
    assert none.rows.count() == 0
    assert not Path(store.ledger("recommend")).exists()
    looks.clear()
    soon = CountingDeadline(passed.at, "05:30")
    some = ledger.results(spark, store, terms("two"), asked, listing("a"), deadline=soon)
    assert 15 <= some.scored < 50
    assert some.late == 50 - some.scored
    assert some.model_seconds > 0
    assert some.rows.count() == some.scored
    rest = ledger.results(spark, store, terms("three"), asked, listing("a"))
    assert (rest.reused, rest.scored, rest.late) == (some.scored, some.late, 0)


def test_answers_that_no_kept_date_uses_are_dropped(spark: SparkSession, store: Store) -> None:
    """Old ones stay while a published date's prompts still ask for them."""
    for number, (key, days) in enumerate((("used", 0), ("gone", 0), ("used", 1), ("young", 9))):
        row = {"key": key, "prompt_hash": f"hash of {key}", "scored_on": DAY + timedelta(days=days)}
        write_wave(store, f"{number + 1:08d}-n", [row])
    prompts = spark.createDataFrame([("hash of used",), ("hash of used",), ("hash of new",)], "prompt_hash string")
    assert compact(spark, store, "recommend", RESULT, "gc", DAY + timedelta(days=5), prompts) == (4, 2)
    left = ledger.read(spark, store, "recommend", RESULT).orderBy("key").collect()
    assert [(row["key"], row["scored_on"]) for row in left] == [
        ("used", DAY + timedelta(days=1)),
        ("young", DAY + timedelta(days=9)),
    ]
    assert compact(spark, store, "recommend", RESULT, "gc2", DAY + timedelta(days=5)) == (2, 1)


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    targets=st.lists(st.integers(1, 400), min_size=1, max_size=60),
)
def test_waves_cover_every_slot_once(counts: list[int], targets: list[int]) -> None:
    start, done, sizes = 0, 0, []
    for target in targets * len(counts):
        if done == sum(counts):
            break
        stop = waves.next_stop(counts, start, target)
        assert stop > start
        size = sum(counts[start:stop])
        assert size < target + max(counts) + target / 4
        done, start = done + size, stop
        sizes.append(size)
    assert done == sum(counts)
    assert 0 not in sizes or sizes == [0]


def test_a_small_rest_goes_with_the_last_wave() -> None:
    assert waves.next_stop([10] * 11, 0, 50) == 5
    assert waves.next_stop([10] * 11, 5, 50) == 11  # 10 are left: no wave of their own


@pytest.mark.parametrize(
    ("size", "seconds", "minutes", "expected"),
    [
        (256, 64, 5, 1200),  # 4 a second for 300 seconds
        (256, 1, 5, 2048),  # eightfold at most
        (256, 100_000, 5, 1),
        (256, 0, 5, 2048),
    ],
)
def test_the_next_wave_is_sized_by_the_last_ones_speed(
    size: int, seconds: float, minutes: float, expected: int
) -> None:
    assert waves.next_size(size, seconds, minutes) == expected
