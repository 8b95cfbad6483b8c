"""Prints the manual of the configuration file as a page: `python -m jobs.config > jobs/config/README.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.config.settings import Config

_HEAD = """\
# The configuration file

`python -m jobs.config > jobs/config/README.md` writes the tables of this page from `jobs/config/settings.py`; a test
compares the two.

One YAML file, `regulars.yaml`, configures every command; `--config FILE` names another one. The smallest file:

```yaml
store: ./store
timezone: Europe/London
inputs:
  purchases: {path: data/purchases}
  items: {path: data/items}
```

**Paths.** Relative paths are relative to the folder of the file. URIs with a scheme (`hdfs://host/x`, `s3a://bucket/x`)
stay as they are. A name without `/` under `models` or `train.*.init` is a hub id such as `gpt2`, unless such a folder
exists; `hf://org/name` always is a hub id.

**One key for one run.** `--set a.b=c` overrides one key and can be repeated: `--set recommend.k=20`. The value is YAML.
Relative paths in it are relative to the file, too.

**Mistakes.** Unknown keys and wrong types are errors: one message names those of all sections, with exit code 2.
Messages never show values, which may be passwords.

**Columns.** `inputs.<table>.columns` maps each column of the contract (`schemas/README.md`) to a column of the source
or to a Spark SQL expression over the columns of the source:

```yaml
# in an input
columns:
  user_id: CustomerID
  purchased_at: "to_timestamp(InvoiceDate, 'd/M/yyyy H:mm')"
  available: true
```

A name that is a column of the source is that column, whatever characters it has; any other text is SQL. A cast that
fails gives null, and the row goes to `quarantine`. An expression that raises an error ends the night; use the `try_`
form of the function. `inputs.<table>.where` is a condition in the same language: rows for which it is not true are
dropped before anything is counted.

**Sources.** Each input names exactly one place of its rows:

| key | place |
|---|---|
| `path` | files of any format that Spark reads; the folder of a Delta or Iceberg table is recognised |
| `table` | a table of the session's catalog; the section `spark` configures catalogs |
| `query` | a SELECT in Spark SQL over the section `sources` and the catalog |
| `jdbc` | a table or a query of a database |

The section `sources` names tables once, each a `path`, `table` or `jdbc`. [Sources](../inputs/README.md#sources) has
an example. A Delta or Iceberg table is read at its newest version, or at `version`. `runs` records the version, and
`--versions own` reads it again. Tables with deletion vectors, row deletes or column mapping are refused, and so are
folders of Hudi: their Parquet files hold deleted rows too.

**The date of the night.** `{run_date}` stands for the date of the night in `path`, `where`, `query` and `jdbc.query`:

| text | on 2026-03-01 |
|---|---|
| `data/items/{run_date}` | `data/items/2026-03-01` |
| `data/{run_date:%Y/%m/%d}` | `data/2026/03/01` |
| `day >= '{run_date-730d}'` | `day >= '2024-03-01'` |
| `day >= {run_date-730d}` | `day >= DATE '2024-03-01'` |
| `day <= {run_date:%Y%m%d}` | `day <= 20260301` |

Formats have `%Y`, `%y`, `%m`, `%d` and `%j`. Other text in braces is an error, except `{a,b}` in a path.

`{run_date}` in `inputs.items.path` gives each date its own catalogue. Earlier snapshots then give the titles of
products that left the catalogue; the format must sort by date, as `%Y-%m-%d` does. Without snapshots, map
`inputs.purchases.columns.title` for the same purpose.

**Special characters.** A path is a glob: `*`, `?`, `[ab]` and `{a,b}`. A file of exactly that name comes first. A
backslash before a special character takes it literally. The part of a path that comes from the folder of
`regulars.yaml` is literal. In YAML a value that begins with a backquote, `{`, `[`, `*`, `&`, `!` or `%` must be in
double quotes.

Columns of partition folders are text: `store=007` gives `007`.

**What expressions can do.** An expression runs with the rights of the night. It may use every SQL function of Spark.
Its subqueries may read any file or table that Spark can read: ``(SELECT max(value) FROM text.`/etc/hostname`)``.
Whoever may write `regulars.yaml` can therefore read those files; protect the file like code. Expressions that
call Java (`reflect`, `java_method`, `try_reflect`) or run a program (`TRANSFORM ... USING`) are refused, also in
subqueries and under quoted names.

"""
_TYPE_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
_BOUND_WORDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def page() -> str:
    """Return the whole page in Markdown: the introduction, then one table of keys per section of the file."""
    schema = Config.model_json_schema()
    return _HEAD + "\n".join(_sections("", schema, schema["$defs"])).rstrip() + "\n"


def _sections(key: str, section: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """Describe a section and, after it, the sections that it contains; `key` is its place in the file."""
    keys, inner = [], []
    for name, value in section["properties"].items():
        place = f"{key}.{name}" if key else name
        if "$ref" in value:
            inner.append((place, value["$ref"]))
            continue
        if reference := next((one["$ref"] for one in value.get("anyOf", ()) if "$ref" in one), None):
            inner.append((place, reference))
            continue
        if "$ref" in value.get("items", {}):
            inner.append((f"{place}[]", value["items"]["$ref"]))
        if "$ref" in (values := value.get("additionalProperties") or {}):
            inner.append((f"{place}.<{'table' if place == 'inputs' else 'name'}>", values["$ref"]))
        default = "required" if name in section.get("required", ()) else _default(value["default"])
        keys.append(f"| `{place}` | {_type(value)} | {default} | {value['description']} |")
    yield f"## {f'`{key}`' if key else 'Top level'}\n\n{section['description']}\n"
    if keys:
        yield "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *keys, ""])
    for place, reference in inner:
        yield from _sections(place, definitions[reference.rpartition("/")[2]], definitions)


def _default(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _type(value: Mapping[str, Any]) -> str:
    """Say in words which values a key accepts, from its JSON schema."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(one) for one in value["anyOf"] if one.get("type") != "null"))
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if value.get("format") == "date":
        return "date"
    if value.get("type") == "array":
        return "list" if "$ref" in value["items"] else f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        return "mapping"
    bounds = [f"{words} {value[bound]}" for bound, words in _BOUND_WORDS.items() if bound in value]
    return ", ".join([_TYPE_WORDS[value["type"]], *bounds])


if __name__ == "__main__":
    sys.stdout.write(page())
