"""Builds the rows of `quarantine`: rejected input rows and unreadable files, without their values.

Only work files have these rows: `jobs/tables/quarantine.py` replaces ids and hashes by keyed hashes.

Runs inside the night: `regulars nightly --run-date D`. `jobs/scoring/failures.py` adds the rows on which a model
failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from hashlib import sha256

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.inputs.validation import RULE, rule_details

#: Rule of `quarantine` for a whole file.
FILE_UNREADABLE = "file_unreadable"
_FILE_DETAILS = {
    FILE_UNREADABLE: "the file is truncated, damaged, empty or of another format; its rows are not counted",
}
_FILE_COLUMNS = "table string, rule string, key_hash string, source_file string"


def quarantine_rows(
    rejected: DataFrame,
    table: Column,
    details: Mapping[str, str],
    *,
    rule: Column,
    key_hash: Column,
    user_id: Column | None = None,
    source_file: Column | None = None,
    error: Column | None = None,
) -> DataFrame:
    """Select the columns of `quarantine` from `rejected`, one row per rejected row of an input table.

    `rule` is the broken rule; `details` says in words what each rule means; `error` adds the kind of error, if any.
    Without `source_file` the column is empty. Returns `quarantine` with `user_id` in place of `user_hash`.
    """
    words = F.create_map(*(F.lit(text) for pair in details.items() for text in pair))
    detail = F.element_at(words, rule)
    return rejected.select(
        table.alias("table"),
        rule.alias("rule"),
        key_hash.alias("key_hash"),
        (F.lit(None) if user_id is None else user_id).cast("string").alias("user_id"),
        (F.lit("") if source_file is None else source_file).alias("source_file"),
        (detail if error is None else F.concat_ws(": ", detail, error)).alias("detail"),
    )


def collect_quarantine(
    spark: SparkSession, tables: Mapping[str, DataFrame], excluded_files: Mapping[str, Sequence[str]]
) -> DataFrame:
    """Collect the rejected rows of the written `tables`, and one row per excluded file (URI) of each table."""
    files = [
        (table, FILE_UNREADABLE, sha256(file.encode()).hexdigest(), file.rpartition("/")[2])
        for table, uris in excluded_files.items()
        for file in uris
    ]
    found = [
        _described(spark.createDataFrame(files, _FILE_COLUMNS), F.col("table"), _FILE_DETAILS),
        *(_described(_rejected(rows), F.lit(table), rule_details(table)) for table, rows in tables.items()),
    ]
    return reduce(DataFrame.unionByName, found)


def _described(rejected: DataFrame, table: Column, details: Mapping[str, str]) -> DataFrame:
    names = [name for name in ("rule", "key_hash", "user_id", "source_file") if name in rejected.columns]
    return quarantine_rows(rejected, table, details, **{name: F.col(name) for name in names})


def _rejected(rows: DataFrame) -> DataFrame:
    return rows.where(F.col(RULE).isNotNull()).withColumnRenamed(RULE, "rule")
