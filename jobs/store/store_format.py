"""The form of a store's files: one of an earlier release is read as it is and said to be so, one of a later is refused.

`<store>/format.json` says it, written by the first command that writes. Stores without it are of form 1.
"""

from __future__ import annotations

import json

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.store.store import Store

FORMAT = 2
#: What each form changed, for whoever queries the tables.
_CHANGES = {
    2: "the ledger also keeps what the models failed on (`failure`); sentiments.label may be null, where "
    "sentiment.min_confidence withholds it, and sentiments has the column `shortened`: dates before have none",
}


def check_format(spark: SparkSession, store: Store) -> list[str]:
    """Note that the store is of today's form from now on, and return what changed since its own, one line each.

    Call it under the lock. Raises ConfigurationError for a store of a later release, before anything is changed.
    """
    found = _format(spark, store)
    if found == FORMAT:
        return []
    if found > FORMAT:
        raise ConfigurationError(
            f"store: {store.root} is of form {found}, written by a later Regulars; this one knows forms up to {FORMAT}."
            " Install the later one again, or set another `store`. Nothing was published."
        )
    is_new = not any(files.exists(spark, f"{store.root}/{room}") for room in ("tables", "ledger"))
    files.write_text(spark, _record(store), json.dumps({"format": FORMAT}))
    if is_new:
        return []
    return [
        f"The store is of form {found}, of an earlier release; it is read as it is. Since form {number}: {change}."
        for number, change in _CHANGES.items()
        if number > found
    ]


def _format(spark: SparkSession, store: Store) -> int:
    try:
        return int(json.loads(files.read_text(spark, _record(store)))["format"])
    except FileNotFoundError:
        return 1
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f'store: {_record(store)} is not what Regulars writes there. Make it {{"format": {FORMAT}}} if this release'
            " wrote the store, and run the command again."
        ) from None


def _record(store: Store) -> str:
    return f"{store.root}/format.json"
