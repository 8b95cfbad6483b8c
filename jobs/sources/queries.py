"""Opens the named tables of the section `sources`, and the queries that join them.

Each source is a temporary view of its name in the session while the inputs are read. A query is read as a subquery,
so only a SELECT is possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from jobs.config.input_settings import InputSettings, SourceSettings
from jobs.config.settings import did_you_mean
from jobs.sources.expressions import refuse_unsafe_query
from jobs.sources.file_source import OpenedSource, open_files, reader_options, refuse_broken_off_files
from jobs.sources.jdbc import open_jdbc
from jobs.sources.malformed_rows import MALFORMED, is_malformed
from jobs.sources.source_errors import describe_columns, translating_errors
from jobs.sources.table_formats import pin_version, read_catalog_table
from jobs.spark.errors import InputError


@contextmanager
def named_sources(
    spark: SparkSession,
    sources: Mapping[str, SourceSettings],
    inputs: Mapping[str, InputSettings],
    notes: list[str] | None = None,
) -> Iterator[None]:
    """Open the sources that a query of `inputs` names, as views of their names, and check the queries.

    Malformed rows of text files are left out. With `notes` they are counted, by a scan of their own, and the list gets
    one line for each source that has any. Raises InputError that names the source or the query, before any row is read.
    """
    queries = {table: source.query for table, source in inputs.items() if source.query is not None}
    views: list[str] = []
    try:
        for name, source in sources.items():
            if not any(uses_source(one, name) for one in inputs.values()):
                continue
            with translating_errors(name, source, f"sources.{name}.{source.kind}"):
                rows = open_table(spark, source, f"sources.{name}").rows
            if MALFORMED in rows.columns:
                rows = _well_formed(spark, source, name, rows, notes)
            rows.createOrReplaceTempView(name)
            views.append(name)
        for table, query in queries.items():
            with translating_errors(table, inputs[table], f"inputs.{table}.query"):
                open_query(spark, query, f"inputs.{table}.query", list(sources))
        yield
    finally:
        for name in views:
            spark.catalog.dropTempView(name)


def _well_formed(
    spark: SparkSession, source: SourceSettings, name: str, rows: DataFrame, notes: list[str] | None
) -> DataFrame:
    """Return the well-formed rows of a text file. Raises BadFile for a file that ends inside quotes, if `notes`."""
    malformed = is_malformed(rows, source.format, reader_options(source))
    if notes is not None:
        with translating_errors(name, source, f"sources.{name}", scan=True):
            refuse_broken_off_files(spark, source, f"sources.{name}")
            count = rows.where(malformed).count()
        if count:
            notes.append(
                f"sources.{name}: {count:,} rows of {source.place} are left out: they have another number of columns "
                "than their file, are no JSON, or never close their quotes"
            )
    return rows.where(~malformed).drop(MALFORMED)


def uses_source(source: InputSettings, name: str) -> bool:
    """Whether the query of an input has the name of a source."""
    return source.query is not None and _has_word(source.query, name)


def _has_word(query: str, source: str) -> bool:
    """Whether the SQL has the word, in any case."""
    return re.search(rf"\b{re.escape(source)}\b", query, re.IGNORECASE) is not None


def open_query(spark: SparkSession, query: str, key: str, sources: Sequence[str] = ()) -> DataFrame:
    """Return the rows of a SELECT. Raises InputError for unknown tables and columns and for calls of Java.

    `sources` are the names of all sources, for the message. Other errors of Spark pass.
    """
    try:
        rows = spark.sql("\n".join(("SELECT * FROM (", query.strip().rstrip(";"), ")")))
    except AnalysisException as error:
        condition, parameters = error.getCondition() or "", error.getMessageParameters() or {}
        if condition == "TABLE_OR_VIEW_NOT_FOUND":
            missing = parameters.get("relationName", "").replace("`", "")
            known = did_you_mean(missing, sources) if sources else "the section sources names none."
            raise InputError(
                f"{key}: {missing} is neither a source nor a table of the catalog; {known} Correct the query or add "
                f"sources.{missing}, then run the command again."
            ) from None
        if condition.startswith("UNRESOLVED_COLUMN"):
            read = [name for name in sources if _has_word(query, name) and spark.catalog.tableExists(name)]
            tables = " ".join(f"The source {name}: {describe_columns(spark.table(name))}" for name in read)
            raise InputError(
                f"{key}: there is no column {parameters.get('objectName')}. {tables} Correct the query, then run the "
                "command again."
            ) from None
        raise
    refuse_unsafe_query(rows, key)
    return rows


def open_table(
    spark: SparkSession, source: SourceSettings, key: str, *, skip_bad_files: bool = False, excluded: Sequence[str] = ()
) -> OpenedSource:
    """Open a table that is a path, a catalog's table or a database's; `key` names it in messages.

    `skip_bad_files` and `excluded` are those of `open_files`. Raises InputError with the mend; other errors of Spark
    pass through.
    """
    if source.jdbc is not None:
        return OpenedSource(open_jdbc(spark, source, key), {})
    if source.table is not None:
        return OpenedSource(read_catalog_table(spark, source.table, source.version, key), {})
    source = pin_version(spark, source, key)
    return open_files(spark, source, key, skip_bad_files=skip_bad_files, excluded=excluded)
