"""Validates rows: casts raw values to the contract's types and finds the first rule that a row breaks.

A dirty row never ends a night: a failed cast gives null, and the row goes to `quarantine`. Quarantine names the rule
but never the value, which may be personal data. A row stays without an optional value that cannot be read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    AtomicType,
    BooleanType,
    DataType,
    DateType,
    FractionalType,
    IntegralType,
    NullType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

import schemas
from jobs.sources.expressions import column_named
from jobs.sources.malformed_rows import MALFORMED
from jobs.spark.contracts import is_true
from jobs.spark.errors import InputError

#: Name of the column with the first broken rule; null in valid rows.
RULE = "__rule"
#: Columns that are written beside those of an input: the broken rule, and what `quarantine` says of a rejected row.
MARKS = (RULE, "key_hash", "source_file")
#: Name of the column with all rules that a row breaks.
RULES = "__rules"

#: Rule of a row of a text file that cannot be split into its columns.
ROW_MALFORMED = "row_malformed"
_MALFORMED_DETAIL = "the row has another number of columns than its file, is no JSON, or its quotes are never closed"
#: Rule of a return that no earlier purchase covers; `jobs/inputs/returns.py` checks it.
RETURN_UNMATCHED = "return_unmatched"
_RETURN_DETAIL = "quantity is negative, and earlier purchases of the customer do not cover it"

#: White space of every kind, and the invisible marks that files and spreadsheets leave around ids.
_SPACE = "".join(map(chr, (*range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C)))) + (
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
#: Columns whose line breaks and tabs are kept; titles, ids and searches are single lines.
_LONG_TEXTS = ("text", "body", "answer")
_LINE_BREAKS = r"[\t\n\x0B\f\r\x85\u2028\u2029]"
#: A time must start with a date: Spark would read 08:26 as a time of today.
_DATE_START = r"^\s*\d{4}-\d{1,2}-\d{1,2}"

_ACCEPTED_TYPES: dict[str, tuple[type[DataType], ...]] = {
    "string": (AtomicType,),
    "int": (StringType, NumericType),
    "decimal(12,2)": (StringType, NumericType),
    "boolean": (StringType, BooleanType, IntegralType),
    "timestamp": (StringType, TimestampType, TimestampNTZType, DateType),
}
_TYPE_HINTS = {
    ("timestamp", NumericType): "say what it counts: timestamp_seconds(...) or timestamp_millis(...)",
}


def validate_rows(raw: DataFrame, table: str, columns: Sequence[schemas.Column]) -> DataFrame:
    """Cast `columns` to the contract's types and add RULE, the first broken rule or null.

    One boolean column for each of `emptied_rules`, called `emptied(rule)`, says whether the row lost an optional value.
    Other columns of `raw` pass through. The raw values of the key stay under `raw_name`. Raises InputError if a
    source column has a type that cannot be cast to the contract's.
    """
    typed, checks = _typed_and_checks(raw, table, columns)
    not_kept = {raw_name(column.name) for column in columns} - {raw_name(name) for name in schemas.contract(table).key}
    kept = [name for name in typed.columns if name not in not_kept]
    return typed.select(*map(column_named, kept), F.coalesce(F.lit(None).cast("string"), *checks).alias(RULE))


def list_broken_rules(raw: DataFrame, table: str, columns: Sequence[schemas.Column]) -> DataFrame:
    """Return the columns of `raw` beside the contract's, and RULES, an array of all rules that a row breaks.

    Those of `emptied_rules` only empty a value. Raises InputError as `validate_rows` does.
    """
    typed, checks = _typed_and_checks(raw, table, columns)
    checks += [F.when(F.col(emptied(rule)), F.lit(rule)) for rule in emptied_rules(table)]
    others = [name for name in raw.columns if name not in {column.name for column in columns}]
    return typed.select(*others, F.array_compact(F.array(F.lit(None).cast("string"), *checks)).alias(RULES))


def _typed_and_checks(raw: DataFrame, table: str, columns: Sequence[schemas.Column]) -> tuple[DataFrame, list[Column]]:
    """Return the rows in the contract's types, and one column per rule: its name where a row is rejected, or null.

    Optional values that break a rule are left out already, and `emptied(rule)` says so.
    """
    types = {field.name: field.dataType for field in raw.schema.fields}
    for column in columns:
        _refuse_wrong_type(table, column, types[column.name])
    names = [column.name for column in columns]
    # A malformed row may have the values of other columns.
    is_read = ~F.col(MALFORMED) if MALFORMED in raw.columns else F.lit(True)
    # One projection casts and the next one checks, so Spark computes each value once.
    typed = raw.select(
        *(F.when(is_read, _with_default(column, types[column.name])).alias(column.name) for column in columns),
        *(F.col(name).alias(raw_name(name)) for name in names),
        *(_passed_through(name, types[name]) for name in raw.columns if name not in names),
    )
    is_unparsable = {
        f"{c.name}_unparsable": is_read & F.col(c.name).isNull() & ~_is_blank(c, types[c.name], raw_name(c.name))
        for c in columns
        if c.type != "string"
    }
    typed = _without_broken_values(typed, table, is_unparsable)
    unparsable = [F.when(is_broken, F.lit(rule)) for rule, is_broken in is_unparsable.items()]
    missing = [F.when(F.col(c.name).isNull(), F.lit(f"{c.name}_not_null")) for c in columns if not c.nullable]
    rules = (rule for rule in schemas.contract(table).rules if rule.name not in emptied_rules(table))
    violated = [F.when(~is_true(rule.expression), F.lit(rule.name)) for rule in rules]
    return typed, [F.when(~is_read, F.lit(ROW_MALFORMED)), *unparsable, *missing, *violated]


def _without_broken_values(typed: DataFrame, table: str, is_unparsable: dict[str, Column]) -> DataFrame:
    """Leave out the optional values that break a rule, and add `emptied(rule)` for each of `emptied_rules`.

    Takes the rules that it handles out of `is_unparsable`.
    """
    rules = emptied_rules(table)
    by_rule = {rule.name: ~is_true(rule.expression) for rule in schemas.contract(table).rules if rule.name in rules}
    by_rule |= {rule: is_unparsable.pop(rule) for rule in rules if rule in is_unparsable}
    typed = typed.withColumns({emptied(rule): by_rule[rule] for rule in rules})
    values: dict[str, Column] = {}
    for rule, column in rules.items():
        instead = F.lit(None) if column.nullable else F.expr(str(column.if_unreadable))
        value = values.get(column.name, F.col(column.name))
        values[column.name] = F.when(F.col(emptied(rule)), instead.cast(column.type)).otherwise(value)
    return typed.withColumns(values)


def emptied_rules(table: str) -> dict[str, schemas.Column]:
    """Return the rules whose break leaves out one optional value and not the row, each with that value's column."""
    contract = schemas.contract(table)
    unreadable = {f"{c.name}_unparsable": c for c in contract.columns if c.is_optional and c.type != "string"}
    return unreadable | {rule.name: contract.column(rule.column) for rule in contract.rules if rule.column is not None}


