"""Text files in another character set than UTF-8: whether one is so, though its configuration does not say it.

Chinese tables are often in GB18030, Western ones in Windows-1252. Read as UTF-8 all their letters but ASCII's become
U+FFFD, and a model would learn from those.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from jobs.config.input_settings import Input
from jobs.spark.errors import InputError

#: What a reader writes for bytes that are no character.
_LOST = "\ufffd"
#: Formats whose character set is the operator's to say; the others are UTF-8 by definition.
_TEXT = ("csv", "json", "text")
#: Shares of the rows: from the first on the operator hears of it, from the second on the table is refused.
_TOLD, _REFUSED = 0.01, 0.5
ENCODING_HINT = (
    "options: {encoding: GB18030}, or whatever character set it is written in (Big5, UTF-16, Windows-1252, …)"
)


def is_lost(text: str) -> bool:
    """Whether it has a character that could not be read, or the zero bytes of UTF-16."""
    return _LOST in text or "\0" in text


def has_lost_text(rows: DataFrame) -> Column:
    """Whether a row has characters in any of its texts that could not be read."""
    texts = [field.name for field in rows.schema.fields if isinstance(field.dataType, StringType)]
    return reduce(or_, (F.coalesce(F.contains(name, F.lit(_LOST)), F.lit(False)) for name in texts), F.lit(False))


def refuse_lost_text(table: str, source: Input, rows: int, lost: int) -> list[str]:
    """A line for the operator where `lost` of the `rows` read are more than a few.

    Raises InputError where they are most, in a format that may be in another character set than it was read in; not
    where its options name one, which then is meant.
    """
    if lost <= _TOLD * rows:
        return []
    what = f"inputs.{table}: {lost:,} of the {rows:,} rows of {source.shown} have characters that could not be read"
    if source.format.lower() not in _TEXT:
        return [f"{what}: whatever wrote them lost them"]
    if lost > _REFUSED * rows and not source.names_encoding:
        raise InputError(
            f"{what}: it is not in UTF-8. Say in inputs.{table} {ENCODING_HINT}; if they are meant to be so, "
            "encoding: UTF-8. Then run the command again."
        )
    return [f"{what}; if it is in another character set, say so in inputs.{table}.options: encoding"]
