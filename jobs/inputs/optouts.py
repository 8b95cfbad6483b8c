"""Leaves out the rows of customers who opted out, and stops where the list of opt-outs cannot be right.

An export that breaks off, or ids that are written in another way, would void every opt-out without a word. So a list
without customers, whose customers are in no other table, or whose ids other tables write in another way, ends the
command unless `allow_empty` is set.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import reduce
from itertools import islice

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import InputSettings
from jobs.config.settings import Config
from jobs.inputs.row_accounting import OPTED_OUT, ReadTable
from jobs.inputs.validation import ROW_MALFORMED
from jobs.spark.errors import InputError

TABLE = "optouts"
#: The most unmatched ids whose other spellings are looked for, and digits to which zeros are put before a number.
_MOST_SPELLED, _MOST_DIGITS = 10_000, 15
#: Characters of ASCII by their full-width forms, which Chinese and Japanese keyboards write.
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
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


def refuse_broken_optouts(source: InputSettings, read: ReadTable) -> None:
    """Raise InputError where a row cannot be read. Without `allow_empty` also where one has no id, or none has."""
    broken = read.rejected_by_rule.get(ROW_MALFORMED, 0)
    if broken:
        raise InputError(
            f"inputs.optouts: rows of {source.place} cannot be read ({broken:,}). Their customers would get lists, so "
            "the command stops. Give them the columns and quotes of the other rows, then run the command again."
        )
    if source.allow_empty:
        return
    found = f"has no customer in its rows ({read.account})" if read.account.read else "has no rows"
    if not read.account.used:
        raise InputError(
            f"inputs.optouts: {source.place} {found}. Customers who opted out would get lists, so the command stops. "
            f"Give the complete list. {_ALLOW}"
        )
    if read.account.quarantined:
        raise InputError(
            f"inputs.optouts: {read.account.quarantined:,} of {read.account.read:,} rows of {source.place} have no "
            "user_id. Their customers would get lists, so the command stops. Correct inputs.optouts.columns.user_id, "
            "or leave the rows out by inputs.optouts.where. Then run the command again."
        )


def check_matches(
    config: Config,
    wanted: Collection[str],
    tables: Mapping[str, ReadTable],
    keyed: Callable[[str], str],
    pseudonym: Callable[[Column], Column] | None = None,
    *,
    is_same_list: bool = False,
) -> list[str]:
    """Return a note of how many opted-out customers no other table has.

    `keyed` hashes a text as the tables' `opted_out_ids` are hashed; `pseudonym` is what replaced the ids of their rows.
    With `is_same_list`, an earlier night checked this list: only customers with new rows are compared again.
    Raises InputError where no table has any of them, or one has an id of them in another spelling, unless `allow_empty`
    is set. A command that reads only some of the tables with customers compares nothing.
    """
    if TABLE not in tables:
        return []
    others = [t for t in config.inputs if t != TABLE and "user_id" in schemas.contract(t).column_names]
    if not set(others) <= set(wanted):
        return []
    listed, source = tables[TABLE].account.used, config.inputs[TABLE]
    matched = frozenset().union(*(tables[table].opted_out_ids for table in others if table in tables))
    missing = listed - len(matched)
    if not missing or source.allow_empty:
        return [_note(missing, listed)] if missing else []
    if not matched:
        raise InputError(
            f"inputs.optouts: none of the {listed:,} customers of {source.place} is in {', '.join(others)}, so their "
            "ids are probably written in another way. Customers who opted out would get lists, so the command stops. "
            f"Correct inputs.optouts.columns.user_id or the file. {_ALLOW}"
        )
    spellings = _other_spellings(tables[TABLE].used, matched, keyed)
    read = [tables[table] for table in others if table in tables]
    rows = [(one.changed if is_same_list and one.changed is not None else one.used).select("user_id") for one in read]
    if similar := _customers_with(rows, spellings, pseudonym):
        raise InputError(
            f"inputs.optouts: {missing:,} of {listed:,} customers of {source.place} are in no other input table, and "
            f"ids in {', '.join(others)} ({similar:,}) differ from theirs only in case, width, quotes, zeros or .0. "
            "These customers would get lists, so the command stops. Write the ids as the other tables do, for "
            f"example by inputs.optouts.columns.user_id. {_ALLOW}"
        )
    return [_note(missing, listed)]


def _note(missing: int, listed: int) -> str:
    return f"inputs.optouts: {missing:,} of {listed:,} customers are in no other input table"


def _other_spellings(opted_out: DataFrame, matched: Collection[str], keyed: Callable[[str], str]) -> list[str]:
    """Return other spellings of the ids that no table has; of the first ones, where they are very many."""
    numbered = opted_out.select("user_id", id_number("user_id").alias("number")).toLocalIterator()
    unmatched = (row["user_id"] for row in numbered if keyed(str(row["number"])) not in matched)
    return sorted({spelling for one in islice(unmatched, _MOST_SPELLED) for spelling in other_spellings(one)})


def other_spellings(user_id: str) -> frozenset[str]:
    """Return how other programs write the same id: spreadsheets drop zeros and quotes, keyboards write full width."""

    def plain() -> Iterator[str]:
        text = unicodedata.normalize("NFKC", user_id).strip(" '\"`")
        yield from (text, text.lower(), text.upper())
        number = re.fullmatch(r"(\d+)(?:\.0+)?", text.replace(",", "")) if text.isascii() else None
        digits = number[1] if number else None
        if re.fullmatch(r"\d(\.\d+)?[eE]\+?\d{1,2}", text):
            digits = f"{Decimal(text):.0f}"
        if digits:
            bare = digits.lstrip("0") or "0"
            yield from (bare.zfill(length) for length in range(len(bare), _MOST_DIGITS + 1))
            yield from (digits, f"{digits}.0", f"{bare}.0")

    found = set(plain())
    return frozenset(found | {one.translate(_FULL_WIDTH) for one in found}) - {user_id, ""}


def _customers_with(
    rows: Collection[DataFrame], ids: Collection[str], pseudonym: Callable[[Column], Column] | None
) -> int:
    """Count the customers of tables who have one of the ids, or its pseudonym."""
    if not ids or not rows:
        return 0
    customers = reduce(DataFrame.union, rows)
    wanted = customers.sparkSession.createDataFrame([(one,) for one in ids], "user_id string")
    if pseudonym is not None:
        wanted = wanted.select(pseudonym(F.col("user_id")).alias("user_id"))
    return customers.join(wanted, on="user_id", how="left_semi").distinct().count()
