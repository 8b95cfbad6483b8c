"""Published tables: whole or not at all, the same bytes for the same rows, readable by every plain glob."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs.spark import fault_points, parquet
from jobs.spark.contracts import ContractError, struct_type
from jobs.store.publish import publish, recover, temporary_folders
from jobs.store.store import Store, published_dates
from schemas import contract
from tests import ROOT
from tests.jobs.spark.test_files import NO_SPARK
from tests.rows import frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame, SparkSession

DAY = date(2026, 3, 1)
NEXT = date(2026, 3, 2)


def lists(spark: SparkSession, customers: int, **values: Any) -> DataFrame:
    rows = [{"user_id": f"u{n:03d}", "rank": rank, **values} for n in range(customers) for rank in (1, 2, 3)]
    return frame(spark, "recommendations", rows)


def digests(store: Store) -> dict[str, str]:
    parts = sorted(Path(store.root).rglob("*.parquet"))
    return {str(p.relative_to(store.root)): sha256(p.read_bytes()).hexdigest() for p in parts}


def duckdb_files(parts: list[str]) -> list[Any]:
    return duckdb.sql(f"FROM read_parquet({parts})").fetchall()


def test_every_reader_reads_every_date(spark: SparkSession, store: Store) -> None:
    assert publish(spark, store, "one", DAY, {"recommendations": lists(spark, 4)}) == {"recommendations": 12}
    publish(spark, store, "two", NEXT, {"recommendations": lists(spark, 5), "metrics": frame(spark, "metrics", [{}])})
    folder = store.table("recommendations")
    assert published_dates(spark, store, "recommendations") == [DAY, NEXT]
    per_date = "SELECT run_date, count(*), min(rank), max(user_id) FROM {} GROUP BY run_date ORDER BY run_date"
    expected = [(DAY, 12, 1, "u003"), (NEXT, 15, 1, "u004")]

    glob = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
    assert duckdb.sql(per_date.format(glob)).fetchall() == expected
    spark.read.parquet(folder).createOrReplaceTempView("lists")
    assert [tuple(row) for row in spark.sql(per_date.format("lists")).collect()] == expected
    read = pd.read_parquet(folder)
    assert read.groupby("run_date", observed=True).size().to_dict() == {"2026-03-01": 12, "2026-03-02": 15}
    assert ds.dataset(folder, partitioning="hive").count_rows() == 27
    with pytest.raises(duckdb.IOException):  # and nothing else lies below tables/
        duckdb.sql(f"FROM read_parquet('{store.tables}/*/*/*[!t]')")
    assert {p.name for p in Path(store.tables).rglob("*") if p.is_file()} == {"part-00000.parquet"}


def test_types_are_the_contracts(spark: SparkSession, store: Store) -> None:
    at = datetime(2026, 3, 1, 2, tzinfo=UTC)
    rows = [{"rows": {"read": 3}, "seconds": {"x": 1.5}, "versions": {}, "started_at": at, "finished_at": at}]
    publish(spark, store, "one", DAY, {"runs": frame(spark, "runs", rows)})
    read = spark.read.parquet(store.date_folder("runs", DAY))
    wanted = struct_type(contract("runs"))
    assert [(f.name, f.dataType.simpleString()) for f in read.schema] == [
        (f.name, f.dataType.simpleString()) for f in wanted
    ]
    (part,) = Path(store.date_folder("runs", DAY)).iterdir()
    schema = pq.read_schema(part)
    assert str(schema.field("started_at").type) == "timestamp[us, tz=UTC]"


def test_equal_rows_give_equal_bytes(spark: SparkSession, store: Store) -> None:
    rows = lists(spark, 50)
    publish(spark, store, "one", DAY, {"recommendations": rows})
    first = digests(store)
    assert len(first) == 1
    # Other partitions, another order, and nothing that the optimizer knows about nulls.
    spread = rows.repartition(7).orderBy(F.rand(1))
    spread.write.parquet(f"{store.root}/elsewhere")
    publish(spark, store, "two", DAY, {"recommendations": spark.read.parquet(f"{store.root}/elsewhere").repartition(3)})
    assert {path: sha for path, sha in digests(store).items() if path.startswith("tables")} == first


def test_rows_are_sorted_by_key(spark: SparkSession, store: Store) -> None:
    publish(spark, store, "one", DAY, {"recommendations": lists(spark, 9).orderBy(F.rand(1))})
    (part,) = Path(store.date_folder("recommendations", DAY)).iterdir()
    keys = [(row["user_id"], row["rank"]) for row in pq.read_table(part).to_pylist()]
    assert keys == [(f"u{n:03d}", rank) for n in range(9) for rank in (1, 2, 3)]


def test_a_large_date_is_several_sorted_files_of_the_run(spark: SparkSession, store: Store) -> None:
    """Their rows and ranges do not depend on how the frame was partitioned; equal keys lie in one file."""
    folder, read = Path(store.date_folder("recommendations", DAY)), []
    rows = lists(spark, 200)
    for run, frame_of_run in (("one", rows), ("two", rows.repartition(7).orderBy(F.rand(1)))):
        publish(spark, store, run, DAY, {"recommendations": frame_of_run}, rows_per_file=100)
        parts = sorted(folder.iterdir())
        assert [part.name for part in parts] == [f"part-{n:05d}-{run}.parquet" for n in range(6)]
        read.append([pq.read_table(part, partitioning=None).to_pylist() for part in parts])
    assert read[0] == read[1]
    keys = [[(row["user_id"], row["rank"]) for row in part] for part in read[0]]
    assert all(20 < len(part) < 250 for part in keys), [len(part) for part in keys]
    assert [key for part in keys for key in part] == [(f"u{n:03d}", rank) for n in range(200) for rank in (1, 2, 3)]
    publish(spark, store, "three", DAY, {"recommendations": lists(spark, 4)}, rows_per_file=100)
    assert [part.name for part in folder.iterdir()] == ["part-00000.parquet"]


def test_repeated_keys_of_a_large_date_are_refused(spark: SparkSession, store: Store) -> None:
    rows = lists(spark, 100)
    repeated = rows.unionByName(rows.where("user_id = 'u042' AND rank = 2"))
    with pytest.raises(ContractError, match=r"key \(user_id, rank\) is repeated: 1 rows"):
        publish(spark, store, "one", DAY, {"recommendations": repeated}, rows_per_file=50)


@pytest.mark.parametrize("read", [lambda parts: [pq.read_table(part) for part in parts], duckdb_files])
def test_a_reader_of_replaced_files_gets_an_error(
    spark: SparkSession, store: Store, read: Callable[[list[str]], object]
) -> None:
    """A reader listed several files before they were replaced, and opens them afterwards."""
    folder = Path(store.date_folder("recommendations", DAY))
    publish(spark, store, "one", DAY, {"recommendations": lists(spark, 40)}, rows_per_file=50)
    listed = sorted(map(str, folder.iterdir()))
    publish(spark, store, "two", DAY, {"recommendations": lists(spark, 41)}, rows_per_file=50)
    with pytest.raises((FileNotFoundError, duckdb.IOException)):
        read(listed)


def test_an_empty_date_replaces_its_old_rows(spark: SparkSession, store: Store) -> None:
    publish(spark, store, "one", DAY, {"metrics": frame(spark, "metrics", [{}, {"slice": "b"}])})
    nothing = frame(spark, "metrics", [{}]).where("n > 5")
    assert publish(spark, store, "two", DAY, {"metrics": nothing}) == {"metrics": 0}
    read = spark.read.parquet(store.table("metrics"))
    assert read.columns == [*contract("metrics").column_names, "run_date"]
    assert read.count() == 0
    assert duckdb.sql(f"FROM read_parquet('{store.table('metrics')}/*/*.parquet')").fetchall() == []
    provably_empty = frame(spark, "metrics", []).limit(0)
    assert publish(spark, store, "three", DAY, {"metrics": provably_empty}) == {"metrics": 0}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"metric": None}], "metric is null: 1 rows"),
        ([{"value": float("nan")}, {"slice": "b"}], r"value is not a number \(value_is_a_number\): 1 rows"),
        ([{}, {"value": 2.0}, {"value": 3.0}], r"key \(metric, slice\) is repeated: 2 rows"),
    ],
)
def test_a_broken_promise_publishes_nothing(
    spark: SparkSession, store: Store, rows: list[dict[str, Any]], says: str
) -> None:
    publish(spark, store, "one", DAY, {"metrics": frame(spark, "metrics", [{}])})
    before = digests(store)
    full = [{"metric": "m", "slice": "all", "value": 1.0, "n": 1} | row for row in rows]
    broken = spark.createDataFrame(full, "metric string, slice string, value double, n bigint")
    with pytest.raises(ContractError, match=f"table metrics breaks its contract: {says}.*earlier nights stay"):
        publish(spark, store, "two", DAY, {"recommendations": lists(spark, 2), "metrics": broken})
    tables = {path: sha for path, sha in digests(store).items() if path.startswith("tables")}
    assert tables == before
    recover(spark, store)
    assert digests(store) == before


def test_frames_are_computed_once(spark: SparkSession, store: Store) -> None:
    calls = spark.sparkContext.accumulator(0)

    @F.udf("double")
    def counted(value):  # a type hint here would make Spark guess another kind of UDF
        calls.add(1)
        return value

    rows = frame(spark, "metrics", [{"slice": f"s{n}", "value": float(n)} for n in range(40)])
    publish(spark, store, "one", DAY, {"metrics": rows.withColumn("value", counted("value"))})
    assert calls.value == 40


def test_nothing_of_a_finished_run_is_left(spark: SparkSession, store: Store) -> None:
    for run in ("one", "two"):
        work = f"{store.work(run)}/metrics"
        frame(spark, "metrics", [{}]).write.parquet(work)
        publish(spark, store, run, DAY, {"metrics": spark.read.parquet(work)})
    recover(spark, store)  # as every run begins: what the last one replaced goes
    (only,) = (p for p in Path(store.root).rglob("*") if p.is_file())
    assert only.parent == Path(store.date_folder("metrics", DAY))
    assert [list((Path(store.root) / room).iterdir()) for room in ("staging", "work", "trash", "intents")] == [[]] * 4


@pytest.mark.parametrize("harm", ["cut", "foreign", "emptied"])
def test_footers_that_are_not_as_written_are_refused(
    spark: SparkSession, store: Store, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk lies: what is reopened is not what was written."""
    honest = parquet.footers

    def after_harm(session: SparkSession, folder: str) -> list[parquet.Footer]:
        part = Path(folder) / "part-00000.parquet"
        rows = pq.read_table(part, partitioning=None)
        if harm == "cut":
            os.truncate(part, part.stat().st_size - 20)
        elif harm == "foreign":
            pq.write_table(rows.rename_columns(["metric", "slice", "value", "m"]), part)
        else:
            pq.write_table(rows.slice(0, 1), part)
        return honest(session, folder)

    monkeypatch.setattr(parquet, "footers", after_harm)
    says = {
        "cut": "part-00000.parquet",
        "foreign": "m.* instead of .*n",
        "emptied": "2 rows were expected.* hold 1",
    }
    with pytest.raises(parquet.UnreadableParquet, match=says[harm]):
        publish(spark, store, "one", DAY, {"metrics": frame(spark, "metrics", [{}, {"slice": "b"}])})
    assert not Path(store.tables).exists()


