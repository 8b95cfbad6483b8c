"""Starts the Java process of Spark, and passes on its error output without one harmless warning."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

#: Java prints this because Spark adds the module on every start. No option of Java suppresses it.
_HARMLESS = b"WARNING: Using incubator modules: jdk.incubator.vector"
_STDERR = 2


def start_java(settings: Mapping[str, str]) -> None:
    """Start Spark's Java process with these settings. Has no effect where one runs or spark-submit started it."""
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    reading, writing = os.pipe()
    passing = threading.Thread(target=pass_on, args=(reading, _STDERR), name="java-errors", daemon=True)
    passing.start()
    is_started = False
    try:
        gateway = launch_gateway(conf, popen_kwargs={"stderr": writing})
        is_started = True
    finally:
        os.close(writing)
        if not is_started:  # Java's own message says why, and must be out before this process ends
            passing.join(timeout=5)
    SparkContext._ensure_initialized(gateway=gateway, conf=conf)


def pass_on(reading: int, writing: int) -> None:
    """Copy whole lines between two file descriptors, without the harmless warning, until the end of the input."""
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if line.rstrip() != _HARMLESS:
                os.write(writing, line)
