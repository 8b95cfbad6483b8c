"""The share of a time in which stages of one task ran alone, while other cores idled; from Spark's event log."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.spark.session import create_session


@contextlib.contextmanager
def logged_session(timezone: str = "UTC") -> Iterator[tuple[SparkSession, Path]]:
    """Yield a session and its event log, and stop it."""
    with tempfile.TemporaryDirectory() as logs:
        log = {"enabled": "true", "dir": f"file://{logs}", "rolling.enabled": "false", "compress": "false"}
        conf = {f"spark.eventLog.{name}": value for name, value in log.items()}
        spark = create_session("bench", timezone=timezone, conf=conf)
        yield spark, Path(logs) / f"{spark.sparkContext.applicationId}.inprogress"
        spark.stop()


def single_tasks(events: Path, within: tuple[float, float]) -> tuple[float, list[tuple[str, float]]]:
    """Share of a time in which only tasks of stages of one task ran, and seconds of the five longest such stages.

    `events` is Spark's event log, `within` the start and end in seconds since 1970.
    """
    count: dict[int, int] = {}
    names: dict[int, str] = {}
    moments: list[tuple[float, int, int]] = []
    for line in events.read_text(encoding="utf-8").split("\n")[:-1]:  # what follows the last one is half written
        event = json.loads(line)
        if event["Event"] == "SparkListenerStageSubmitted":
            stage = event["Stage Info"]
            count[stage["Stage ID"]], names[stage["Stage ID"]] = stage["Number of Tasks"], stage["Stage Name"]
        elif event["Event"] == "SparkListenerTaskEnd":
            task = event["Task Info"]
            moments += [(task["Launch Time"] / 1e3, 1, event["Stage ID"])]
            moments += [(task["Finish Time"] / 1e3, -1, event["Stage ID"])]
    running: Counter[int] = Counter()
    alone: Counter[str] = Counter()
    before = within[0]
    for moment, change, stage in sorted(moments):
        if within[0] <= moment <= within[1]:
            active = [number for number, tasks in running.items() if tasks]
            if active and all(count[number] == 1 for number in active):
                alone[names[active[0]]] += moment - before
            before = moment
        running[stage] += change
    return sum(alone.values()) / (within[1] - within[0]), [(n, round(s, 1)) for n, s in alone.most_common(5)]
