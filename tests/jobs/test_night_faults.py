"""What is done to a night from outside: killed, interrupted, run twice, without room, while others read."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from pyspark.sql import functions as F

from jobs.store.publish import publish
from jobs.store.store import Store
from tests.ledgers import DAY
from tests.nights import ROOT, Shop, is_worker, left_running, scored, tables, wait_for
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults

#: Fifteen places of a night that changes a published date, in its order.
PLACES = (
    "found-written",
    "requests-written",
    "wave-written",
    "wave-committed",
    "found-written:2",  # of the sentiments
    "requests-written",  # the recommendations ask nothing any more, so this is the sentiments' too
    "wave-committed",
    "table-staged:1",
    "table-staged:5",
    "checked",
    "intent-opened",
    "swap-exchanged:1",
    "swap-done:1",  # between two swaps
    "swap-exchanged:4",
    "intent-closed",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def undisturbed(shop: Shop) -> Path:
    """A store whose date was published with lists of five and labels of shorter texts, and then with those of today."""
    store = shop.folder / "undisturbed"
    assert shop.night(store, "recommend.k=5", "sentiment.max_tokens=128")[0] == 0
    shutil.copytree(store, shop.folder / "old")
    code, said = shop.night(store)
    assert code == 0, said
    return store


def test_killed_at_each_of_fifteen_places(shop: Shop, undisturbed: Path) -> None:
    """One command, killed again and again, each time later: in the end the store is the undisturbed one."""
    store = shop.folder / "killed"
    shutil.copytree(shop.folder / "old", store)
    old, new = tables(store), tables(undisturbed)
    assert old["recommendations"] != new["recommendations"]
    for place in PLACES:
        code, said = shop.night(store, fault=place)
        assert code == -signal.SIGKILL, f"{place}: {said}"
        seen = tables(store)
        assert all(seen[table] in (old[table], new[table]) for table in old), place
    code, said = shop.night(store)
    assert code == 0, said
    assert tables(store) == new
    assert scored(store) == scored(undisturbed) + scored_again(store)
    assert not any((store / "staging").iterdir())
    assert not any((store / "intents").iterdir())


def scored_again(store: Path) -> int:
    """No answer is in the ledger twice: waves that were killed before their rename were not kept."""
    import pandas as pd

    keys = pd.concat([pd.read_parquet(part, columns=["key"]) for part in (store / "ledger").rglob("*.parquet")])
    return int(keys.key.duplicated().sum())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_in_thirty_seconds(shop: Shop, undisturbed: Path, tmp_path: Path, number: int) -> None:
    store = tmp_path / "store"
    process = shop.start(store)
    wait_for(lambda: any((store / "work").glob("*/prompts")), process)
    family = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 130, said
    assert "Interrupted. Nothing was published. The same command goes on" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert left_running(store) == []
    assert not (store / "tables").exists()
    assert shop.night(store)[0] == 0
    assert tables(store) == tables(undisturbed)


def test_a_killed_python_worker_is_replaced(shop: Shop, undisturbed: Path, tmp_path: Path) -> None:
    process = shop.start(tmp_path / "store")
    killed = 0
    while process.poll() is None and killed < 1:
        for child in psutil.Process(process.pid).children(recursive=True):
            if killed == 0 and is_worker(child):
                child.kill()
                killed += 1
        time.sleep(0.02)
    said, _ = process.communicate(timeout=400)
    assert killed == 1
    assert process.returncode == 0, said
    assert tables(tmp_path / "store") == tables(undisturbed)


def test_of_two_runs_at_once_one_wins_whatever_their_dates(shop: Shop, undisturbed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = shop.start(store)
    wait_for(lambda: any((store / "work").glob("*/prompts")), first)
    for day in (shop.day, shop.day - timedelta(days=1)):
        code, said = shop.night(store, day=day)
        assert code == 75, said
        assert "holds the store" in said
    assert first.communicate(timeout=400)
    assert first.returncode == 0
    assert tables(store) == tables(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def refused_for_want_of_room(ended: tuple[int, str], store: Path) -> None:
    """A first night that ended so: it says what is missing, and nothing was published."""
    code, said = ended
    assert code == 2, said
    assert "no space is left" in said
    assert "Traceback" not in said
    assert not (store / "tables").exists()


def test_a_full_disk_publishes_nothing_and_the_night_goes_on_with_room(
    shop: Shop, undisturbed: Path, small_disk: Path
) -> None:
    store = small_disk / "store"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    refused_for_want_of_room(shop.night(store), store)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    assert shop.night(store)[0] == 0
    assert tables(store) == tables(undisturbed)


def test_full_scratch_space_publishes_nothing_and_the_night_goes_on_with_room(
    shop: Shop, undisturbed: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Where Spark and Python lay down what lasts no longer than a run."""
    store, scratch = tmp_path / "store", small_disk / "scratch"
    scratch.mkdir()
    (small_disk / "ballast").write_bytes(bytes(900_000))
    ended = shop.night(store, f"spark.spark.local.dir={scratch}", env={"TMPDIR": str(scratch)})
    refused_for_want_of_room(ended, store)
    assert shop.night(store)[0] == 0
    assert tables(store) == tables(undisturbed)


