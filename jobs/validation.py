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
from jobs.contracts import is_true
from jobs.errors import InputError

#: Name of the column with the first broken rule; null in right rows.
RULE = "__rule"

#: Space of any kind around ids, with the marks that files and spreadsheets leave there.
_SPACE = " \t\r\n\f\v\u00a0\u3000\u200b\ufeff"
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
    """Replace `columns` by their values in the contract's types and add RULE; further columns pass through.

    Raises InputError where a source column is of a type that cannot be read as the contract's.
    """
    types = {field.name: field.dataType for field in raw.schema.fields}
    for column in columns:
        _refuse_unreadable(table, column, types[column.name])
    broken = [F.when(_is_unparsable(c, types[c.name]), F.lit(f"{c.name}_unparsable")) for c in columns]
    typed = raw.select(
        *(_typed(column, types[column.name]).alias(column.name) for column in columns),
        F.coalesce(*broken).alias(RULE),
        *(name for name in raw.columns if name not in {column.name for column in columns}),
    )
    missing = [F.when(F.col(c.name).isNull(), F.lit(f"{c.name}_not_null")) for c in columns if not c.nullable]
    rules = schemas.contract(table).rules
    violated = [F.when(~is_true(rule.expression), F.lit(rule.name)) for rule in rules]
    return typed.withColumn(RULE, F.coalesce(F.col(RULE), *missing, *violated))


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
    return F.when(_is_blank(column, found), F.expr(column.default).cast(column.type)).otherwise(value)


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
    clean = F.make_valid_utf8(text)
    clean = F.when(F.contains(clean, F.lit("\0")), F.translate(clean, "\0", "")).otherwise(clean)
    if not is_id:
        return clean
    trimmed = F.btrim(clean, F.lit(_SPACE))
    return F.when(trimmed != "", trimmed)


def _is_blank(column: schemas.Column, found: DataType) -> Column:
    """The source gives nothing: null, NaN, or (where the contract wants no text) an empty text."""
    raw = F.col(column.name)
    if isinstance(found, StringType) and column.type != "string":
        return raw.isNull() | (F.btrim(raw, F.lit(_SPACE)) == "")
    if found.typeName() in ("float", "double"):
        return raw.isNull() | F.isnan(raw)
    return raw.isNull()


def _is_unparsable(column: schemas.Column, found: DataType) -> Column:
    if column.type == "string":
        return F.lit(False)
    return ~_is_blank(column, found) & _cast(column, found).isNull()
