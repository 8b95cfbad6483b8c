"""Only frames of small files are marked for a broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.spark import plan_size
from jobs.spark.plan_size import broadcast_if_small, size_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pyspark.sql import SparkSession


def test_a_frame_is_as_large_as_its_files(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spark.range(1000).write.parquet(str(tmp_path / "rows"))
    rows = spark.read.parquet(str(tmp_path / "rows"))
    on_disk = sum(path.stat().st_size for path in (tmp_path / "rows").glob("*.parquet"))
    assert size_of(rows) == on_disk

    def is_marked() -> bool:
        return "broadcast" in str(broadcast_if_small(rows)._jdf.queryExecution().analyzed())

    assert is_marked()
    monkeypatch.setattr(plan_size, "_BROADCAST_BYTES", on_disk - 1)
    assert not is_marked()
