"""Maps the first rows of an input, and counts every rule that they break, with masked examples and a remedy.

`regulars doctor --rows N` shows the findings. Nothing is written, and no value is kept: only shapes of values are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.config.input_settings import InputSettings
from jobs.inputs.column_mapping import input_columns, map_columns
from jobs.inputs.validation import ROW_MALFORMED, RULES, emptied_rules, list_broken_rules, rule_details
from jobs.profiling.source_files import quoted_name
from jobs.profiling.time_forms import read_times, time_form
from jobs.profiling.value_forms import (
    ID_SPELLINGS,
    ValueForm,
    boolean_form,
    entity_form,
    id_form,
    mask,
    number_form,
    rating_form,
    same_id,
)
from jobs.sources import schema_drift
from jobs.sources.file_source import refuse_broken_off_files
from jobs.sources.source_errors import translating_errors
from jobs.sources.sources import SOURCE_FILE, open_source

_MAPPED, _SOURCE = "__mapped", "__source"
#: Shapes of values shown for a rule.
_SHOWN = 3
#: Ids of the sample that are looked up in the catalogue.
_IDS = 10_000
#: Rows whose titles are read.
_TITLED = 200_000


@dataclass(frozen=True)
class RowFinding:
    """One broken rule, or one thing that reads without an error but probably wrong, in the sampled rows of an input."""

    table: str
    #: The rule's name; a warning has none of the contract's.
    rule: str
    rows: int
    what: str
    #: Shapes of values: letters as x, digits as 9.
    examples: tuple[str, ...]
    #: A line for `columns` of the configuration, or another remedy; empty where none is known.
    remedy: str = ""
    #: Whether the rows are read all the same.
    is_warning: bool = False


@dataclass(frozen=True)
class SampledInput:
    """The sampled rows of one input: how many were read, how many break a rule, and the findings."""

    table: str
    rows: int
    rejected: int
    findings: tuple[RowFinding, ...]
    #: Distinct texts of each id column, for the comparison of inputs.
    ids: Mapping[str, tuple[str, ...]]


def sample_input(
    spark: SparkSession, table: str, source: InputSettings, limit: int, with_title: bool = False
) -> SampledInput:
    """Map the first `limit` rows of the source and find every rule that each of them breaks.

    Raises InputError if the source is missing or unreadable, or if Spark does not understand the mapping, and BadFile
    for a CSV file that ends inside quotes: all lines are read for that.
    """
    columns = input_columns(table, with_title)
    names = [column.name for column in columns]
    opened = open_source(spark, table, source)
    if not source.max_bad_files:  # else a night leaves such a file out
        with translating_errors(table, source, f"inputs.{table}", scan=True):
            refuse_broken_off_files(spark, source, f"inputs.{table}")
    mapped = map_columns(opened.rows, table, source, with_title)
    sources = _source_columns(opened.rows, table, source, names)
    texts = F.struct(*(F.col(name).cast("string").alias(name) for name in names)).alias(_MAPPED)
    raw = mapped.select(*names, SOURCE_FILE, texts)
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        rows = list_broken_rules(raw.limit(limit), table, columns).select(RULES, _MAPPED).collect()
        originals = _original_values(opened.rows, sources, limit)
    findings = [
        *_broken_rules(table, source, rows, sources, originals),
        *_suspicious_values(table, source, names, rows, sources, originals),
    ]
    ids = {
        name: tuple(dict.fromkeys(row[_MAPPED][name] for row in rows if row[_MAPPED][name] is not None))
        for name in names
        if name in ("user_id", "item_id", "clicked_item_id")
    }
    rejected = sum(bool(set(row[RULES]) - set(emptied_rules(table))) for row in rows)
    return SampledInput(table, len(rows), rejected, tuple(findings), ids)


def unknown_ids(
    spark: SparkSession, samples: Sequence[SampledInput], inputs: Mapping[str, InputSettings]
) -> list[RowFinding]:
    """Find ids of the samples that the catalogue lacks, and say which other spelling of them it has.

    Reads the ids of the whole catalogue. Customers are only compared by the shape of their ids between inputs.
    Raises InputError as `sample_input` does.
    """
    findings = _different_shapes(samples)
    if "items" not in inputs:
        return findings
    source = inputs["items"]
    items = map_columns(open_source(spark, "items", source).rows, "items", source)
    for sample in samples:
        ids = sample.ids.get("item_id", ())[:_IDS]
        if sample.table == "items" or not ids:
            continue
        wanted = spark.createDataFrame([(same_id(one),) for one in set(ids)], "same string").distinct()
        spelling = F.regexp_replace(F.lower(F.trim(F.col("item_id").cast("string"))), "[.]0+$", "")
        known = items.select(
            F.col("item_id").cast("string").alias("item_id"),
            F.coalesce(F.nullif(F.ltrim(spelling, F.lit("0")), F.lit("")), spelling).alias("same"),
        )
        with translating_errors("items", source, "inputs.items", scan=True):
            found = known.join(F.broadcast(wanted), on="same", how="left_semi").distinct().collect()
        findings += _missing_items(sample.table, ids, {row.item_id.strip() for row in found})
    return findings


def titles_of(spark: SparkSession, table: str, source: InputSettings) -> dict[str, str]:
    """Map the first rows of the source, and return the titles of their products by item_id.

    `table` is items, or purchases with a title; without titles the result is empty. Raises InputError as
    `sample_input` does.
    """
    with_title = table == "purchases"
    if with_title and source.columns is not None and "title" not in source.columns:
        return {}
    mapped = map_columns(open_source(spark, table, source).rows, table, source, with_title).limit(_TITLED)
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        texts = mapped.select(*(F.trim(F.col(name).cast("string")).alias(name) for name in ("item_id", "title")))
        known = texts.where("item_id IS NOT NULL AND title <> ''")
        titled = known.groupBy("item_id").agg(F.min("title").alias("title")).collect()
    return {row.item_id: row.title for row in titled}


def _missing_items(table: str, ids: Sequence[str], known: set[str]) -> list[RowFinding]:
    missing = [one for one in ids if one.strip() not in known]
    if not missing:
        return []
    respelled = {same_id(one) for one in known}
    similar = [one for one in missing if same_id(one) in respelled]
    what = f"{len(missing):,} of {len(ids):,} products are not in items"
    remedy = "" if len(missing) < len(ids) / 2 else "Name the catalogue that has these products, or leave items out"
    if similar:
        what += f"; {len(similar):,} are there in another spelling"
        changes = [name for name, _, change in ID_SPELLINGS if any(change(one) in known for one in similar)]
        theirs = [name for name, _, change in ID_SPELLINGS if {*map(change, known)} & {*similar}]
        sides = [f"inputs.{table} has {', '.join(changes)}"] if changes else []
        sides += [f"inputs.items has {', '.join(theirs)}"] if theirs else []
        remedy = "; ".join(sides or ["the spellings differ in case, zeros or white space"]) + ". Write one spelling: "
        expressions = [sql for name, sql, _ in ID_SPELLINGS if name in (changes or theirs)] or [ID_SPELLINGS[0][1]]
        remedy += f"inputs.{table if changes else 'items'}.columns.item_id: {expressions[0].replace('{0}', 'item_id')}"
    return [RowFinding(table, "unknown_item", len(missing), what, _shapes(similar or missing), remedy, is_warning=True)]


def _different_shapes(samples: Sequence[SampledInput]) -> list[RowFinding]:
    """Warn about inputs whose customer ids look different: 99999 here and 99999.9 there will never meet."""
    shapes = {s.table: {mask(one) for one in s.ids.get("user_id", ())} for s in samples}
    first = shapes.get("purchases")
    if not first:
        return []
    findings = []
    for sample in samples:
        own = shapes[sample.table]
        if sample.table != "purchases" and own and not own & first:
            findings.append(
                RowFinding(
                    sample.table,
                    "user_id",
                    len(sample.ids["user_id"]),
                    f"customers look different from those of purchases ({', '.join(sorted(first)[:_SHOWN])})",
                    tuple(sorted(own)[:_SHOWN]),
                    f"Write inputs.{sample.table}.columns.user_id so that both have one spelling",
                    is_warning=True,
                )
            )
    return findings


def _source_columns(rows: DataFrame, table: str, source: InputSettings, names: Sequence[str]) -> dict[str, str]:
    """Return, by contract column, the one source column that its expression reads; others are left out."""
    found = {}
    for name in names:
        text = (source.columns or {}).get(name, name if source.columns is None else None)
        if text is None:
            continue
        exact = next((column for column in rows.columns if column.lower() == text.strip().lower()), None)
        if exact is not None:
            found[name] = exact
            continue
        if source.columns is None:
            continue  # without a mapping, a column of another name is not read
        with translating_errors(table, source, f"inputs.{table}.columns.{name}", rows):
            referenced = schema_drift.referenced_columns(rows.select(F.expr(text)))
        columns = [column for column in rows.columns if column.lower() in referenced]
        if len(columns) == 1:
            found[name] = columns[0]
    return found


def _original_values(rows: DataFrame, sources: Mapping[str, str], limit: int) -> list[Row]:
    """Return the source columns of the same rows as text."""
    wanted = sorted(set(sources.values()))
    if not wanted:
        return []
    columns = (F.col(quoted_name(name)).cast("string").alias(f"{_SOURCE}{n}") for n, name in enumerate(wanted))
    return rows.select(*columns).limit(limit).collect()


def _values_of(
    column: str, rows: Sequence[Row], sources: Mapping[str, str], originals: Sequence[Row], broken: Sequence[int]
) -> list[str]:
    """Return the source's values of the rows numbered `broken`, without blanks; else what the mapping gives."""
    if column in sources and len(originals) == len(rows):
        place = f"{_SOURCE}{sorted(set(sources.values())).index(sources[column])}"
        values = [originals[n][place] for n in broken]
    else:
        values = [rows[n][_MAPPED][column] for n in broken]
    return [value for value in values if value is not None and value.strip()]


