"""The classes of a table contract: plain data that the jobs enforce on every read and before every write.

This package needs no Spark: types are Spark DDL strings and rules are Spark SQL text. The data dictionary can
therefore be read, tested and printed without a JVM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FurtherColumns = Literal["none", "mapped", "all"]


@dataclass(frozen=True)
class Column:
    """One column: `type` is a Spark DDL type, `default` a SQL literal for rows in which the source has no value.

    A row of an input whose value cannot be read keeps null in a nullable column, else the literal `if_unreadable`; it
    is rejected where there is neither. A source must have a column that `must_exist`, though its rows may be null.
    """

    name: str
    type: str
    nullable: bool = False
    default: str | None = None
    doc: str = ""
    if_unreadable: str | None = None
    must_exist: bool = False

    @property
    def is_optional(self) -> bool:
        """Whether a row stays if its value of the column cannot be read."""
        return self.nullable or self.if_unreadable is not None


@dataclass(frozen=True)
class Rule:
    """A row rule: `expression` is Spark SQL that is true for a valid row; null counts as broken.

    A broken rule rejects the row. If the rule names an optional `column`, that value alone is left out.
    """

    name: str
    expression: str
    message: str
    column: str | None = None


@dataclass(frozen=True)
class Relation:
    """A foreign key: every value of `column` that is not null exists in `table`.`references`."""

    column: str
    table: str
    references: str


@dataclass(frozen=True)
class Contract:
    """The contract of a table: what one row means (`grain`), what identifies it (`key`), and its columns and rules.

    An empty `key` means that equal rows may repeat. `time_column` is the time of the row: a run_date sees the rows
    before its end, and the newest of several rows with one key counts. Columns in `partition_by` are in the folder
    names only, not in `columns`. `further_columns` says which other columns of its source a table keeps, in their own
    types: none, those that the configuration maps, or all.
    """

    table: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    relations: tuple[Relation, ...] = ()
    time_column: str | None = None
    partition_by: tuple[str, ...] = ()
    further_columns: FurtherColumns = "none"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which they are written."""
        return tuple(column.name for column in self.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a source must have: not nullable and without a default, and those that must exist."""
        return tuple(c.name for c in self.columns if c.must_exist or (not c.nullable and c.default is None))

    @property
    def sort_columns(self) -> tuple[str, ...]:
        """The columns that order the rows totally: the key, or all columns if rows may repeat."""
        return self.key or self.column_names

    def column(self, name: str) -> Column:
        """Return the column called `name`; raise KeyError with the table and its columns if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.table} has no column {name}; it has {', '.join(self.column_names)}")
