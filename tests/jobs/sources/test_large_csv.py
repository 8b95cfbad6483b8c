"""A large CSV file is read by several tasks, with the rows of one task, unless a field may hold a line break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.config.input_settings import SourceSettings
from jobs.sources import large_csv
from jobs.sources.file_source import open_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = [f'{n},"a ""quoted"" word, {n}",{n / 2}' for n in range(2000)]
SPLIT = "spark.sql.files.maxPartitionBytes"


@pytest.fixture(autouse=True)
def small_splits(spark: SparkSession) -> Iterator[None]:
    usual = spark.conf.get(SPLIT)
    spark.conf.set(SPLIT, "16384")
    yield
    spark.conf.set(SPLIT, usual or "128m")


@pytest.mark.parametrize(
    ("row", "options", "tasks"),
    [
        ("7,plain,1", {}, True),
        ('8,"two\nlines",1', {}, False),
        ('9,5" pipe,1', {}, False),
        ("  ", {}, False),
        ("7,plain,1", {"multiLine": "true"}, False),
    ],
)
def test_each_row_is_read_once(
    spark: SparkSession,
    tmp_path: Path,
    row: str,
    options: dict[str, str],
    *,
    tasks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["id,text,price", *ROWS, row]) + "\n")
    source = SourceSettings.model_validate({"path": str(path), "format": "csv", "options": options})
    whole = open_files(spark, source, "inputs.t").rows
    assert whole.rdd.getNumPartitions() == 1
    monkeypatch.setattr(large_csv, "_LARGE", 10_000)
    found = open_files(spark, source, "inputs.t").rows
    assert (found.rdd.getNumPartitions() > 1) == tasks
    assert found.orderBy("id").collect() == whole.orderBy("id").collect()
