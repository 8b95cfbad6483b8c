"""Finds rows of text files that are no rows: another number of columns, broken JSON, quotes that are never closed.

Spark fills such rows with nulls or with the values of other columns. They go to `quarantine` as `row_malformed`. A
file that ends inside quotes is refused: its last field may hold any number of rows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs.sources.expressions import column_named
from jobs.spark.errors import BadFile

#: The column of an opened source that is not null in its malformed rows. The mapped rows have it as a boolean.
MALFORMED = "__malformed"
#: Its metadata: the number of columns of the file, and the first of them.
_COLUMNS, _FIRST = "columns", "first"
#: A field that holds this many successive lines of as many columns as the file has swallowed rows.
_SWALLOWED_ROWS = 3
_WIDE_CHARACTERS = re.compile(r"(?i)utf-?(16|32)")


def marking_options(form: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reader's options that mark malformed rows; none for formats other than CSV and JSON.

    A file that is one JSON text is malformed as a whole, so it fails. With an own `mode` or
    `columnNameOfCorruptRecord` Spark treats such rows as the operator says.
    """
    names = {name.lower() for name in options}
    if form.lower() not in ("csv", "json") or names & {"mode", "columnnameofcorruptrecord"}:
        return {}
    if form.lower() == "json" and _is_multi_line(options):
        return {"mode": "FAILFAST"}
    return {"columnNameOfCorruptRecord": MALFORMED}


def with_mark(schema: StructType, partitions: Iterable[str]) -> StructType:
    """Add MALFORMED to the columns of a file; `partitions` are those that folder names give."""
    fields = [field for field in schema.fields if field.name != "_corrupt_record"]
    columns = [field.name for field in fields if field.name not in set(partitions)]
    metadata = {_COLUMNS: len(columns), _FIRST: columns[0]}
    return StructType([*fields, StructField(MALFORMED, StringType(), metadata=metadata)])


def is_marked(rows: DataFrame) -> Column:
    """Whether Spark marked a row of an opened source as malformed; never null.

    It also reads another column of the file, without using its value: Spark refuses to read the mark alone.
    """
    first = F.substring(column_named(rows.schema[MALFORMED].metadata[_FIRST]).cast("string"), 1, 0)
    return F.concat_ws("", F.col(MALFORMED), first) != ""


def is_malformed(rows: DataFrame, form: str, options: Mapping[str, Any]) -> Column:
    """Whether a row of an opened source is malformed, or one of its fields holds the lines of other rows.

    `options` are the reader's. The result is never null. `rows` must have the column MALFORMED.
    """
    marked = is_marked(rows)
    quoting = Quoting.of(form, options)
    columns = rows.schema[MALFORMED].metadata[_COLUMNS]
    if quoting is None or columns < 3:  # lines of two columns are also found in prose
        return marked
    sep = "\\t" if quoting.sep == "\t" else re.escape(quoting.sep)
    line = f"\\n[^\\n{sep}]*(?:{sep}[^\\n{sep}]*){{{columns - 1}}}"
    swallowing = f"(?:{line}){{{_SWALLOWED_ROWS}}}"
    texts = [field.name for field in rows.schema.fields if isinstance(field.dataType, StringType)]
    found = (_is_matched(column_named(name), swallowing) for name in texts if name != MALFORMED)
    return reduce(or_, found, marked)


def refuse_open_quotes(lines: DataFrame, key: str, form: str, options: Mapping[str, Any]) -> None:
    """Raise BadFile for a CSV file that ends inside quotes; the message names the line in which that row begins.

    `lines` are the files as Spark's text reader gives them, `options` those of the CSV reader. The quotes of
    all files are counted in one job. Only a file with an odd number is read again, line by line.
    """
    quoting = Quoting.of(form, options)
    if quoting is None:
        return
    quotes = quoting.quotes_in(F.col("value"))
    file = lines.metadataColumn("_metadata").getField("file_path")
    odd = lines.groupBy(file.alias("file")).agg(F.sum(quotes).alias("quotes")).where("quotes % 2 = 1")
    for row in odd.orderBy("file").collect():
        found = (line.value for line in lines.where(file == row.file).select("value").toLocalIterator())
        number = line_of_open_quotes(found, quoting.sep, quoting.quote, quoting.escape)
        if number is not None:
            raise BadFile(
                f"{key}: {unquote(row.file)} ends inside quotes: the row of line {number:,} begins them and none close "
                "them, so later lines are no rows. Write the file again with each quote inside a field doubled. If its "
                "quotes are plain characters, write options: {quote: ''}. Then run the command again.",
                row.file,
            )


def line_of_open_quotes(lines: Iterable[str], sep: str, quote: str, escape: str) -> int | None:
    """Return the number (from 1) of the line in which the last row begins, if the lines end inside its quotes."""
    is_over = False

    def endless() -> Iterator[str]:
        nonlocal is_over
        yield from (f"{line}\n" for line in lines)
        is_over = True

    doubled = escape == quote
    reader = csv.reader(
        endless(), delimiter=sep, quotechar=quote, doublequote=doubled, escapechar=None if doubled else escape
    )
    begins = 1
    try:
        for _ in reader:
            if is_over:  # the reader asked for one more line and then gave up
                return begins
            begins = reader.line_num + 1
    except csv.Error:  # a field beyond the reader's limit of characters
        return begins
    return None


class Quoting:
    """How the fields of a CSV file are separated and quoted."""

    def __init__(self, sep: str, quote: str, escape: str) -> None:
        self.sep, self.quote, self.escape = sep, quote, escape

    @classmethod
    def of(cls, form: str, options: Mapping[str, Any]) -> Quoting | None:
        """Return the quoting that the reader's options give; None where no field can hold a line break."""
        given = {name.lower(): str(value) for name, value in options.items()}
        sep = given.get("sep", given.get("delimiter", ",")).replace("\\t", "\t")
        quote, escape = given.get("quote", '"'), given.get("escape", "\\")
        encoding = given.get("encoding", given.get("charset", ""))
        if form.lower() != "csv" or not _is_multi_line(options):
            return None
        if len(sep) != 1 or len(quote) != 1 or len(escape) != 1 or _WIDE_CHARACTERS.match(encoding):
            return None
        return cls(sep, quote, escape)

    def quotes_in(self, text: Column) -> Column:
        """Return the number of quotes in a text that are not escaped."""
        if self.escape != self.quote:
            text = F.regexp_replace(text, re.escape(self.escape) + ".", "")
        return F.length(text) - F.length(F.replace(text, F.lit(self.quote), F.lit("")))


def _is_multi_line(options: Mapping[str, Any]) -> bool:
    return any(name.lower() == "multiline" and str(value).lower() == "true" for name, value in options.items())


def _is_matched(text: Column, pattern: str) -> Column:
    """Whether the text has the pattern; texts without a line break are not searched."""
    return F.coalesce(F.when(F.contains(text, F.lit("\n")), text.rlike(pattern)), F.lit(False))
