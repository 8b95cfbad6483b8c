"""The rows that happen after the date of a night, kept apart until a later night has their date.

While a table is read, the rule of such a row starts with LATER. It says what the next nights need to know of the row
besides its columns: the rule that it breaks itself, and the rules by which it lost optional values.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.inputs.row_accounting import happened_after
from jobs.inputs.validation import RULE, emptied, emptied_rules
from jobs.spark import files

LATER, _SEPARATOR = "later", "|"
#: Name of the column with the rule of a row if it is later; null in all others.
_RULE_IF_LATER = "__rule_if_later"
_IS_LATER = "__is_later"


def note_rule_if_later(rows: DataFrame, table: str, end: datetime) -> DataFrame:
    """Note in validated rows at or after `end` what they break by themselves. Call this before ids are compared."""
    lost = (F.when(F.col(emptied(rule)), F.lit(rule)) for rule in emptied_rules(table))
    noted = F.concat_ws(_SEPARATOR, F.lit(LATER), F.coalesce(RULE, F.lit("")), *lost)
    return rows.withColumn(_RULE_IF_LATER, F.when(happened_after(table, end), noted))


def mark_later(rows: DataFrame) -> DataFrame:
    """Set RULE in the rows whose outcome is outside_window, so that they are written."""
    is_later = F.col("__outcome") == "outside_window"
    return rows.withColumn(RULE, F.when(is_later, F.col(_RULE_IF_LATER)).otherwise(F.col(RULE)))


def write_apart(spark: SparkSession, rows: DataFrame, path: str, later_path: str) -> None:
    """Write the later rows to the folder `later_path`, if there are any, and all others to `path`, in one pass."""
    both = f"{path}.writing"
    for folder in (path, later_path):
        files.delete(spark, folder)
    is_later = F.coalesce(F.startswith(RULE, F.lit(LATER + _SEPARATOR)), F.lit(False))
    rows.withColumn(_IS_LATER, is_later).write.mode("overwrite").partitionBy(_IS_LATER).parquet(files.uri(both))
    for folder, value in ((path, "false"), (later_path, "true")):
        written = f"{both}/{_IS_LATER}={value}"
        if files.exists(spark, written):
            files.rename(spark, written, folder)
    files.delete(spark, both)
    if not files.exists(spark, path):
        rows.limit(0).write.parquet(files.uri(path))


def with_own_rule(later: DataFrame, table: str) -> DataFrame:
    """Give later rows back the rule that they break by themselves, and the columns `emptied(rule)`."""
    noted = F.split(RULE, rf"\{_SEPARATOR}")
    lost: dict[str, Column] = {emptied(rule): F.array_contains(noted, rule) for rule in emptied_rules(table)}
    return later.withColumns({**lost, RULE: F.nullif(noted[1], F.lit(""))})