KILLED = """
import sys
from datetime import date
from jobs.store.publish import publish
from jobs.spark.session import create_session
from jobs.store.store import Store
from tests.rows import frame
quick = {"spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"}
spark = create_session("killed", conf={"spark.master": "local[1]", "spark.driver.memory": "512m", **quick})
tables = {"metrics": frame(spark, "metrics", [{}]), "prompts": frame(spark, "prompts", [{}])}
publish(spark, Store(sys.argv[1]), "killed", date(2026, 3, 1), tables)
"""


@pytest.mark.faults
def test_a_driver_killed_between_two_swaps(spark: SparkSession, store: Store) -> None:
    publish(spark, store, "old", DAY, {"metrics": frame(spark, "metrics", [{"metric": "old"}])})
    environment = os.environ | {fault_points.VARIABLE: "swap-done:1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, store.root]
    died = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=240)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    metrics, prompts = (f"{store.table(table)}/*/*.parquet" for table in ("metrics", "prompts"))
    assert duckdb.sql(f"SELECT metric FROM '{metrics}'").fetchall() == [("x",)]
    assert published_dates(spark, store, "prompts") == []
    (said,) = recover(spark, store)
    assert said.startswith("finished the interrupted publish of run killed")
    assert duckdb.sql(f"SELECT metric FROM '{metrics}'").fetchall() == [("x",)]
    assert duckdb.sql(f"SELECT user_id FROM '{prompts}'").fetchall() == [("x",)]


@pytest.mark.parametrize("has_intent", [False, True])
def test_a_failed_run_leaves_no_rows_unless_its_publish_has_begun(store: Store, *, has_intent: bool) -> None:
    for folder in (store.work("run"), store.staging("run"), store.work("other"), store.intents):
        Path(folder).mkdir(parents=True)
    if has_intent:
        Path(store.intent("run")).write_text("{}")
    with pytest.raises(KeyError), temporary_folders(NO_SPARK, store, "run"):
        raise KeyError
    assert not Path(store.work("run")).exists()
    assert Path(store.staging("run")).exists() == has_intent
    assert Path(store.work("other")).exists()
