"""Creates the SparkSession with the settings that correct and bounded nights need."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.spark.java_process import start_java
from jobs.spark.key_filter import FILTER_SETTINGS

#: Defaults that the configuration's `spark` section may override.
_DEFAULTS = {
    # All cores. A task whose Python worker was killed is retried once before its job fails.
    "spark.master": "local[*,2]",
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    **FILTER_SETTINGS,
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2048",
    # Allows every character set that Java reads, such as GB18030 and Big5.
    "spark.sql.legacy.javaCharsets": "true",
    # Each task has its own core. Tokenizers would start a thread per core in every task.
    "spark.executorEnv.TOKENIZERS_PARALLELISM": "false",
    # A folder named jobs or lm where the command is run would hide ours from the workers.
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    # A hanging worker would block its job for ever. Spark kills it after this many idle seconds.
    "spark.python.worker.idleTimeoutSeconds": "600",
    "spark.python.worker.killOnIdleTimeout": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.python.worker.faulthandler.enabled": "true",
    # The checksummed local file system would leave .crc files beside the tables.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    # A scan writes the rows of its date and later ones to two folders; else Spark would sort all rows for that.
    "spark.sql.maxConcurrentOutputFileWriters": "2",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}
#: Days for which traces of failed tasks are kept.
_LOG_DAYS = 7
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
#: Settings that nobody may override, because results would change.
_FIXED = {
    # A failed CAST in an input expression must give null and a quarantined row. It must not end the night.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",  # create_session sets the shop's time zone
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "true",
    "spark.sql.caseSensitive": "false",
    # Columns of Iceberg tables have ids, which stay when a column is renamed.
    "spark.sql.parquet.fieldId.read.enabled": "true",
    # This rule replaces empty stages and loses their observed counts, which the row accounting needs.
    "spark.sql.adaptive.optimizer.excludedRules": ("org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"),
}


def create_session(app: str, *, timezone: str = "UTC", conf: Mapping[str, str] | None = None) -> SparkSession:
    """Create the session, or return the running one; `timezone` is the shop's IANA time zone.

    Workers run this process's Python, unless PYSPARK_PYTHON or `spark.pyspark.python` names another. Settings of
    spark-submit override `conf`.
    """
    logging.getLogger().addFilter(_is_not_from_py4j)
    # PySpark logs a JSON stack trace for each error of SQL and DataFrames. Regulars prints its own message.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    chosen = _DEFAULTS | dict(conf or {}) | _spark_submit_settings()
    chosen.setdefault("spark.sql.shuffle.partitions", str(_shuffle_partitions(chosen["spark.master"])))
    os.environ.setdefault("PYSPARK_PYTHON", chosen.get("spark.pyspark.python", sys.executable))
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    java_options = _with_quiet_log(chosen.get(_JAVA_OPTIONS, ""))
    settings = chosen | _FIXED | {_JAVA_OPTIONS: java_options, "spark.sql.session.timeZone": timezone}
    start_java(settings)
    builder = SparkSession.builder.appName(app)
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _shuffle_partitions(master: str) -> int:
    """Return the most partitions of a shuffle; adaptive execution merges small ones before they are read.

    A machine of its own gets eight for each core. A cluster may have any number of cores: 1,000 partitions keep 160 of
    them busy six times over.
    """
    return 8 * (os.cpu_count() or 1) if master.startswith("local") else 1_000


def _with_quiet_log(java_options: str) -> str:
    """Add our log configuration to the operator's driver options, unless they name one themselves.

    Spark's warnings are for Spark developers. Regulars prints what concerns a user.
    """
    if "-Dlog4j2.configurationFile=" in java_options or "-Dlog4j.configurationFile=" in java_options:
        return java_options
    ours = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}"
    log = f"-Dregulars.log={_log_folder() / f'spark-{os.getpid()}.log'}"
    return f"{java_options} {ours} {log}".strip()


def _log_folder() -> Path:
    """Return a folder that only this user can read: traces of Spark may quote values of rows. Old ones are deleted."""
    folder = Path(tempfile.gettempdir()) / f"regulars-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="regulars-"))
    oldest = time.time() - _LOG_DAYS * 86_400
    for log in folder.glob("spark-*.log"):
        with suppress(FileNotFoundError):  # another command deletes the same
            if log.stat().st_mtime < oldest:
                log.unlink()
    return folder


def spark_log() -> str | None:
    """Return the file with the traces of failed tasks of this process's session; None if there is none."""
    context = SparkContext._active_spark_context
    jvm: Any = context and context._jvm
    path = jvm and jvm.java.lang.System.getProperty("regulars.log")
    return path if path and Path(path).exists() else None


def _spark_submit_settings() -> dict[str, str]:
    """Return the settings of spark-submit and spark-defaults.conf; empty where spark-submit did not start us."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _is_not_from_py4j(record: logging.LogRecord) -> bool:
    """Drop py4j's records: it logs a stack trace of every interrupt on the root logger."""
    return record.module != "java_gateway"
