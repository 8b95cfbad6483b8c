"""Translates Spark's errors about a source into errors that name the key, the file and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.java_gateway import JavaObject, is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from jobs.config.input_settings import SourceSettings
from jobs.profiling.column_names import are_names
from jobs.sources.charsets import ENCODING_HINT, is_undecoded
from jobs.sources.expressions import find_column
from jobs.sources.file_source import parquet_schemas, repeated_name
from jobs.sources.jdbc import sql_exception
from jobs.sources.malformed_rows import MALFORMED
from jobs.sources.schema_drift import distinct_schemas
from jobs.spark.errors import BadFile, InputError
from jobs.spark.session import spark_log
from schemas import INPUTS, contract

_LISTED_COLUMNS = 30
_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".orc": "orc",
}
_SQLSTATE = re.compile(r"\s*SQLSTATE: \w+.*")


@contextmanager
def translating_errors(
    table: str, source: SourceSettings, key: str, df: DataFrame | None = None, scan: bool = False
) -> Iterator[None]:
    """Turn Spark's errors about the source into an InputError that names `key`; BadFile names the file too.

    During a scan (`scan`) only errors of files and expressions belong to the source; others pass through.
    Messages about rows are left out because they quote values. Messages about files, columns and SQL text are kept.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        explanation = _explanation(error, table, key, source, df, scan)
        if explanation is None:
            raise
        log = spark_log() if scan else None  # while it plans, Spark raises and logs nothing
        details = f" Spark's own messages are in {log}." if log else ""
        message, file = f"{key}: {explanation}, then run the command again.{details}", _bad_file(error)
        raise (InputError(message) if file is None else BadFile(message, file)) from None


def _explanation(
    error: PySparkException | Py4JJavaError,
    table: str,
    key: str,
    source: SourceSettings,
    df: DataFrame | None,
    scan: bool,
) -> str | None:
    condition, parameters, message = _spark_condition(error)
    refused = sql_exception(error)
    if refused is not None:  # its message may quote values
        return (
            f"the database ended the read of {source.place} (SQLSTATE {refused.getSQLState()}). See its log and "
            f"correct {key}"
        )
    if _is_stack_overflow(error):
        return f"the SQL of {key} is nested too deeply. Write it in several steps with fewer parentheses"
    if "DATETIME_PATTERN" in condition:
        return _wrong_pattern(parameters.get("pattern", ""), key, source)
    if condition == "COLUMN_ALREADY_EXISTS":
        name = parameters.get("columnName", "").strip("`")
        return (
            f"{source.place} has two columns {name}, and the case of letters does not count. Write it again with a "
            "name of its own for each column"
        )
    kind = "" if source.kind == "query" else f" as {source.format}"
    if condition == "PATH_NOT_FOUND":
        return f"there is no {parameters.get('path', source.place)}. Correct the path or bring the file"
    if condition == "UNABLE_TO_INFER_SCHEMA":
        return f"{source.place} is an empty folder, or files of zero bytes. Correct the path or bring the data"
    if condition == "TABLE_OR_VIEW_NOT_FOUND" and source.table is not None:
        return (
            f"the catalog has no table {source.table}. Correct the name, or configure the catalog in the section spark "
            "(spark.sql.catalog...)"
        )
    if condition in ("DATA_SOURCE_NOT_FOUND", "INVALID_DATA_SOURCE"):
        return f"Spark knows no format {source.format}; use parquet, csv, json, orc"
    if condition == "FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH":
        return _two_types(parameters, table, source, key)
    if condition.startswith("FAILED_READ_FILE"):
        named = _format_of_name(parameters.get("path", ""))
        if named is not None and named != source.format.lower():
            return (
                f"{parameters.get('path')} cannot be read{kind}, and its name says {named}. Write "
                f"{key_of_source(key)}.format: {named}, or take the file out of the folder"
            )
        return (
            f"{parameters.get('path')} cannot be read{kind}: it is truncated, damaged, gone, of another "
            "format, or (CSV) has another header than the first file. Write it again or take it out of the folder"
        )
    if condition == "PARQUET_TYPE_ILLEGAL":
        return (
            f"a column of {source.place} has the type {parameters.get('parquetType')}, which Spark cannot read. "
            'Write timestamps in microseconds (pandas: to_parquet(..., coerce_timestamps="us"))'
        )
    if condition == "INVALID_IDENTIFIER" and df is not None:  # letters outside ASCII, and no column has the name
        name = parameters.get("ident", "").strip("`")
        if find_column(df, name) is not None:
            quoted = _text_of(key, source).replace(name, f"`{name}`")
            return (
                f"SQL needs backquotes around the column {name}, and YAML needs double quotes around them. Write "
                f'{key.rpartition(".")[2]}: "{quoted}"'
            )
        return (
            f"{source.place} has no column {name}. {columns_of(df, source)} Correct {key}; in an expression write "
            f"`{name}`"
        )
    if condition.startswith("UNRESOLVED_COLUMN") and df is not None:
        return f"{source.place} has no column {parameters.get('objectName')}. {columns_of(df, source)} Correct {key}"
    if condition == "INVALID_IDENTIFIER":
        name = parameters.get("ident", "").strip("`")
        return f"SQL needs backquotes around the name {name}: `{name}`. Correct {key}"
    if condition == "AMBIGUOUS_REFERENCE":
        name = parameters.get("name", "")
        return (
            f"{source.place} has two columns {name}. Name the columns of a query one by one, such as SELECT a.{name}, "
            f"b.other. Correct {key}"
        )
    if condition == "INVALID_PARAMETER_VALUE.CHARSET":
        return f"Java does not know the character set in the options. Write {ENCODING_HINT}"
    state = error.getSqlState() if isinstance(error, PySparkException) else ""
    if (state or "").startswith(("22", "P0")):  # data exceptions, and errors that the SQL raises on purpose
        return f"an expression fails on some row ({condition}): use the try_ form of that function"
    if scan:
        return None
    is_text = condition.startswith("DATATYPE_MISMATCH") and source.format.lower() in ("csv", "json")
    hint = f" {source.format.upper()} gives text: CAST(... AS BIGINT) makes a number of it." if is_text else ""
    return f"{_SQLSTATE.sub('', (message.splitlines() or [condition])[0])}{hint} Correct {key}"


