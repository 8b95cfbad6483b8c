"""The files of a task's ledger, and which of them can have a key.

A night appends waves: `wave=<number>-<run_id>/part-00000.parquet` has answers of any key. Compaction merges them into
one wave of many files, `part-<n>-of-<ranges>.parquet`. Each has one range of the keys, sorted. Keys are hashes in hex,
so the ranges cut the first four digits evenly and a file's name tells its range.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.scoring.waves import row_schema
from jobs.spark import files
from jobs.spark.key_ranges import bounds_up_to
from jobs.store.store import Store

#: Digits of a key that decide its range.
_DIGITS = 4
#: Most ranges that these digits tell apart.
MAX_RANGES = 16**_DIGITS
_RANGE = re.compile(r"part-([0-9]{5})-of-([0-9]{5})\.parquet")
_WAVE = re.compile(r"wave=([0-9]+)")
#: Keys up to which a look-up asks for their ranges. More keys have some in every range.
_ASKED_BY_RANGE = 20_000


@dataclass(frozen=True)
class LedgerFile:
    """One file of a ledger, the number of its wave, and its range of keys: number `part` of `ranges`."""

    path: str
    wave: int
    part: int = 0
    ranges: int = 1

    @staticmethod
    def of(path: str) -> LedgerFile:
        """Read the names of a file and its wave."""
        folder, _, name = path.rpartition("/")
        wave = _WAVE.match(folder.rpartition("/")[2])
        number = int(wave[1]) if wave else 0
        found = _RANGE.fullmatch(name)
        return LedgerFile(path, number, int(found[1]), int(found[2])) if found else LedgerFile(path, number)


def ledger_files(spark: SparkSession, store: Store, task: str) -> list[LedgerFile]:
    """Return the Parquet files of a task's ledger; none before its first wave."""
    found = files.walk(spark, store.ledger(task))
    return [LedgerFile.of(path) for path in found if path.endswith(".parquet")]


def starts_of_ranges(ranges: int) -> list[str]:
    """Return the first digits with which each range but the first starts."""
    return [f"{number * MAX_RANGES // ranges:0{_DIGITS}x}" for number in range(1, ranges)]


def range_column(ranges: int) -> Column:
    """Return the number of the range that the column `key` lies in."""
    starts = F.array(*map(F.lit, starts_of_ranges(ranges))) if ranges > 1 else F.lit(None).cast("array<string>")
    return bounds_up_to(F.substring("key", 1, _DIGITS), starts, ranges - 1)


def read_files(
    spark: SparkSession, store: Store, task: str, result_type: str, found: Sequence[LedgerFile]
) -> DataFrame:
    """Read files of a task's ledger, with the `wave` that each row came from."""
    schema = row_schema(result_type).add("wave", "string")
    if not found:
        return spark.createDataFrame([], schema)
    reader = spark.read.schema(schema).option("basePath", files.uri(store.ledger(task)))
    return reader.parquet(*(files.for_reading(file.path) for file in found))


def with_keys_of(found: Sequence[LedgerFile], keys: DataFrame, count: int) -> list[LedgerFile]:
    """Return the files that can have some of the `count` keys of the column `key`."""
    if count > _ASKED_BY_RANGE or all(file.ranges == 1 for file in found):
        return list(found)
    rows = keys.select(F.substring("key", 1, _DIGITS).alias("start")).distinct().collect()
    starts = {ranges: starts_of_ranges(ranges) for ranges in {file.ranges for file in found}}
    parts = {ranges: {bisect_right(of, row["start"]) for row in rows} for ranges, of in starts.items()}
    return [file for file in found if file.part in parts[file.ranges]]