def _broken_rules(
    table: str, source: InputSettings, rows: Sequence[Row], sources: Mapping[str, str], originals: Sequence[Row]
) -> list[RowFinding]:
    by_rule: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for rule in _causes(row[RULES]):
            by_rule.setdefault(rule, []).append(number)
    details = rule_details(table)
    findings = []
    for rule, broken in sorted(by_rule.items(), key=lambda one: -len(one[1])):
        column = _column_of(table, rule)
        values = [] if column is None else _values_of(column, rows, sources, originals, broken)
        every = [] if column is None else _values_of(column, rows, sources, originals, range(len(rows)))
        remedy = "" if column is None else _remedy(table, source, column, rule, values, every, sources)
        what, stays = str(details.get(rule, rule)), rule in emptied_rules(table)
        if rule.endswith("_not_null") and values:
            empty = len(broken) - len(values)
            what = f"{column} is null: {len(values):,} unreadable, {empty:,} empty"
        what += "; the row stays without the value" if stays else ""
        findings.append(RowFinding(table, rule, len(broken), what, _shapes(values), remedy, is_warning=stays))
    return findings


def _causes(rules: Sequence[str]) -> list[str]:
    """Return the rules without those that only follow from another: an unreadable rating is also out of range."""
    if ROW_MALFORMED in rules:
        return [ROW_MALFORMED]
    unreadable = [rule.removesuffix("_unparsable") for rule in rules if rule.endswith("_unparsable")]
    missing = [rule.removesuffix("_not_null") for rule in rules if rule.endswith("_not_null")]
    return [
        rule
        for rule in rules
        if rule.endswith("_unparsable")
        or (rule.endswith("_not_null") and rule.removesuffix("_not_null") not in unreadable)
        or (not rule.endswith("_not_null") and not any(rule.startswith(name) for name in (*unreadable, *missing)))
    ]