def key_of_source(key: str) -> str:
    """Return the key of the input or source that a longer key belongs to, such as inputs.purchases."""
    return ".".join(key.split(".")[:2])


def _is_stack_overflow(error: PySparkException | Py4JJavaError) -> bool:
    """Whether the parser or the analyser of SQL ran out of stack."""
    if isinstance(error, PySparkException):
        return error.getCondition() == "FAILED_TO_PARSE_TOO_COMPLEX"
    gateway = SparkContext.getOrCreate()._gateway
    return bool(is_instance_of(gateway, error.java_exception, "java.lang.StackOverflowError"))


def _wrong_pattern(quoted: str, key: str, source: SourceSettings) -> str:
    """Explain a date pattern that Spark does not read; `quoted` is the pattern."""
    pattern = quoted.strip("'")
    columns = getattr(source, "columns", None) or {}
    where = next((f"{key_of_source(key)}.columns.{name}" for name, text in columns.items() if pattern in text), key)
    letters = "yyyy is the year, MM the month, dd the day, HH the hour, mm the minute, ss the second"
    # D is the day of the year, and Y the year of its weeks: hardly anyone means those.
    meant = pattern.replace("D", "d").replace("Y", "y")
    example = f"'{meant}'" if meant != pattern else "'dd.MM.yyyy HH:mm'"
    return f"{pattern} in {where} is no date pattern: {letters}. Write one such as {example}"


def _format_of_name(path: str) -> str | None:
    """Return the format that the extension of a file's name says; None where it says none."""
    extensions = Path(path).suffixes[-2:]
    return next((_FORMATS[suffix.lower()] for suffix in reversed(extensions) if suffix.lower() in _FORMATS), None)


def _text_of(key: str, source: SourceSettings) -> str:
    """Return the configured text at `key`: a condition or an expression."""
    name = key.rpartition(".")[2]
    columns = getattr(source, "columns", None) or {}
    return str(columns.get(name) or getattr(source, name, None) or "")


def _spark_condition(error: PySparkException | Py4JJavaError) -> tuple[str, dict[str, str], str]:
    """Return condition, parameters and text of the error; a failed job gives those of its unreadable file."""
    if isinstance(error, PySparkException):
        text = str(error).strip().removeprefix(f"[{error.getCondition()}] ")
        return error.getCondition() or "", dict(error.getMessageParameters() or {}), text
    found: tuple[str, dict[str, str], str] = ("", {}, "")
    cause: JavaObject | None = error.java_exception
    while cause is not None:
        if _is_spark_throwable(cause) and cause.getCondition():
            condition = str(cause.getCondition())
            if not found[0] or condition.startswith("FAILED_READ_FILE"):
                found = (condition, dict(cause.getMessageParameters()), str(cause.getMessage()))
        cause = cause.getCause()
    return found


