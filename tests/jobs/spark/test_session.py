"""The session keeps the operator's settings, except those on which results depend."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from jobs.spark import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Builder:
    """Records what is configured, and starts nothing."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    def appName(self, _: str) -> Builder:
        return self

    def config(self, key: str, value: str) -> Builder:
        self.settings[key] = value
        return self

    def getOrCreate(self) -> dict[str, str]:
        return self.settings


def settings(monkeypatch: pytest.MonkeyPatch, **conf: str) -> dict[str, Any]:
    builder = Builder()
    monkeypatch.setattr(session, "SparkSession", type("Fake", (), {"builder": builder}))
    monkeypatch.setattr(session, "start_java", lambda _: None)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    session.create_session("test", timezone="Asia/Tokyo", conf={key.replace("_", "."): v for key, v in conf.items()})
    return builder.settings


def test_the_operators_driver_options_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = "-Djavax.net.ssl.trustStore=/etc/shop.jks -Djava.security.krb5.conf=/etc/krb5.conf"
    options = settings(monkeypatch, spark_driver_extraJavaOptions=theirs)["spark.driver.extraJavaOptions"]
    assert options.startswith(f"{theirs} -Dlog4j2.configurationFile=/")
    own_log = "-Dlog4j2.configurationFile=/etc/log4j2.xml"
    kept = settings(monkeypatch, spark_driver_extraJavaOptions=own_log)["spark.driver.extraJavaOptions"]
    assert kept == own_log
    assert settings(monkeypatch)["spark.driver.extraJavaOptions"].startswith("-Dlog4j2.configurationFile=/")


def test_traces_are_kept_for_a_week_where_only_this_user_reads_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session.tempfile, "tempdir", str(tmp_path))
    folder = session._log_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, days in (("spark-1.log", 8), ("spark-2.log", 6), ("other.log", 8)):
        (folder / name).touch()
        os.utime(folder / name, times=(time.time() - days * 86_400,) * 2)
    assert {path.name for path in session._log_folder().iterdir()} == {"spark-2.log", "other.log"}
    folder.chmod(0o755)
    assert session._log_folder() != folder


def test_settings_that_decide_results_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, spark_sql_session_timeZone="UTC", spark_sql_caseSensitive="true")
    assert found["spark.sql.session.timeZone"] == "Asia/Tokyo"
    assert found["spark.sql.caseSensitive"] == "false"


def test_shuffles_have_partitions_for_the_machine_or_for_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    name = "spark.sql.shuffle.partitions"
    assert settings(monkeypatch)[name] == "48"
    assert settings(monkeypatch, spark_master="spark://host:7077")[name] == "1000"
    assert settings(monkeypatch, spark_sql_shuffle_partitions="7")[name] == "7"


def test_workers_import_nothing_from_the_current_folder(spark: SparkSession) -> None:
    def flags(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for part in parts:
            yield pd.DataFrame({"is_safe": [sys.flags.safe_path] * len(part)})

    assert spark.range(1).mapInPandas(flags, "is_safe boolean").first().is_safe
