"""What a table contract is: plain data that the jobs enforce on every read and before every write.

No Spark here: types are Spark DDL strings and rules are Spark SQL text, so that the data dictionary can be
read, tested and printed without a JVM.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: `type` is a Spark DDL type; `default` a SQL literal that stands where the source gives nothing."""

    name: str
    type: str
    nullable: bool = False
    default: str | None = None
    doc: str = ""


@dataclass(frozen=True)
class Rule:
    """A row rule: `expression` is Spark SQL that is true for a right row; null counts as violated."""

    name: str
    expression: str
    message: str


@dataclass(frozen=True)
class Relation:
    """Values of `column`, where not null, exist in `table`.`references`."""

    column: str
    table: str
    references: str


@dataclass(frozen=True)
class Contract:
    """A table: what one row stands for (`grain`), what identifies it (`key`) and what makes it right.

    An empty `key` means that equal rows may repeat. `time_column` is when the row happened: it decides what a
    run_date may see and which of several rows with one key is the newest. Columns in `partition_by` are in the
    directory names only, not in `columns`.
    """

    table: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    relations: tuple[Relation, ...] = ()
    time_column: str | None = None
    partition_by: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in the order in which they are written."""
        return tuple(column.name for column in self.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that a source must give: not nullable and without a default."""
        return tuple(column.name for column in self.columns if not column.nullable and column.default is None)

    @property
    def sort_columns(self) -> tuple[str, ...]:
        """A total order of the rows up to equal ones: the key, or every column where rows may repeat."""
        return self.key or self.column_names

    def column(self, name: str) -> Column:
        """Return the column called `name`; KeyError naming the table if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.table} has no column {name}; it has {', '.join(self.column_names)}")