def test_a_read_only_store_says_so(shop: Shop, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, said = shop.night(small_disk / "store")
    assert code == 2, said
    assert "cannot be written" in said
    assert "Traceback" not in said


READER = """
import sys, time
from pathlib import Path
kind, folder, stop = sys.argv[1], sys.argv[2], Path(sys.argv[3])
import duckdb, pandas as pd, pyarrow.dataset as ds
def read():
    if kind == "duckdb":
        glob = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
        return duckdb.sql(f"SELECT run_date, score FROM {glob}").df()
    if kind == "pandas":
        return pd.read_parquet(folder, columns=["run_date", "score"])
    return ds.dataset(folder, partitioning="hive").to_table(columns=["run_date", "score"]).to_pandas()
reads = 0
while not stop.exists():
    try:
        found = read().groupby("run_date", observed=True).score
        shape = sorted(zip(found.nunique(), found.size()))
        if shape != [(1, 300)] * 3:
            print("MIX", shape)
    except Exception as error:
        print("ERROR", type(error).__name__, str(error)[:200].replace(chr(10), " "))
    reads += 1
    time.sleep(0.02)
print("READS", reads)
"""


def read_by_spark(spark: SparkSession, folder: str, stop: Path) -> str:
    """What READER does."""
    reads, said = 0, []
    while not stop.exists():
        try:
            frame = spark.read.parquet(folder).groupBy("run_date").agg(F.countDistinct("score"), F.count("score"))
            shape = [(versions, rows) for _, versions, rows in frame.collect()]
            if shape != [(1, 300)] * 3:
                said.append(f"MIX {shape}")
        except Exception as error:
            said.append(f"ERROR {str(error)[:300]}")
        reads += 1
    return "\n".join([*said, f"READS {reads}"])


@pytest.mark.parametrize("rows_per_file", [500, 100])
def test_readers_during_fifty_publishes(spark: SparkSession, tmp_path: Path, rows_per_file: int) -> None:
    """Four readers, Spark in this process, the others in their own; each date is of one version in every read.

    A date of one file never fails. Of several files, a read that began before the exchange may end with an error.
    """
    store, stop = Store(str(tmp_path / "store")), tmp_path / "stop"
    days = [DAY.replace(day=day) for day in (1, 2, 3)]

    def version(number: int, day: int) -> None:
        rows = [{"user_id": f"u{n:03d}", "rank": 1, "score": -1.0 - number} for n in range(300)]
        tables = {"recommendations": frame(spark, "recommendations", rows)}
        publish(spark, store, f"run{number}-{day}", days[day], tables, rows_per_file)

    for day in range(3):
        version(0, day)
    folder = store.table("recommendations")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    readers = {
        kind: subprocess.Popen(
            [sys.executable, "-c", READER, kind, folder, stop],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for kind in ("duckdb", "pandas", "pyarrow")
    }  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        by_spark = pool.submit(read_by_spark, spark, folder, stop)
        try:
            for number in range(1, 51):
                version(number, number % 3)
        finally:
            stop.touch()
            said = {kind: reader.communicate(timeout=60)[0] for kind, reader in readers.items()}
            said["spark"] = by_spark.result()
    for kind, text in said.items():
        print(f"{kind}: {text.splitlines()[-1]}, {text.count('ERROR')} errors")
    assert all("READS" in text and "MIX" not in text for text in said.values()), said
    assert rows_per_file == 100 or not any("ERROR" in text for text in said.values()), said