def _column_of(table: str, rule: str) -> str | None:
    """Return the column that a rule is about."""
    names = sorted(schemas.contract(table).column_names, key=len, reverse=True)
    return next((name for name in names if rule.startswith(name)), None)


def _remedy(
    table: str,
    source: InputSettings,
    column: str,
    rule: str,
    values: Sequence[str],
    every: Sequence[str],
    sources: Mapping[str, str],
) -> str:
    """Return the line of the configuration that reads the values, judged by all values of the column."""
    key, where = f"inputs.{table}.columns.{column}", f"inputs.{table}.where"
    is_unread = rule.endswith(("_unparsable", "_not_null"))
    if not values:
        return f"Map another column, or leave these rows out with {where}" if rule.endswith("_not_null") else ""
    reader = _form_reader(table, column)
    form = reader(every) or reader(values)
    if form is None:
        return f"No known form fits these values: correct them, or write {key}" if is_unread else ""
    if reader is _as_time and not _reads_any(values, every, form.name):
        no_such = f"{column} is written as {form.name}, and these values are no such times"
        return f"{no_such}: correct them, or leave these rows out with {where}"
    if form.sql == "{0}" or (column in sources and _reads_so(source, column, form, sources[column])):
        odd = f"{key} reads {form.name}, and these values are of another form"
        return f"{odd}: correct them, or leave these rows out with {where}" if is_unread else ""
    base = quoted_name(sources[column]) if column in sources else f"({(source.columns or {}).get(column, column)})"
    question = f" ({form.question})" if form.question else ""
    return f"{key}: {form.sql.replace('{0}', base)}   # {form.name}{question}"


