"""Prints the data dictionary as a page: `python -m schemas > schemas/README.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from schemas import INPUTS, OUTPUTS, Column, Contract, contract

_HEAD = """\
# schemas: the data dictionary

`python -m schemas > schemas/README.md` writes this page from the contracts; a test compares the two.

Each table has one file here, named after it, with its contract: the grain (what one row means), the key, the columns
and the rules. The jobs enforce the contracts: every input row is checked when it is read, every output table before it
is published. This package imports neither Spark nor any other package of Regulars.

* An **input** comes from the source that `inputs.<table>` of `regulars.yaml` names. A needed column must exist in the
  source or be mapped; other columns may be missing. Rows that break a rule go to `quarantine`, and the night goes on.
* An **output** is Parquet below `<store>/tables/<table>/run_date=YYYY-MM-DD/`. A table that breaks its contract is
  never published.
* Types are Spark SQL types. Timestamps are instants; dates begin and end in the shop's time zone.
* To add a column, add it to the table's contract with a `doc`, compute it in `jobs/tables/<table>.py` (an input needs
  no code), and write this page again.
"""


def page() -> str:
    """Return the whole page in Markdown: an overview of all tables, then each contract."""
    overview = [[f"[`{t}`](#{t})", contract(t).grain, "input" if t in INPUTS else "output"] for t in INPUTS + OUTPUTS]
    parts = [_HEAD, _grid(("table", "one row is", ""), overview)]
    parts += ["## Inputs\n", *(_input(contract(table)) for table in INPUTS)]
    parts += ["## Outputs\n", *(_output(contract(table)) for table in OUTPUTS)]
    return "\n".join(parts)


def _input(table: Contract) -> str:
    rows = [[f"`{c.name}`", f"`{c.type}`", _need(c), c.doc] for c in table.columns]
    if table.further_columns != "none":
        which = "any other" if table.further_columns == "all" else "any other that is mapped"
        rows.append([which, "that of the source", "no; may be null", "kept for rules and reports"])
    return _section(table, _grid(("column", "type", "needed", "meaning"), rows))


def _output(table: Contract) -> str:
    rows = [[f"`{c.name}`", f"`{c.type}`", "yes" if c.nullable else "no", c.doc] for c in table.columns]
    return _section(table, _grid(("column", "type", "may be null", "meaning"), rows))


def _need(column: Column) -> str:
    if column.default is not None:
        return f"no; default `{column.default}`"
    if column.must_exist and column.nullable:
        return "yes; may be null"
    return "no; may be null" if column.nullable else "yes"


def _section(table: Contract, columns: str) -> str:
    lines = [f"### {table.table}\n", (import_module(f"schemas.{table.table}").__doc__ or "").strip() + "\n"]
    lines.append(f"* Key: {_names(table.key) or 'none; equal rows may repeat'}")
    if table.partition_by:
        lines.append(f"* Partition: {_names(table.partition_by)}, in the folder name only")
    if table.time_column:
        lines.append(f"* Time: `{table.time_column}`; a run_date sees the rows before its end")
    lines += ["", columns]
    rules = [f"* `{rule.name}`: `{rule.expression}`" for rule in table.rules]
    rules += [f"* `{r.column}` refers to `{r.table}.{r.references}`" for r in table.relations]
    if rules:
        lines += ["Rules:\n", *rules, ""]
    return "\n".join(lines)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
