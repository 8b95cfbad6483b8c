"""One Spark session for the whole run; a test that uses it is marked `spark`, the rest need no JVM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.store.store import Store


# Threads that spin for each other make a test of half a second one of half a minute on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without it each store has a key of its own, and the keyed hashes of two stores are never equal.
os.environ.setdefault("REGULARS_KEY", "the key of all tests")

# Other work on the machine makes any example slow now and then; a test is about what comes out, not about when.
settings.register_profile("regulars", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("regulars")


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Commands set the umask of their process; the next test in it starts with that of the machine."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from jobs.spark.session import create_session

    session = create_session(
        "tests",
        timezone="Europe/London",
        conf={
            "spark.master": "local[2]",
            # Workers leave the current folder out of their path, and some tests hand them functions of their own.
            "spark.executorEnv.PYTHONPATH": str(Path(__file__).parent.parent),
            "spark.driver.memory": "2g",
            "spark.sql.shuffle.partitions": "4",
            # Many small plans, each run once: compiling them well costs twice the processor time of running them.
            "spark.driver.defaultJavaOptions": (
                "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
            ),
            # So plans are interpreted here; what tests start as commands runs generated code.
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        },
    )
    yield session
    session.stop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    from jobs.store.store import Store

    return Store(str(tmp_path / "store"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small take longer to hand to a second thread than to compute, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
