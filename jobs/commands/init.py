"""`regulars init FILE…`: looks at a shop's files and writes a commented regulars.yaml with what it guesses and asks.

For the data engineer of a new shop. A line with (?) is a guess that the shop must confirm; a line that begins with #
needs an answer. `TABLE=FILE` names the table of a file. What is no file, and reads like a name of Spark's catalog, is
a table of it; only then Spark starts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console

import schemas
from jobs.config.strict_model import scalar_text
from jobs.profiling.guessing import ColumnGuess, OrdersAndLines, TableGuess, guess_tables, meaning
from jobs.profiling.source_files import SourceFile, read_files
from jobs.spark.errors import UsageError

#: Words that YAML reads as something else than text.
_NO_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}
_WIDTH = 116
_CATALOG_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){1,2}", re.ASCII)


def write_configuration(
    files: Sequence[str], config: Path, timezone: str | None, force: bool, console: Console
) -> None:
    """Look at `files`, write the configuration `config`, and print what was found and what is asked.

    One of `files` may be TABLE=FILE, or the name of a table of Spark's catalog.

    Raises UsageError if `config` exists and `force` is not given, if there is no such time zone, or if no file looks
    like a table of the shop, and InputError if a file cannot be read.
    """
    if config.exists() and not force:
        raise UsageError(f"{config} exists: write to another file with --config FILE, or replace it with --force")
    if timezone is not None and timezone not in zoneinfo.available_timezones():
        raise UsageError(f"--timezone is {timezone}: write an IANA time zone, such as Europe/Berlin or Asia/Shanghai")
    spark_settings = _spark_settings(config)
    sources, named = _read(files, config, force, timezone, spark_settings)
    guesses, questions = guess_tables(sources, named)
    if not guesses:
        raise UsageError(
            "no file looks like a table of a shop. " + " ".join(questions) + " schemas/README.md lists the tables and "
            "their columns."
        )
    config.parent.mkdir(parents=True, exist_ok=True)
    text = configuration(guesses, questions, config.parent, timezone, spark_settings)
    config.write_text(text, encoding="utf-8")
    _show(guesses, questions, config, timezone, console)


def _spark_settings(config: Path) -> dict[str, str]:
    """Return the section `spark` of the file that is replaced: it names catalogs, and is kept."""
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    settings = found.get("spark") if isinstance(found, dict) else None
    return {str(name): scalar_text(value) for name, value in settings.items()} if isinstance(settings, dict) else {}


def _read(
    files: Sequence[str], config: Path, replace: bool, timezone: str | None, spark_settings: Mapping[str, str]
) -> tuple[list[SourceFile], dict[str, list[SourceFile]]]:
    """Look at each place; return those without a table's name, and the others by table."""
    places: dict[str, list[str]] = {}
    for given in files:
        table, mark, place = given.partition("=")
        named = bool(mark) and table in schemas.INPUTS and not Path(given).exists()
        places.setdefault(table if named else "", []).append(place if named else given)
    found = {}
    for table, of_table in places.items():
        in_catalog = [place for place in of_table if _CATALOG_NAME.fullmatch(place) and not Path(place).exists()]
        paths = [Path(place) for place in of_table if place not in in_catalog]
        found[table] = read_files(paths, config.parent / "from_spreadsheets", replace)
        if in_catalog:
            # A late import and a late session: files need no Spark.
            from jobs.profiling.catalog_tables import read_catalog
            from jobs.spark.session import create_session

            session = create_session("regulars init", timezone=timezone or "UTC", conf=spark_settings)
            found[table] += read_catalog(session, in_catalog)
    return found.pop("", []), found


def configuration(
    guesses: Sequence[TableGuess],
    questions: Sequence[str],
    folder: Path,
    timezone: str | None,
    spark_settings: Mapping[str, str],
) -> str:
    """Return the text of the configuration file; paths are relative to its folder."""
    lines = [
        "# `regulars init` wrote this file. Lines with (?) are guesses: confirm or correct them.",
        "# Lines that begin with # and a key need an answer: correct them and delete the #.",
        "# Samples show the shape of values: 9 is a digit, x a letter.",
        "# Then run: regulars doctor --rows 1000",
        "",
        "store: ./store",
        f"timezone: {timezone or 'UTC'}"
        + ("" if timezone else "   # (?) the shop's IANA time zone, such as Europe/Berlin"),
        *(line for question in questions for line in _comment(f"(?) {question}", 0)),
        *_needs(guesses),
        "inputs:",
    ]
    for guess in guesses:
        lines += _table(guess, folder)
    lines += [line for guess in guesses if guess.join for line in _sources(guess.join, folder)]
    if spark_settings:
        lines += ["spark:", *(f"  {_scalar(name)}: {_scalar(value)}" for name, value in spark_settings.items())]
    lines += ["models: {recommend: ./models/recommend, sentiment: ./models/sentiment}", ""]
    return "\n".join(lines)