def _is_spark_throwable(exception: JavaObject) -> bool:
    context = SparkContext.getOrCreate()  # the threads that read tables have no active session
    return bool(is_instance_of(context._gateway, exception, "org.apache.spark.SparkThrowable"))


def _two_types(parameters: Mapping[str, str], table: str, source: SourceSettings, key: str) -> str:
    """Name a column that is of two types, a file of each, and the type that the contract wants where it names one.

    Spark names one of the files, with the type that Parquet gives the column: FIXED_LEN_BYTE_ARRAY is a decimal.
    """
    spark = SparkSession.active()
    name, file, expected = (parameters.get(one, "") for one in ("column", "path", "expectedType"))
    name = name.strip("[]")

    def type_in(schema: StructType | None) -> str | None:
        fields = () if schema is None else schema.fields
        return next((one.dataType.simpleString() for one in fields if one.name.lower() == name.lower()), None)

    actual = type_in(distinct_schemas(spark, [file]).get(file)) or parameters.get("actualType")
    schemas_of_files = parquet_schemas(spark, source, key) if source.kind == "path" else {}
    other = next((path for path, schema in schemas_of_files.items() if type_in(schema) == expected), "other files")
    own = getattr(source, "columns", None)
    columns = contract(table).columns if table in INPUTS else ()
    wanted = (
        one
        for one in columns
        if (one.name if own is None else own.get(one.name, "")).strip("`").lower() == name.lower()
    )
    mends = (f"{table}.{one.name} is {one.type}: write all files with that type" for one in wanted)
    return f"the column {name} is {actual} in {file} but {expected} in {other}. " + next(
        mends, "Write all files with one type"
    )


def _bad_file(error: PySparkException | Py4JJavaError) -> str | None:
    """Return the URI of the file that cannot be read at all, if the error names one."""
    condition, parameters, _ = _spark_condition(error)
    if condition.startswith("FAILED_READ_FILE") and not condition.endswith("COLUMN_DATA_TYPE_MISMATCH"):
        return parameters.get("path")
    return None


def columns_of(df: DataFrame, source: SourceSettings) -> str:
    """List the columns of a source's rows in one sentence, as `describe_columns` does."""
    is_csv = source.kind == "path" and source.format.lower() == "csv"
    return describe_columns(df, may_lack_header=is_csv or source.kind == "query")


def describe_columns(df: DataFrame, *, may_lack_header: bool = True) -> str:
    """List the columns of `df` in one sentence, for a message about a column that it lacks.

    The names of a CSV file without a header are a customer's row. Where that may be so, they are not listed.
    """
    names = [name for name in df.columns if name != MALFORMED]
    if not names:
        return "It has no columns: is the file empty?"
    if names == ["_corrupt_record"]:
        return (
            "None of its lines is JSON in UTF-8. If the file is CSV, write format: csv; if it is one JSON text, write "
            f"options: {{multiLine: true}}; if it is in another character set, write {ENCODING_HINT}."
        )
    if any(is_undecoded(name) for name in names):
        return f"Its names are not in UTF-8: write {ENCODING_HINT}."
    # Where the first line is no header, its values must not be shown.
    if names[0].lstrip("[ ").startswith("{"):
        return "Its first line looks like JSON: write format: json."
    separator = next((one for one in (";", "\t", "|", ",") if len(names) == 1 and one in names[0]), None)
    if separator is not None:
        shown = separator.replace("\t", "\\t")
        return f'It has one column with {shown} in its name, so its separator is another: options: {{sep: "{shown}"}}.'
    if may_lack_header and not are_names(names):
        return (
            f"The names of its {len(names)} columns look like values and are not repeated here. If the file has no "
            "header, write options: {header: false} and map _c0, _c1 and so on."
        )
    twice = repeated_name(names)
    if twice is not None:
        return f"It has {', '.join(names[:_LISTED_COLUMNS])}: {twice}."
    more = f" and {len(names) - _LISTED_COLUMNS} more" if len(names) > _LISTED_COLUMNS else ""
    return f"It has {', '.join(names[:_LISTED_COLUMNS])}{more}."
