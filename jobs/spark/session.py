"""The one place that makes a SparkSession, with the settings that keep a night right and bounded."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

#: Settings that the operator's own `spark:` section may override, except those in `_FIXED`.
_DEFAULTS = {
    # All cores; a task whose Python worker was killed is tried once more before its job fails.
    "spark.master": "local[*,2]",
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "16",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2048",
    # Tables in GB18030, Big5 or whatever else Java reads, not only Unicode and Latin-1.
    "spark.sql.legacy.javaCharsets": "true",
    # A task has its own cores already: tokenizers would start a thread per core in each of them.
    "spark.executorEnv.TOKENIZERS_PARALLELISM": "false",
    # A worker that hangs would hang the job for ever: kill it when it has sent nothing for this long.
    "spark.python.worker.idleTimeoutSeconds": "600",
    "spark.python.worker.killOnIdleTimeout": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.python.worker.faulthandler.enabled": "true",
    # Readers have no use for the .crc files that Hadoop's checksummed local file system leaves about.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}
_FIXED = {
    # Spark's own warnings are for its developers; what concerns a user, our own messages say.
    "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
    # Operators' own CASTs must give null (and a quarantined row), not end the night.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",  # replaced by the shop's own zone
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "true",
    "spark.sql.caseSensitive": "false",
    # Replacing a finished empty stage drops the counts that were observed in it, and every row must be accounted for.
    "spark.sql.adaptive.optimizer.excludedRules": ("org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"),
}


def create_session(app: str, *, timezone: str = "UTC", conf: Mapping[str, str] | None = None) -> SparkSession:
    """Make (or get) the session; `timezone` is the shop's IANA zone, in which dates begin and end.

    The Python of this process runs the workers too, so that they import the same packages, unless PYSPARK_PYTHON or
    `spark.pyspark.python` names another. What spark-submit was given goes before `conf`.
    """
    logging.getLogger().addFilter(_is_not_py4js)
    # PySpark prints a JSON stack trace of each mistake in SQL, which our own message makes needless.
    PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
    submitted = _submitted()
    chosen = _DEFAULTS | dict(conf or {}) | submitted
    os.environ.setdefault("PYSPARK_PYTHON", chosen.get("spark.pyspark.python", sys.executable))
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    settings = chosen | _FIXED | {"spark.sql.session.timeZone": timezone}
    builder = SparkSession.builder.appName(app)
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    return spark


def _submitted() -> dict[str, str]:
    """What spark-submit was given, on its command line and in spark-defaults.conf; nothing where it started nothing."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _is_not_py4js(record: logging.LogRecord) -> bool:
    """py4j logs the stack of what it raises while it waits for the JVM, an interrupt for one, on the root logger."""
    return record.module != "java_gateway"
