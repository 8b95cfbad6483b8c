"""Opens one configured source as a DataFrame with the source's own columns, and keeps the rows of `where`.

For engineers who connect a shop's files: every mistake in a path, a file or `where` is an InputError that names the
key and the remedy. `jobs/inputs/column_mapping.py` maps the columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.input_settings import InputSettings
from jobs.sources.expressions import refuse_unsafe_sql
from jobs.sources.file_source import OpenedSource, file_path, names_of_files
from jobs.sources.malformed_rows import MALFORMED, is_marked
from jobs.sources.queries import open_query, open_table
from jobs.sources.source_errors import translating_errors

#: Name of the column with the path of the file that a row came from.
SOURCE_FILE = "__source_file"


def open_source(
    spark: SparkSession, table: str, source: InputSettings, excluded_files: Sequence[str] = ()
) -> OpenedSource:
    """Open the source without `excluded_files` (URIs) and keep the rows of `where`.

    Raises InputError if the source is missing or has no file, BadFile if a file has zero bytes or is unreadable.
    """
    key = f"inputs.{table}"
    with translating_errors(table, source, f"{key}.{source.kind}"):
        if source.query is not None:
            opened = OpenedSource(open_query(spark, source.query, f"{key}.query"), {})
        else:
            skip = source.max_bad_files > 0
            opened = open_table(spark, source, key, skip_bad_files=skip, excluded=excluded_files)
    rows = opened.rows
    if excluded_files:
        rows = rows.where(~source_file_column(rows, source).isin(names_of_files(spark, excluded_files)))
    if source.where is not None:
        with translating_errors(table, source, f"inputs.{table}.where", rows):
            refuse_unsafe_sql(rows, source.where, f"inputs.{table}.where")
            # Malformed rows have no values to judge; they are counted.
            kept = F.expr(source.where)
            rows = rows.where(kept | is_marked(rows) if MALFORMED in rows.columns else kept)
    return OpenedSource(rows, opened.file_schemas)


def source_file_column(rows: DataFrame, source: InputSettings) -> Column:
    """Return the column with the path of each row's file; the name of the table or query where there are no files."""
    if source.kind != "path":
        return F.lit(source.place)
    try:
        return file_path(rows)
    except PySparkException:
        return F.lit(source.place)  # a table of Delta or Iceberg without files