def _needs(guesses: Sequence[TableGuess]) -> Iterator[str]:
    tables = {guess.table for guess in guesses}
    if "purchases" not in tables:
        question = (
            "(?) no file has purchases: with reviews alone, only sentiment can be trained. Does another have them?"
        )
        yield from _comment(question, 0)


def _table(guess: TableGuess, folder: Path) -> Iterator[str]:
    file = guess.file
    yield f"  {guess.table}:   # {schemas.contract(guess.table).grain} {file.rows:,} rows were sampled."
    for question in guess.questions:
        yield from _comment(f"(?) {question}", 4)
    if guess.join:
        yield "    query: |"
        yield from (f"      {line}" for line in guess.join.query.splitlines())
    else:
        yield from _place(file, folder)
    yield "    columns:"
    for column in guess.columns:
        yield from _column(guess.table, column)
    unused = [c.name for c in file.columns if c.name not in {g.source for g in guess.columns}]
    if unused:
        yield from _comment(f"Not used: {', '.join(unused)}.", 6)


def _place(file: SourceFile, folder: Path) -> Iterator[str]:
    if file.table:
        yield f"    table: {_scalar(file.table)}"
        return
    paths = [_scalar(_relative(path, folder)) for path in file.paths]
    yield f"    path: {paths[0]}" if len(paths) == 1 else f"    path: [{', '.join(paths)}]"
    if file.format != "parquet":
        yield f"    format: {file.format}"
    if file.options:
        options = ", ".join(f"{name}: {_scalar(value)}" for name, value in file.options.items())
        yield f"    options: {{{options}}}"


def _sources(join: OrdersAndLines, folder: Path) -> Iterator[str]:
    """The section `sources` with the two tables that the query of purchases joins."""
    yield "sources:"
    for name, file in (("orders", join.orders), ("order_lines", join.lines)):
        yield f"  {name}:"
        yield from _place(file, folder)


def _column(table: str, guess: ColumnGuess) -> Iterator[str]:
    needed = guess.column in schemas.contract(table).required
    if guess.expression is None and not needed:
        return
    mark = "(?) " if guess.question else ""
    samples = f" Samples: {' | '.join(guess.samples)}." if guess.samples else ""
    question = f" {guess.question[:1].upper()}{guess.question[1:]}" if guess.question else ""
    what = f"{guess.column} ({meaning(table, guess.column)})"
    yield from _comment(f"{mark}{what}: {guess.reason}.{samples}{question}", 6)
    if guess.proposed or guess.expression is None:
        yield f"      # {guess.column}: {_scalar(guess.expression or 'column or SQL expression')}"
    else:
        yield f"      {guess.column}: {_scalar(guess.expression)}"


def _comment(text: str, indent: int) -> Iterator[str]:
    start = " " * indent + "# "
    yield from textwrap.wrap(
        _one_line(text),
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _one_line(text: str) -> str:
    """Return the text without line breaks, which would end a comment, and without a terminal's control characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def _scalar(value: str | bool) -> str:
    """Return the value as YAML reads it: plain words as they are, everything else in double quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    is_plain = re.fullmatch(r"[A-Za-z_./][\w./-]*", value, re.ASCII) and value.lower() not in _NO_TEXT
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def _relative(path: Path, folder: Path) -> str:
    """Return the path relative to `folder` if it lies below it or beside it, else the whole path."""
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return str(path.resolve()) if relative.count("..") > 2 else relative


def _show(
    guesses: Sequence[TableGuess], questions: Sequence[str], config: Path, timezone: str | None, console: Console
) -> None:
    """Print each table with what is open in it, and the next command."""
    lines = []
    for guess in guesses:
        sure = sum(1 for g in guess.columns if g.expression is not None and not g.question)
        asked = [g for g in guess.columns if g.question]
        paths = guess.file.table or ", ".join(str(path) for path in guess.file.paths)
        lines.append(f"{guess.table}: {paths} ({guess.file.format}), {sure} columns sure, {len(asked)} with a question")
        lines += [f"  (?) {column.column}: {column.reason}. {column.question}" for column in asked]
        lines += [f"  (?) {question}" for question in guess.questions]
    lines += [f"(?) {question}" for question in questions]
    if not timezone:
        lines.append("(?) timezone: which is the shop's time zone?")
    command = f"regulars doctor --rows 1000 --config {shlex.quote(str(config))}"
    lines.append(f"Wrote {config}. Answer the lines with (?), then run: {command}")
    for line in lines:
        console.print(_one_line(line), highlight=False, markup=False)
