"""Detects text files that are not in UTF-8 although the configuration names no character set.

Chinese tables are often in GB18030, Western ones in Windows-1252. Read as UTF-8, all their letters outside ASCII
become U+FFFD, and a model would learn from those.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from jobs.config.input_settings import InputSettings
from jobs.sources.expressions import column_named
from jobs.spark.errors import InputError

#: What a reader writes in place of bytes that it cannot decode.
_REPLACEMENT = "\ufffd"
#: Formats whose character set the operator may choose; the others are UTF-8 by definition.
_TEXT_FORMATS = ("csv", "json", "text")
#: Shares of rows with undecoded text: above the first the night warns, above the second it refuses the table.
_WARN_SHARE, _REFUSE_SHARE = 0.01, 0.5
ENCODING_HINT = "options: {encoding: GB18030}, or the character set of the file (Big5, UTF-16, Windows-1252, …)"


def is_undecoded(text: str) -> bool:
    """Whether the text has characters that could not be decoded, or the zero bytes of UTF-16."""
    return _REPLACEMENT in text or "\0" in text


def has_undecoded_text(rows: DataFrame) -> Column:
    """Whether any string column of a row has characters that could not be decoded; never null."""
    texts = [field.name for field in rows.schema.fields if isinstance(field.dataType, StringType)]
    is_undecoded_in = (F.coalesce(F.contains(column_named(name), F.lit(_REPLACEMENT)), F.lit(False)) for name in texts)
    return reduce(or_, is_undecoded_in, F.lit(False))


def refuse_undecoded_text(table: str, source: InputSettings, rows: int, undecoded: int) -> list[str]:
    """Return a warning line if more than a few of the `rows` read have undecoded text, else nothing.

    Raises InputError if most rows have it, the format can be in another character set and no option names one.
    """
    if undecoded <= _WARN_SHARE * rows:
        return []
    what = (
        f"inputs.{table}: {undecoded:,} of the {rows:,} rows of {source.place} have characters that could not be "
        "decoded"
    )
    if source.format.lower() not in _TEXT_FORMATS:
        return [f"{what}: the program that wrote the files lost them"]
    if undecoded > _REFUSE_SHARE * rows and not source.names_encoding:
        raise InputError(
            f"{what}: the file is not in UTF-8. Add to inputs.{table} {ENCODING_HINT}; if the characters are meant, "
            "add encoding: UTF-8. Then run the command again."
        )
    return [f"{what}; if the file is in another character set, name it in inputs.{table}.options: encoding"]
