"""The version of a store's layout: older versions are read with a notice, newer ones are refused.

The first writing command writes the version to `<store>/format.json`. A store without that file has version 1.
"""

from __future__ import annotations

import json

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.store.store import Store

FORMAT = 5
#: What each version changed, for people who query the tables.
_CHANGES = {
    2: "the ledger also stores requests on which the model failed (`failure`); sentiments.label is null below "
    "sentiment.min_confidence, and sentiments has the column `shortened`, which earlier dates lack",
    3: "recommendations has the columns `category`, `price`, `previous_rank`, `changed`, `parts`, "
    "`reasons` and `because`, which earlier dates lack; "
    "purchases_used is a new table; loyalty.p_alive is null for customers with one purchase day; runs.tokens counts "
    "tokens of models only",
    4: "quarantine has keyed hashes of the row's key and of its customer (`user_hash`), and answers has `user_id`; "
    "earlier dates lack both columns. New files are for this user only, unless store_umask says otherwise",
    5: "recommendations.parts has the field `popular`, which earlier dates lack",
}


def check_format(spark: SparkSession, store: Store) -> list[str]:
    """Set the store's layout to this release's version and return one line for each change since its old version.

    Call this under the lock. Raises ConfigurationError for a store of a later release, without changing it.
    """
    found = _format(spark, store)
    if found == FORMAT:
        return []
    if found > FORMAT:
        raise ConfigurationError(
            f"store: {store.root} has layout version {found}, written by a later Regulars; this release knows versions "
            f"up to {FORMAT}. Install the later release again, or set another `store`. Nothing was published."
        )
    is_new = not any(files.exists(spark, f"{store.root}/{room}") for room in ("tables", "ledger"))
    files.write_text(spark, _record(store), json.dumps({"format": FORMAT}))
    if is_new:
        return []
    return [
        f"The store has layout version {found}, of an earlier release, and stays readable. Version {number}: {change}."
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
            f"store: {_record(store)} is damaged. If this release wrote the store, set its content to "
            f'{{"format": {FORMAT}}} and run the command again.'
        ) from None


def _record(store: Store) -> str:
    return f"{store.root}/format.json"
