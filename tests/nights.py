"""Nights as an operator starts them: the command itself in a process of its own, on a small shop with tiny models."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import yaml

from jobs.sample import write_sample
from jobs.spark.fault_points import VARIABLE
from tests import ROOT
from tests.models import save_causal, save_classifier

SPARK = (
    "spark.spark.master=local[2,2]",
    "spark.spark.driver.memory=1g",
    "spark.spark.sql.shuffle.partitions=2",
    "spark.spark.driver.defaultJavaOptions=-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
)


class Shop:
    """A sample shop of 60 customers and the nights of its last date; untrained models, unless it `trains` its own."""

    def __init__(self, folder: Path, customers: int = 60, days: int = 10, *, trains: bool = False) -> None:
        self.folder = folder
        info = write_sample(folder, customers=customers, products=40, days=days, seed=1)
        self.config, self.day = info.config, info.last_day
        if trains:
            return
        without_inputs(self.config, "questions", "articles")
        items = pd.read_parquet(folder / "data/items")
        save_causal(folder / "models/recommend", item_ids=sorted(items.item_id.dropna().unique()))
        save_classifier(folder / "models/sentiment")

    def arguments(self, store: Path, command: str, *options: str, overrides: Sequence[str] = ()) -> list[str]:
        """The command line of a command on a store, with the settings of all nights."""
        sets = [f"store={store}", "sentiment.lookback_days=10", "gate.min_dates=1000", "report.write=false", *overrides]
        named = [part for one in sets for part in ("--set", one)]
        return [command, "--config", str(self.config), *options, *named]

    def start(
        self,
        store: Path,
        *overrides: str,
        fault: str = "",
        command: str = "nightly",
        env: Mapping[str, str] | None = None,
        day: date | None = None,
        options: Sequence[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a night, of the last date unless another is named, to be killed at a fault point if one is named.

        Another `command` takes `--run-date` too, or the `options` that are named instead.
        """
        if options is None:
            options = ("--run-date", str(day or self.day))
        arguments = self.arguments(store, command, *options, overrides=(*SPARK, *overrides))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(env or {})
        if fault:
            environment[VARIABLE] = fault
        program = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
        return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def night(
        self,
        store: Path,
        *overrides: str,
        fault: str = "",
        env: Mapping[str, str] | None = None,
        day: date | None = None,
    ) -> tuple[int, str]:
        """Run a night to its end; returns its exit code and what it said."""
        process = self.start(store, *overrides, fault=fault, env=env, day=day)
        said, _ = process.communicate(timeout=3600)
        return process.returncode, said


def without_inputs(config: Path, *tables: str) -> None:
    """Take inputs out of a configuration: what no output needs, a night reads for its account alone."""
    settings = yaml.safe_load(config.read_text())
    for table in tables:
        del settings["inputs"][table]
    config.write_text(yaml.safe_dump(settings))


def tables(store: Path) -> dict[str, dict[str, str]]:
    """Per table the published files, by the SHA-256 of their rows; `runs` left out, for it tells of the run itself.

    Not of their bytes: the footer lists a column's encodings in an order that differs from one JVM to the next.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted((store / "tables").rglob("*.parquet")):
        table, name = path.relative_to(store / "tables").parts[0], str(path.relative_to(store / "tables"))
        if table != "runs":
            found.setdefault(table, {})[name] = hashlib.sha256(rows_of(path)).hexdigest()
    return found


def rows_of(path: Path) -> bytes:
    """A file's columns, types and rows in their order."""
    table = pq.read_table(path, partitioning=None).replace_schema_metadata().combine_chunks()
    return f"{table.schema}{table.to_pylist()}".encode("utf-8", "backslashreplace")


def scored(store: Path) -> int:
    """Rows that went through the models and were kept."""
    return sum(len(pd.read_parquet(part, columns=["key"])) for part in (store / "ledger").rglob("*.parquet"))


def left_running(marker: Path) -> list[str]:
    """Processes that still have a folder in their command line or their open files' names."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and str(marker) in " ".join(process.info["cmdline"] or []):
            found.append(" ".join(process.info["cmdline"]))
    return found


def is_worker(process: psutil.Process) -> bool:
    """A Python worker is a child of pyspark's daemon, itself a child of the JVM."""
    try:
        parent = process.parent()
        return parent is not None and all("pyspark.daemon" in " ".join(one.cmdline()) for one in (process, parent))
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is true of a running night; AssertionError, with what it said, where it ended before."""
    for _ in range(12_000):  # ten minutes: a busy machine takes some to start a JVM
        if what():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("the night never came so far")
