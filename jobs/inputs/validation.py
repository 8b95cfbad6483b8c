"""Row validation: raw values to the contract's types, and the first rule that a row breaks.

A dirty row never ends a night: every cast gives null where it fails, and the row goes to `quarantine` with a rule's
name, never with the value (it may be personal data).
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
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
from jobs.spark.contracts import is_true
from jobs.spark.errors import InputError

#: Name of the column with the first broken rule; null in right rows.
RULE = "__rule"

#: Space of any kind around ids, with the marks that files and spreadsheets leave there.
_SPACE = "".join(map(chr, (*range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C)))) + (
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
#: Only texts that start with a date are times: Spark would read 08:26 as today's.
_DATE = r"^\s*\d{4}-\d{1,2}-\d{1,2}"

_READABLE: dict[str, tuple[type[DataType], ...]] = {
    "string": (AtomicType,),
    "int": (StringType, NumericType),
    "decimal(12,2)": (StringType, NumericType),
    "boolean": (StringType, BooleanType, IntegralType),
    "timestamp": (StringType, TimestampType, TimestampNTZType, DateType),
}
_HINTS = {
    ("timestamp", NumericType): "say what it counts: timestamp_seconds(...) or timestamp_millis(...)",
}


def validated(raw: DataFrame, table: str, columns: Sequence[schemas.Column]) -> DataFrame:
    """Replace `columns` by their values in the contract's types, and add RULE.

    Columns of `raw` beyond `columns` pass through; the raw values of the key are kept under `raw_name`. Raises
    InputError where a source column is of a type that cannot be read as the contract's.
    """
    types = {field.name: field.dataType for field in raw.schema.fields}
    for column in columns:
        _refuse_unreadable(table, column, types[column.name])
    names = [column.name for column in columns]
    contract = schemas.contract(table)
    # Values are made in one projection and judged in the next, so that Spark computes each of them once.
    typed = raw.select(
        *(_typed(column, types[column.name]).alias(column.name) for column in columns),
        *(F.col(name).alias(raw_name(name)) for name in names),
        *(name for name in raw.columns if name not in names),
    )
    unparsable = [
        F.when(F.col(c.name).isNull() & ~_is_blank(c, types[c.name], raw_name(c.name)), F.lit(f"{c.name}_unparsable"))
        for c in columns
        if c.type != "string"
    ]
    missing = [F.when(F.col(c.name).isNull(), F.lit(f"{c.name}_not_null")) for c in columns if not c.nullable]
    violated = [F.when(~is_true(rule.expression), F.lit(rule.name)) for rule in contract.rules]
    kept = [name for name in typed.columns if name not in {raw_name(n) for n in names if n not in contract.key}]
    return typed.select(*kept, F.coalesce(F.lit(None).cast("string"), *unparsable, *missing, *violated).alias(RULE))


def raw_name(column: str) -> str:
    """Name under which the source's own value of a key column is kept."""
    return f"__raw_{column}"


def details(table: str) -> dict[str, str]:
    """What each rule of the table says of a row that breaks it: column and reason."""
    contract = schemas.contract(table)
    return {
        **{f"{c.name}_unparsable": f"{c.name} cannot be read as {c.type}" for c in contract.columns},
        **{f"{c.name}_not_null": f"{c.name} is null or empty" for c in contract.columns if not c.nullable},
        **{rule.name: rule.message for rule in contract.rules},
        **{unknown(r): f"{r.column} is not in {r.table}" for r in contract.relations},
    }


def unknown(relation: schemas.Relation) -> str:
    """Name of the rule that a relation makes: unknown_item."""
    return f"unknown_{relation.column.removesuffix('_id')}"


def _refuse_unreadable(table: str, column: schemas.Column, found: DataType) -> None:
    if isinstance(found, (NullType, *_READABLE[column.type])):
        return
    hint = next(
        (hint for (target, source), hint in _HINTS.items() if target == column.type and isinstance(found, source)),
        f"write an expression that gives {column.type}",
    )
    raise InputError(
        f"inputs.{table}.columns.{column.name} gives {found.simpleString()}, which cannot be read as {column.type}: "
        f"{hint}, then run the command again."
    )


def _typed(column: schemas.Column, found: DataType) -> Column:
    value = _cast(column, found)
    if column.default is None:
        return value
    default = F.expr(column.default).cast(column.type)
    return F.when(_is_blank(column, found, column.name), default).otherwise(value)


def _cast(column: schemas.Column, found: DataType) -> Column:
    raw = F.col(column.name)
    if column.type == "string":
        return _text(raw.cast("string"), is_id=column.name.endswith("_id"))
    if column.type == "timestamp" and isinstance(found, StringType):
        return F.when(raw.rlike(_DATE), raw.try_cast("timestamp"))
    if column.type == "int" and isinstance(found, StringType):
        number = raw.try_cast("decimal(38,18)")
        return F.coalesce(raw.try_cast("int"), F.when(number == F.floor(number), number.try_cast("int")))
    if column.type == "int" and isinstance(found, FractionalType):
        return F.when(raw == F.floor(raw), raw.try_cast("int"))
    return raw.try_cast(column.type)


def _text(text: Column, is_id: bool) -> Column:
    """Valid UTF-8 without NUL; an id also without space around it, and null where nothing is left."""
    clean = F.replace(F.make_valid_utf8(text), F.lit("\0"))
    return F.nullif(F.btrim(clean, F.lit(_SPACE)), F.lit("")) if is_id else clean


def _is_blank(column: schemas.Column, found: DataType, name: str) -> Column:
    """The source gives nothing: null, NaN, or (where the contract wants no text) an empty text."""
    raw = F.col(name)
    if isinstance(found, StringType) and column.type != "string":
        return raw.isNull() | (F.btrim(raw, F.lit(_SPACE)) == "")
    if found.typeName() in ("float", "double"):
        return raw.isNull() | F.isnan(raw)
    return raw.isNull()
