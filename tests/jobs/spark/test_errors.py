"""A date that another command takes away is told apart from a defect."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.spark.errors import TablesChanged, tables_changed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_a_date_that_disappears_during_a_read_is_no_defect(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "tables/runs/run_date=2026-03-01"
    spark.range(3).write.parquet(str(folder))
    rows = spark.read.parquet(str(folder))
    shutil.rmtree(folder)
    for read in (rows.collect, lambda: spark.read.parquet(str(folder)), lambda: list(folder.iterdir())):
        with pytest.raises(Exception, match="run_date=2026-03-01") as raised:
            read()
        error = tables_changed(raised.value)
        assert isinstance(error, TablesChanged)
        assert error.exit_code == 75
        assert str(error).startswith("tables/runs/run_date=2026-03-01 was replaced or taken away")


def test_another_missing_file_is_something_else(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="PATH_NOT_FOUND") as raised:
        spark.read.parquet(str(tmp_path / "elsewhere"))
    assert tables_changed(raised.value) is None
    assert tables_changed(ValueError("tables/runs/run_date=2026-03-01 has no rows")) is None