def emptied(rule: str) -> str:
    """Return the name of the boolean column that says whether the row lost an optional value by the rule."""
    return f"__emptied_{rule}"


def _passed_through(name: str, found: DataType) -> Column:
    """Return a column that the contract does not name: texts are cleaned, all else is as the source has it."""
    column = column_named(name)
    is_own = name.startswith("__")
    return column if is_own or not isinstance(found, StringType) else _clean_text(column, name).alias(name)


def raw_name(column: str) -> str:
    """Return the name of the column that keeps the source's own value of a key column."""
    return f"__raw_{column}"


def _null_detail(column: schemas.Column) -> str:
    unread = "" if column.type == "string" else ", or the expression of inputs.*.columns cannot read it"
    return f"{column.name} is null or empty{unread}"


def rule_details(table: str) -> dict[str, str]:
    """Describe each rule of the table, by name: the column and why a row breaks the rule, without any value."""
    contract = schemas.contract(table)
    return {
        ROW_MALFORMED: _MALFORMED_DETAIL,
        **{f"{c.name}_unparsable": f"{c.name} cannot be read as {c.type}" for c in contract.columns},
        **{f"{c.name}_not_null": _null_detail(c) for c in contract.columns if not c.nullable},
        **{rule.name: rule.message for rule in contract.rules},
        **{
            unknown_id_rule(r): f"{r.column} is not in {r.table} or an earlier snapshot, and no purchase names it"
            for r in contract.relations
        },
        **({RETURN_UNMATCHED: _RETURN_DETAIL} if table == "purchases" else {}),
    }


def unknown_id_rule(relation: schemas.Relation) -> str:
    """Return the name of the rule that a relation implies, such as unknown_item."""
    return f"unknown_{relation.column.removesuffix('_id')}"


