"""Opens files with Spark's readers: the formats' default options, the columns of all files, empty files, archives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from jobs.config.input_settings import SourceSettings
from jobs.sources import schema_drift
from jobs.sources.large_csv import can_be_split
from jobs.sources.malformed_rows import MALFORMED, marking_options, refuse_open_quotes, with_mark
from jobs.sources.paths import refuse_archives, spark_paths
from jobs.sources.table_formats import TABLE_FORMATS, read_table_format
from jobs.spark.errors import BadFile, InputError

#: Reader options unless `options` says otherwise. CSV follows RFC 4180: doubled quotes, line breaks inside quotes; its
#: header names decide, not positions. JSON numbers keep their text, so one odd value does not change a column's type.
_DEFAULT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "csv": {"header": True, "multiLine": True, "escape": '"', "enforceSchema": False},
    "json": {"primitivesAsString": True},
}
#: Formats in which the bytes of an archive are text.
_TEXT_FORMATS = ("csv", "json", "text", "xml")
#: Options of all readers of files that choose among the files.
_CHOICE_OF_FILES = ("pathglobfilter", "recursivefilelookup", "modifiedbefore", "modifiedafter", "ignoremissingfiles")
_RELATION_PLAN = "org.apache.spark.sql.execution.datasources.LogicalRelation"
_FILES = "org.apache.spark.sql.execution.datasources.HadoopFsRelation"


@dataclass(frozen=True)
class OpenedSource:
    """An opened source: its rows, and its distinct file schemas, each under one file that has it.

    Rows of text files also have the column MALFORMED, unless the options say how to read such rows.
    """

    rows: DataFrame
    file_schemas: Mapping[str, StructType]


def open_files(
    spark: SparkSession, source: SourceSettings, key: str, *, skip_bad_files: bool = False, excluded: Sequence[str] = ()
) -> OpenedSource:
    """Open the files of a source with all their columns; `key` names the source in messages.

    `skip_bad_files` infers the columns without unreadable files; files in `excluded` (URIs) may have zero bytes.
    Raises InputError for archives and BadFile for a file of zero bytes. Spark's errors pass through.
    """
    if source.format.lower() in TABLE_FORMATS.values():
        return OpenedSource(read_table_format(spark, source, key), {})
    opened = _load(spark, source, key, skip_bad_files)
    if source.format.lower() in _TEXT_FORMATS:
        refuse_archives(spark, f"{key}.path", sorted(opened.rows.inputFiles()))
    if _is_never_empty(source, opened.rows):
        _refuse_files_of_zero_bytes(spark, opened.rows, key, excluded)
    return opened


def refuse_broken_off_files(
    spark: SparkSession, source: SourceSettings, key: str, excluded: Sequence[str] = ()
) -> None:
    """Raise BadFile for a CSV file of the source that ends inside quotes, unless it is `excluded` (URIs)."""
    if source.kind != "path" or source.format.lower() != "csv":
        return
    lines = _lines(spark, source, key)
    lines = lines.where(~file_path(lines).isin(names_of_files(spark, excluded)))
    refuse_open_quotes(lines, f"{key}.path", source.format, reader_options(source))


def _lines(spark: SparkSession, source: SourceSettings, key: str) -> DataFrame:
    """The lines of the source's text files, one a row."""
    paths, path_options = spark_paths(spark, source.paths, key)
    choice = {name: value for name, value in source.options.items() if name.lower() in _CHOICE_OF_FILES}
    return spark.read.format("text").options(**choice, **path_options).load(paths)


def repeated_name(names: Sequence[str]) -> str | None:
    """Say which columns stand for a repeated name of a CSV header: Spark adds the place of each to its name."""
    numbered = {place: name.removesuffix(str(place)) for place, name in enumerate(names) if name.endswith(str(place))}
    for plain in numbered.values():
        same = [place for place, name in numbered.items() if name.lower() == plain.lower()]
        if len(same) > 1 and plain and plain not in names:
            columns = ", ".join(names[place] for place in same)
            return f"{plain} stands {len(same)} times in the header, so its columns are called {columns}"
    return None


def file_path(rows: DataFrame) -> Column:
    """Return the column with the URI of each row's file."""
    return rows.metadataColumn("_metadata").getField("file_path")


def names_of_files(spark: SparkSession, uris: Sequence[str]) -> list[str]:
    """Return the URIs of files also as `file_path` may write them: with one slash after the scheme, escaped or not."""
    single = [uri.replace(":///", ":/", 1) for uri in uris]
    return [*uris, *single, *(str(hadoop_path(spark, uri).toString()) for uri in uris)]