def _reads_so(source: InputSettings, column: str, form: ValueForm, name: str) -> bool:
    """Whether the mapping reads the column by this form already."""
    return (source.columns or {}).get(column) == form.sql.replace("{0}", quoted_name(name))


def _form_reader(table: str, column: str) -> Callable[[Sequence[str]], ValueForm | None]:
    kind = schemas.contract(table).column(column).type
    if kind == "timestamp":
        return _as_time
    if column == "rating":
        return rating_form
    if kind == "boolean":
        return boolean_form
    return number_form if kind in ("int", "decimal(12,2)") else id_form


def _reads_any(values: Sequence[str], every: Sequence[str], form: str) -> bool:
    """Whether the form of times, which reads most of `every`, reads any of `values`."""
    read = dict(zip(every, read_times(every, form), strict=True))
    return any(read[value] is not None for value in values)


def _as_time(values: Sequence[str]) -> ValueForm | None:
    form = time_form(values, serial_days=True)
    if form is None:
        return None
    return ValueForm(form.name, form.sql, form.share, f"or {' or '.join(form.rivals)}?" if form.rivals else "")


def _suspicious_values(
    table: str,
    source: InputSettings,
    names: Sequence[str],
    rows: Sequence[Row],
    sources: Mapping[str, str],
    originals: Sequence[Row],
) -> list[RowFinding]:
    """Find values that no rule rejects and that are read wrong: ids from spreadsheets, HTML entities."""
    findings = []
    for name in names:
        mapped = [row[_MAPPED][name] for row in rows if row[_MAPPED][name] is not None]
        form: ValueForm | None = None
        if name.endswith("_id"):
            form = id_form(mapped)
        elif name in ("title", "text", "query", "category", "body"):
            form = entity_form(mapped)
        if form is None or form.name == "text":
            continue
        base = quoted_name(sources[name]) if name in sources else f"({(source.columns or {}).get(name, name)})"
        question = f" ({form.question})" if form.question else ""
        remedy = f"inputs.{table}.columns.{name}: {form.sql.replace('{0}', base)}{question}"
        odd = [value for value in mapped if "&" in value or name.endswith("_id")]
        findings.append(
            RowFinding(table, name, round(form.share * len(mapped)), form.name, _shapes(odd), remedy, is_warning=True)
        )
    return findings


def _shapes(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mask(value) for value in values))[:_SHOWN]