def _refuse_wrong_type(table: str, column: schemas.Column, found: DataType) -> None:
    if isinstance(found, (NullType, *_ACCEPTED_TYPES[column.type])) or _is_path(column, found):
        return
    hint = next(
        (hint for (target, source), hint in _TYPE_HINTS.items() if target == column.type and isinstance(found, source)),
        f"write an expression that gives {column.type}",
    )
    raise InputError(
        f"inputs.{table}.columns.{column.name} gives {found.simpleString()}, which cannot be read as {column.type}: "
        f"{hint}, then run the command again."
    )


def cast_column(raw: DataFrame, table: str, column: schemas.Column) -> Column:
    """Return one column in the contract's type, as `validate_rows` casts it. Raises InputError as that does."""
    found = raw.schema[column.name].dataType
    _refuse_wrong_type(table, column, found)
    return _with_default(column, found)


def _with_default(column: schemas.Column, found: DataType) -> Column:
    value = _cast(column, found)
    if column.default is None:
        return value
    default = F.expr(column.default).cast(column.type)
    return F.when(_is_blank(column, found, column.name), default).otherwise(value)


def _cast(column: schemas.Column, found: DataType) -> Column:
    raw = F.col(column.name)
    if column.name == "category":
        path = F.array_join(raw.cast("array<string>"), ">") if _is_path(column, found) else raw.cast("string")
        return _word(F.regexp_replace(_clean_text(path, column.name), r"\s*>[\s>]*", " > "))
    if column.name == "brand":
        return _word(_clean_text(raw.cast("string"), column.name))
    if column.type == "string" and column.name.endswith("_id") and isinstance(found, FractionalType):
        return _id_of_number(raw, found)
    if column.type == "string":
        return _clean_text(raw.cast("string"), column.name)
    if column.type == "timestamp" and isinstance(found, StringType):
        return F.when(raw.rlike(_DATE_START), raw.try_cast("timestamp"))
    if column.type == "int" and isinstance(found, StringType):
        number = raw.try_cast("decimal(38,18)")
        return F.coalesce(raw.try_cast("int"), F.when(number == F.floor(number), number.try_cast("int")))
    if column.type == "int" and isinstance(found, FractionalType):
        return F.when(raw == F.floor(raw), raw.try_cast("int"))
    return raw.try_cast(column.type)


def _word(text: Column) -> Column:
    """Return the text without white space around it, null if nothing is left: conditions compare it."""
    return F.nullif(F.btrim(text, F.lit(_SPACE)), F.lit(""))


def _is_path(column: schemas.Column, found: DataType) -> bool:
    """Whether the source gives a path of categories as an array."""
    return column.name == "category" and isinstance(found, ArrayType) and isinstance(found.elementType, AtomicType)


def _id_of_number(raw: Column, found: DataType) -> Column:
    """Return a whole number without ".0" and exponent: pandas turns integers into doubles where one id is missing."""
    whole = F.when(raw == F.floor(raw), raw.try_cast("decimal(38,0)")).cast("string")
    text = F.coalesce(whole, raw.cast("string"))
    return F.when(~F.isnan(raw), text) if found.typeName() in ("float", "double") else text


def _clean_text(text: Column, name: str) -> Column:
    """Return valid UTF-8 without control characters, which a terminal would obey.

    Only long texts keep line breaks and tabs. Ids also lose the white space around them; an empty id is null.
    """
    valid = F.make_valid_utf8(text)
    if name in _LONG_TEXTS:
        return F.regexp_replace(valid, r"[\p{Cc}&&[^\t\n\r]]", "")
    clean = F.regexp_replace(F.regexp_replace(valid, _LINE_BREAKS, " "), r"\p{Cc}", "")
    return _word(clean) if name.endswith("_id") else clean


def clean_id(text: str) -> str:
    """Return an id of a text file as `_clean_text` returns one of a table."""
    one_line = re.sub(_LINE_BREAKS, " ", text)
    return "".join(c for c in one_line if unicodedata.category(c) != "Cc").strip(_SPACE)


def _is_blank(column: schemas.Column, found: DataType, name: str) -> Column:
    """Whether the source gives no value: null, NaN or, unless the contract's type is string, an empty text."""
    raw = F.col(name)
    if isinstance(found, StringType) and column.type != "string":
        return raw.isNull() | (F.btrim(raw, F.lit(_SPACE)) == "")
    if found.typeName() in ("float", "double"):
        return raw.isNull() | F.isnan(raw)
    return raw.isNull()