def parquet_schemas(spark: SparkSession, source: SourceSettings, key: str) -> dict[str, StructType]:
    """Return the distinct schemas of a Parquet source that was opened before, each under its first file (URI)."""
    paths, path_options = spark_paths(spark, source.paths, key)
    uris = spark.read.options(**path_options).parquet(*paths).inputFiles()
    return schema_drift.distinct_schemas(spark, uris[: schema_drift.MAX_FILES])


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Return Hadoop's path of a file's URI."""
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))


def _load(spark: SparkSession, source: SourceSettings, key: str, skip_bad_files: bool) -> OpenedSource:
    """Load the files; Parquet gives the columns of all its files and, if they differ, the distinct schemas."""
    paths, path_options = spark_paths(spark, source.paths, key)
    options = {**reader_options(source), **path_options}
    infers = dict(options)
    if path_options and str(options.get("multiLine")).lower() == "true":
        # To find the columns of multi-line text, Spark takes the names of files as globs once more.
        if source.format.lower() != "csv":
            raise InputError(
                f"{key}.path: {source.place}: Spark reads no multi-line {source.format} from a path with special "
                "characters. Rename the folder, or write one JSON object a line. Then run the command again."
            )
        infers["multiLine"] = False
    if skip_bad_files:
        infers["ignoreCorruptFiles"] = True
    reader = spark.read.format(source.format).options(**infers)
    if source.json_fields is not None:
        reader = reader.schema(_given_fields(source.json_fields, key))
    try:
        df = reader.load(paths)
        uris = df.inputFiles() if source.format.lower() == "parquet" else []
        found = schema_drift.distinct_schemas(spark, uris) if 1 < len(uris) <= schema_drift.MAX_FILES else {}
    except AnalysisException as error:
        if error.getCondition() == "PARQUET_TYPE_ILLEGAL":  # names neither the file nor the column
            schema_drift.refuse_unknown_types(spark, _lines(spark, source, key).inputFiles(), key)
        raise
    partitions = _partition_columns(spark, df)
    if source.format.lower() == "csv" and repeated_name(df.columns) and len(df.inputFiles()) == 1:
        options["enforceSchema"] = True  # else Spark compares the repeated names of the header with the numbered ones
    if source.format.lower() == "csv" and can_be_split(
        spark, df.inputFiles(), source.options, options, partial(_lines, spark, source, key)
    ):
        options["multiLine"] = False
    marks = marking_options(source.format, source.options) if set(df.columns) - {"_corrupt_record"} else {}
    if len(found) < 2 and infers == options and not partitions and not marks:
        return OpenedSource(df, {})
    # Folder names are text: as a number store=007 would lose its zeros.
    schema = StructType([StructField(f.name, StringType()) if f.name in partitions else f for f in df.schema.fields])
    if MALFORMED in marks.values():
        schema = with_mark(schema, partitions)
    if len(found) > 1:
        schema = schema_drift.merge_schemas([*found.values(), schema])  # only the last has the partition columns
        if schema_drift.untyped_columns(found, schema, key):
            spark.conf.set("spark.sql.parquet.enableVectorizedReader", "false")  # no option of one reader says so
    # Corrupt files are skipped for the schema alone: the scan must never lose their rows silently.
    rows = spark.read.format(source.format).options(**options, **marks).schema(schema).load(paths)
    return OpenedSource(rows, found if len(found) > 1 else {})


def _given_fields(text: str, key: str) -> StructType:
    """Return the fields of JSON files that the configuration gives. Raises InputError where Spark cannot read them."""
    try:
        fields = StructType.fromDDL(text)
    except ParseException:
        fields = None
    if not isinstance(fields, StructType):  # "string" alone is a type
        raise InputError(
            f"{key}.json_fields: Spark cannot read it. Write a name and a type for each field, such as user_id string, "
            "at string. Then run the command again."
        )
    return fields


def _partition_columns(spark: SparkSession, df: DataFrame) -> set[str]:
    """Return the columns of a loaded source that its folder names give (store=007)."""
    plan: Any = df._jdf.queryExecution().analyzed()
    gateway = spark.sparkContext._gateway
    if not is_instance_of(gateway, plan, _RELATION_PLAN) or not is_instance_of(gateway, plan.relation(), _FILES):
        return set()
    return set(StructType.fromJson(json.loads(plan.relation().partitionSchema().json())).names)


def reader_options(source: SourceSettings) -> dict[str, Any]:
    """Return the options of Spark's reader: those of the configuration over the format's defaults."""
    given = {"multiLine" if name.lower() == "multiline" else name: value for name, value in source.options.items()}
    defaults = dict(_DEFAULT_OPTIONS.get(source.format.lower(), {}))
    if source.format.lower() == "json" and source.names_encoding:
        defaults["lineSep"] = "\n"  # Spark detects line ends in UTF-8 alone
    return {**defaults, **given}


def _is_never_empty(source: SourceSettings, df: DataFrame) -> bool:
    """Whether every valid file of the format has bytes, because it has a footer or a header."""
    has_header = str(reader_options(source).get("header")).lower() == "true"
    return source.format.lower() in ("parquet", "orc") or (
        source.format.lower() == "csv" and has_header and bool(df.columns)
    )


def _refuse_files_of_zero_bytes(spark: SparkSession, df: DataFrame, key: str, excluded: Sequence[str]) -> None:
    """Raise BadFile for a file of zero bytes: its export failed, and Spark would skip it silently."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    for name in set(df.inputFiles()) - set(excluded):
        path = hadoop_path(spark, name)
        if path.getFileSystem(conf).getFileStatus(path).getLen() == 0:
            raise BadFile(
                f"{key}.path: {name} has zero bytes, so its export failed. Write it again or take it out "
                "of the folder, then run the command again.",
                name,
            )
