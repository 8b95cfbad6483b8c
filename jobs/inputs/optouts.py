"""Leaves out the rows of customers who opted out, and stops where the list of opt-outs cannot be right.

An export that breaks off, or ids that are written in another way, would void every opt-out without a word. So a list
without customers, or whose customers are in no other table, ends the command unless `allow_empty` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import InputSettings
from jobs.config.settings import Config
from jobs.inputs.row_accounting import OPTED_OUT, ReadTable
from jobs.spark.errors import InputError

TABLE = "optouts"
_ALLOW = "If that is right, set inputs.optouts.allow_empty: true. Then run the command again."


def mark_opted_out(rows: DataFrame, tables: Mapping[str, ReadTable]) -> DataFrame:
    """Add OPTED_OUT, which is not null in the rows of customers who opted out."""
    if TABLE not in tables or "user_id" not in rows.columns:
        return rows.withColumn(OPTED_OUT, F.lit(None).cast("string"))
    opted_out = tables[TABLE].used.select(F.col("user_id").alias(OPTED_OUT))
    return rows.join(opted_out, on=F.col("user_id") == F.col(OPTED_OUT), how="left")


def matched_ids() -> Column:
    """Return the aggregate `matched`: numbers of the opted-out ids of marked rows, for `keyed_numbers`."""
    return F.collect_set(F.when(F.col(OPTED_OUT).isNotNull(), id_number(OPTED_OUT))).alias("matched")


def id_number(name: str) -> Column:
    """Return a number of each id in a column. Guesses of ids can be compared with it, so it is never kept."""
    return F.xxhash64(name)


def keyed_numbers(numbers: Iterable[int], keyed: Callable[[str], str]) -> frozenset[str]:
    """Return the keyed hashes of numbers of ids, which may be kept; `keyed` hashes a text."""
    return frozenset(keyed(str(number)) for number in numbers)


def refuse_empty_optouts(source: InputSettings, read: ReadTable) -> None:
    """Raise InputError where the list has no customer and `allow_empty` is not set."""
    if read.account.used or source.allow_empty:
        return
    found = "has no rows" if not read.account.read else f"has no customer in its rows ({read.account})"
    raise InputError(
        f"inputs.optouts: {source.place} {found}. Customers who opted out would get lists, so the command stops. Give "
        f"the complete list. {_ALLOW}"
    )


def check_matches(config: Config, wanted: Collection[str], tables: Mapping[str, ReadTable]) -> list[str]:
    """Return a note of how many opted-out customers no other table has.

    Raises InputError where no table has any of them, unless `allow_empty` is set. A command that reads only some of
    the tables with customers compares nothing.
    """
    if TABLE not in tables:
        return []
    others = [t for t in config.inputs if t != TABLE and "user_id" in schemas.contract(t).column_names]
    if not set(others) <= set(wanted):
        return []
    listed, source = tables[TABLE].account.used, config.inputs[TABLE]
    matched = len(frozenset().union(*(tables[table].opted_out_ids for table in others if table in tables)))
    if listed and not matched and not source.allow_empty:
        raise InputError(
            f"inputs.optouts: none of the {listed:,} customers of {source.place} is in {', '.join(others)}, so their "
            "ids are probably written in another way. Customers who opted out would get lists, so the command stops. "
            f"Correct inputs.optouts.columns.user_id or the file. {_ALLOW}"
        )
    missing = listed - matched
    return [f"inputs.optouts: {missing:,} of {listed:,} customers are in no other input table"] if missing else []
