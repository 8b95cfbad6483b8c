"""Nights on a cluster whose executors share inputs and store with the driver, but no model, catalogue or code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.clusters import SPARK_HOME, Cluster, built_wheel
from tests.nights import ROOT, SPARK, Shop, is_worker, scored, tables, wait_for

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def undisturbed(shop: Shop) -> Path:
    """The store of a night in one process."""
    code, said = shop.night(shop.folder / "undisturbed")
    assert code == 0, said
    return shop.folder / "undisturbed"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("wheel"), "0.1.0+wheel")


@pytest.fixture(scope="module")
def cluster(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    driver = shop.folder / "driver"
    driver.mkdir()
    hidden = [shop.folder / "models", driver, *(ROOT / name for name in ("jobs", "lm", "schemas"))]
    running = Cluster(tmp_path_factory.mktemp("cluster"), hidden)
    yield running
    running.stop()


def settings(shop: Shop, cluster: Cluster, wheel: Path) -> list[str]:
    return [
        f"spark.spark.master={cluster.master}",
        f"spark.spark.submit.pyFiles={wheel}",
        f"spark.spark.local.dir={shop.folder / 'driver'}",
        "spark.spark.executor.memory=700m",
    ]


def test_models_on_a_cluster_file_system_reach_executors_that_mount_nothing(
    shop: Shop, undisturbed: Path, cluster: Cluster, wheel: Path, tmp_path: Path
) -> None:
    code, said = shop.night(
        tmp_path / "store",
        *settings(shop, cluster, wheel),
        f"spark.spark.hadoop.fs.viewfs.mounttable.shop.link./models=file://{shop.folder}/models",
        "models.recommend=viewfs://shop/models/recommend",
    )
    assert code == 0, said
    assert tables(tmp_path / "store") == tables(undisturbed)


def test_a_killed_executor_and_a_killed_python_worker_are_replaced(
    shop: Shop, undisturbed: Path, cluster: Cluster, wheel: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = shop.start(store, *settings(shop, cluster, wheel))
    wait_for(lambda: any((store / "work").glob("*/purchases/*")), process)
    killed = []
    while process.poll() is None and len(killed) < 2:
        with contextlib.suppress(psutil.NoSuchProcess):  # what ends by itself is looked for again
            executors = cluster.executors()
            workers = [child for one in executors for child in one.children(recursive=True) if is_worker(child)]
            if workers and not killed:
                workers[0].kill()
                killed.append("worker")
            elif executors and killed and (store / "ledger").exists():
                executors[0].kill()
                killed.append("executor")
        time.sleep(0.02)
    said, _ = process.communicate(timeout=400)
    assert killed == ["worker", "executor"], said
    assert process.returncode == 0, said
    assert tables(store) == tables(undisturbed)


def test_a_killed_driver_leaves_no_executor_and_the_same_command_goes_on(
    shop: Shop, undisturbed: Path, cluster: Cluster, wheel: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    code, said = shop.night(store, *settings(shop, cluster, wheel), fault="wave-committed")
    assert code == -signal.SIGKILL, said
    _, alive = psutil.wait_procs(cluster.executors(), timeout=30)
    assert alive == []
    assert not (store / "tables").exists()
    code, said = shop.night(store, *settings(shop, cluster, wheel))
    assert code == 0, said
    assert tables(store) == tables(undisturbed)
    assert scored(store) == scored(undisturbed)


def test_spark_submit_of_the_built_wheel(
    shop: Shop, undisturbed: Path, cluster: Cluster, wheel: Path, tmp_path: Path
) -> None:
    """The wheel alone gives the code to driver and executors; what spark-submit says goes before the file."""
    (tmp_path / "regulars.py").write_text("from jobs.cli import main\n\nmain()\n")
    store = tmp_path / "store"
    sets = [f"store={store}", "sentiment.lookback_days=10", *SPARK]
    command = [
        *(str(SPARK_HOME / "bin/spark-submit"), "--master", cluster.master, "--py-files", str(wheel)),
        *("--conf", "spark.executor.memory=700m", "--conf", f"spark.local.dir={shop.folder / 'driver'}"),
        *(str(tmp_path / "regulars.py"), "nightly", "--config", str(shop.config), "--run-date", str(shop.day)),
        *(part for one in sets for part in ("--set", one)),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PYSPARK_PYTHON"] = sys.executable
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-5000:]
    assert tables(store) == tables(undisturbed)
    (runs,) = (store / "tables/runs").rglob("*.parquet")
    assert dict(pd.read_parquet(runs).versions[0])["regulars"] == "0.1.0+wheel"


def test_local_cluster(shop: Shop, undisturbed: Path, tmp_path: Path) -> None:
    cluster = ("spark.spark.master=local-cluster[2,1,1024]", "spark.spark.executor.memory=700m")
    code, said = shop.night(tmp_path / "store", *cluster)
    assert code == 0, said
    assert tables(tmp_path / "store") == tables(undisturbed)
