"""Looks at a shop's files: format, reader options, columns and sampled values, for `regulars init`.

DuckDB's sniffer finds the separator, the quotes and the header of CSV files, charset-normalizer the character set;
python-calamine reads spreadsheets. Reads at most the first `SAMPLE_BYTES` of a text file. Starts no Spark.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import json
import re
import resource
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from io import FileIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import charset_normalizer
import duckdb
import python_calamine

from jobs.spark.errors import InputError

SAMPLE_ROWS, SAMPLE_BYTES = 20_000, 16 * 2**20
MAX_COLUMNS = 1000
#: Longer values are cut: their start says what they are.
_VALUE_CHARACTERS = 2000
#: Memory that reading a spreadsheet may take.
_SHEET_BYTES = 4 * 2**30
_SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_TEXTS = (".csv", ".tsv", ".txt", ".tab", ".psv", ".json", ".jsonl", ".ndjson")
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz")
_TABLE_FORMATS = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi"}
_AFTERWARDS = {
    "Delta": "In the configuration that is written, path may be the folder of the table.",
    "Iceberg": "In the configuration that is written, path may be the folder of the table.",
    "Hudi": "In the configuration that is written, name the table of its catalog with table.",
}

Kind = Literal["text", "number", "time", "boolean", "nested"]


@dataclass(frozen=True)
class SourceColumn:
    """One column of a file: its name, its quoted name in Spark SQL, its kind, and values of sampled rows."""

    name: str
    sql: str
    kind: Kind
    #: Values that are not blank, as text.
    values: tuple[str, ...]
    #: Share of the sampled rows without a value.
    blank: float

    @property
    def distinct(self) -> float:
        """The share of distinct values among the values."""
        return len(set(self.values)) / max(len(self.values), 1)


@dataclass(frozen=True)
class SourceFile:
    """One or several files of the same columns, and how Spark reads them."""

    paths: tuple[Path, ...]
    format: str
    options: Mapping[str, str | bool]
    columns: tuple[SourceColumn, ...]
    rows: int
    #: What the file leaves open, one question a line.
    questions: tuple[str, ...] = field(default=())
    #: Name of a table of Spark's catalog, which has no paths.
    table: str = ""

    @property
    def name(self) -> str:
        """The name of the first file without its endings, or of the table without its catalog and schema."""
        return self.table.rpartition(".")[2] if self.table else self.paths[0].name.split(".")[0]

    @property
    def place(self) -> str:
        """Where the rows are, as text for a message."""
        return self.table or str(self.paths[0])

    @property
    def has_names(self) -> bool:
        """Whether the columns have names; those of lines without a header are called _c0, _c1, …"""
        return not all(re.fullmatch(r"_c\d+", column.name) for column in self.columns)


def read_files(paths: Sequence[Path], converted: Path, replace: bool = False) -> list[SourceFile]:
    """Look at every file or folder; files of equal format, options and columns become one source.

    Each sheet of a spreadsheet is written as a CSV file into the folder `converted`, because Spark reads no
    spreadsheets. Raises InputError that names the file and the remedy if it cannot be read, or if such a CSV file
    exists and `replace` is not set.
    """
    found: dict[tuple[object, ...], SourceFile] = {}
    for path in paths:
        for one in _looked_at(path, converted, replace):
            _refuse_wide(path, len(one.columns))
            key = (one.format, tuple(sorted(one.options.items())), tuple(c.name for c in one.columns))
            same = found.get(key)
            found[key] = one if same is None else _join(same, one)
    return list(found.values())


def _refuse_wide(path: Path, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise InputError(
            f"{path} has {columns:,} columns; at most {MAX_COLUMNS:,} are looked at. Leave out those that are no part "
            "of purchases, items or reviews, then run the command again."
        )


def _join(first: SourceFile, second: SourceFile) -> SourceFile:
    """One source of two files. A column that one of them lacks is blank there."""
    by_name = [{column.name: column for column in one.columns} for one in (first, second)]
    rows, columns = first.rows + second.rows, []
    for name in dict.fromkeys(name for of_one in by_name for name in of_one):
        a, b = (
            here.get(name) or replace(there[name], values=(), blank=1.0) for here, there in (by_name, by_name[::-1])
        )
        blank = (a.blank * first.rows + b.blank * second.rows) / max(rows, 1)
        kind = a.kind if a.values else b.kind  # Parquet may have no type for a column without values
        columns.append(SourceColumn(name, a.sql, kind, (a.values + b.values)[: 2 * SAMPLE_ROWS], blank))
    questions = tuple(dict.fromkeys(first.questions + second.questions))
    return SourceFile((*first.paths, *second.paths), first.format, first.options, tuple(columns), rows, questions)


def _looked_at(path: Path, converted: Path, replace: bool) -> list[SourceFile]:
    """What `_look` finds. A file that a reader gives up on is an InputError without its values."""
    try:
        return list(_look(path, converted, replace))
    except (duckdb.Error, csv.Error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{path} cannot be read as a table ({type(error).__name__}): a quote may stay open, or a cell or its "
            "nesting may be too large. Correct the file, or write it as Parquet; then run the command again."
        ) from None


def _look(path: Path, converted: Path, replace: bool) -> Iterator[SourceFile]:
    if not path.exists():
        raise InputError(f"there is no file {path}: correct its name, then run the command again.")
    if path.is_dir():
        yield _folder(path)
        return
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device: write its rows to a file, and name that file.")
    ending = _ending(path)
    if ending in _SPREADSHEETS:
        for sheet in _sheets(path, converted, replace):
            yield _csv(
                sheet, (f"{sheet} is a copy of {path.name}: write it again after each change of the spreadsheet",)
            )
    elif ending in _ARCHIVES:
        raise InputError(f"{path} is an archive, which Spark does not read: unpack it, then run the command again.")
    elif ending in (".parquet", ".pq"):
        yield _parquet(path)
    elif ending == ".orc":
        yield _orc(path)
    elif ending in (".json", ".jsonl", ".ndjson") or _starts_as_json(path):
        yield _json(path)
    else:
        yield _csv(path)


def _ending(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".bz2")).suffix


def _folder(path: Path) -> SourceFile:
    for marker, name in _TABLE_FORMATS.items():
        if (path / marker).is_dir():
            raise InputError(
                f"{path} is a {name} table, whose files also hold deleted rows: write some rows of its present version "
                f"as Parquet, and name that file. {_AFTERWARDS[name]}"
            )
    files = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith(("_", ".")))
    if not files:
        raise InputError(f"{path} is an empty folder: name a file, or a folder with files.")
    if _ending(files[0]) in _SPREADSHEETS:
        raise InputError(f"{path} is a folder of spreadsheets: name the spreadsheets themselves.")
    # The newest file may have values where the oldest has none: exports are mostly named by their dates.
    newest_file = [file for file in files if _ending(file) == _ending(files[0])][-1]
    looked = [one for file in dict.fromkeys((files[0], newest_file)) for one in _look(file, path, replace=False)]
    whole, newest = looked[0], looked[-1]
    if newest is not whole and (newest.format, newest.options) == (whole.format, whole.options):
        whole = _join(whole, newest)
    elif newest is not whole:
        differ = f"{files[0].name} and {newest_file.name} of {path} are written in two ways: may one input read both?"
        whole = replace(whole, questions=(*whole.questions, differ))
    return replace(whole, paths=(path,))


def _content(path: Path) -> bytes:
    """Return the first `SAMPLE_BYTES` of the unpacked file."""
    unpack = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}.get(path.suffix.lower(), FileIO)
    try:
        with unpack(path, "rb") as file:
            return bytes(file.read(SAMPLE_BYTES))
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}): write it again, then run the command again.") from None


def _text(path: Path) -> tuple[str, str, str]:
    """Return the start of the file as text, its character set as Spark names it, and a question or nothing."""
    content = _content(path)
    if not content.strip():
        raise InputError(f"{path} is empty: write it again, then run the command again.")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content)
        if "\0" not in text:
            return text, "", ""
    except UnicodeDecodeError:
        pass
    found = charset_normalizer.from_bytes(content[: 2**20]).best()
    name = "cp1252" if found is None else found.encoding
    question = ""
    if name in ("cp1250", "cp1252", "latin_1", "cp1254", "cp1257", "iso8859_15"):
        # The Western sets differ in a few letters. Windows-1252 is by far the most frequent one.
        same = content.decode("cp1252", "replace") == content.decode(name, "replace")
        question = "" if same else f"is {path.name} in windows-1252, or in {name.replace('cp', 'windows-')}?"
        name = "cp1252"
    spark = {"cp1252": "windows-1252", "utf_16": "UTF-16", "utf_16_le": "UTF-16LE", "utf_16_be": "UTF-16BE"}
    text = codecs.getincrementaldecoder(name)("replace").decode(content)
    return text.removeprefix("\ufeff"), spark.get(name, re.sub("^cp(125.)$", r"windows-\1", name)), question


def _starts_as_json(path: Path) -> bool:
    return _content(path)[:1] in (b"{", b"[")


def _csv(path: Path, questions: Sequence[str] = ()) -> SourceFile:
    text, encoding, asked = _text(path)
    questions = [*questions, *filter(None, [asked])]
    first_line = text.partition("\n")[0]
    _refuse_wide(path, 1 + max(first_line.count(separator) for separator in ",;\t|"))  # the sniffer would take minutes
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "sample.csv")
        copy.write_text(text, encoding="utf-8", newline="")
        with duckdb.connect() as database:
            dialect = _dialect(database, copy, path)
            options: dict[str, str | bool] = {"sep": dialect["delimiter"]} if dialect["delimiter"] != "," else {}
            if encoding:
                options["encoding"] = encoding
            if dialect["escape"] == "\\":
                options["escape"] = "\\"
            if dialect["quote"] == "'":
                options["quote"] = "'"
            names, rows = _csv_rows(database, copy, dialect)
    if dialect["skipped"]:
        questions.append(f"the header of {path.name} is in line {dialect['skipped'] + 1}: delete the lines above it")
    if not dialect["header"]:
        options["header"] = False
        names = [f"_c{number}" for number in range(len(names))]
        questions.append(
            f"{path.name} has no line with the names of its columns, so they are called _c0, _c1, …: which is which? "
            "Or add such a line"
        )
    repeated = {name for name in names if [n.lower() for n in names].count(name.lower()) > 1}
    if repeated:
        questions.append(f"{path.name} has the column {min(repeated)} twice: rename one of them")
    if len(names) == 1 and names[0].count(",") and rows:
        names, columns = _quoted_lines(names[0], rows)
        questions.append(f"each line of {path.name} is one quoted field; from_csv splits it")
        return SourceFile((path,), "csv", options, columns, len(rows), tuple(questions))
    columns = tuple(sampled_column(name, quoted_name(name), "text", values) for name, values in _by_column(names, rows))
    return SourceFile((path,), "csv", options, columns, len(rows), tuple(questions))


def _dialect(database: duckdb.DuckDBPyConnection, copy: Path, path: Path) -> dict[str, Any]:
    query = (
        "SELECT Delimiter, Quote, Escape, SkipRows, HasHeader, len(Columns) "
        "FROM sniff_csv($file, sample_size=20480, max_line_size=16777216"
    )
    row = None
    for tolerance in (")", ", quote='\"', ignore_errors=true)", ", ignore_errors=true)"):  # a line may be broken or cut
        with suppress(duckdb.Error):
            row = row or database.execute(query + tolerance, {"file": str(copy)}).fetchone()
    if row is None:
        raise InputError(
            f"{path} is not a table of lines with separators: write it as CSV, JSON lines or Parquet, then run the "
            "command again."
        )
    quote, escape = ("" if mark == "(empty)" else mark for mark in row[1:3])
    return {
        "delimiter": row[0],
        "quote": quote or '"',
        "escape": escape or '"',
        "skipped": int(row[3]),
        "header": bool(row[4]) or _is_header(copy, row[0], int(row[3])),
        "columns": int(row[5]),
    }


def _is_header(copy: Path, delimiter: str, skipped: int) -> bool:
    """Whether the first line has a distinct word without digits for every column: text columns hide a header."""
    with copy.open(encoding="utf-8", newline="") as file:
        for _ in range(skipped):
            next(file, None)
        cells = next(csv.reader(file, delimiter=delimiter), [])
    return len(set(cells)) == len(cells) and all(re.fullmatch(r"[^\d\W][\w .:/()-]{0,40}", cell) for cell in cells)


def _csv_rows(
    database: duckdb.DuckDBPyConnection, copy: Path, dialect: Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    read = database.read_csv(
        str(copy),
        delimiter=dialect["delimiter"],
        quotechar=dialect["quote"],
        escapechar=dialect["escape"],
        skiprows=dialect["skipped"],
        header=dialect["header"],
        all_varchar=True,
        ignore_errors=True,
        null_padding=False,
        strict_mode=False,
        normalize_names=False,
        max_line_size=SAMPLE_BYTES,
    )
    return list(read.columns), read.limit(SAMPLE_ROWS).fetchall()


def _quoted_lines(header: str, rows: Sequence[tuple[Any, ...]]) -> tuple[list[str], tuple[SourceColumn, ...]]:
    """Split lines that are one quoted field each; every column is a field of Spark's from_csv."""
    names = next(csv.reader([header]))
    fields = ", ".join(f"{quoted_name(name)} STRING" for name in names)
    whole = f"from_csv({quoted_name(header)}, '{fields}')"
    split = [next(csv.reader([row[0] or ""]), []) for row in rows]
    values = {name: [line[i] if i < len(line) else None for line in split] for i, name in enumerate(names)}
    return names, tuple(sampled_column(name, f"{whole}.{quoted_name(name)}", "text", values[name]) for name in names)


def _json(path: Path) -> SourceFile:
    text, encoding, asked = _text(path)
    options: dict[str, str | bool] = {"encoding": encoding} if encoding else {}
    questions = [asked] if asked else []
    rows: list[Any] = []
    for line in text.splitlines()[:SAMPLE_ROWS]:
        try:
            rows.append(json.loads(line, parse_float=str, parse_int=str))
        except ValueError:
            continue
    if not any(isinstance(row, dict) for row in rows):
        try:
            whole = json.loads(text, parse_float=str, parse_int=str)
        except ValueError:
            raise InputError(f"{path} is not JSON: write one object a line, then run the command again.") from None
        rows = whole[:SAMPLE_ROWS] if isinstance(whole, list) else [whole]
        options["multiLine"] = True
    flat = [dict(_flatten(row)) for row in rows if isinstance(row, dict)]
    names = list(dict.fromkeys(name for row in flat for name in row))
    columns = []
    for name in names:
        values = [row.get(name) for row in flat]
        nested = any(isinstance(value, list) for value in values)
        sql = ".".join(quoted_name(part) for part in name)
        shown = [None if v is None else json.dumps(v) if isinstance(v, list) else _as_text(v) for v in values]
        columns.append(sampled_column(".".join(name), sql, "nested" if nested else "text", shown))
        if nested and any(isinstance(v, list) and v and isinstance(v[0], dict) for v in values):
            questions.append(
                f"{'.'.join(name)} of {path.name} is a list: does each of its elements belong in a row of its own? "
                "Then write such rows first"
            )
    return SourceFile((path,), "json", options, tuple(columns), len(flat), tuple(questions))


def _flatten(row: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flatten(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _parquet(path: Path) -> SourceFile:
    with duckdb.connect() as database:
        try:
            read = database.read_parquet(str(path))
            rows = read.limit(SAMPLE_ROWS).fetchall()
        except duckdb.Error:
            raise InputError(f"{path} is not Parquet: write it again, then run the command again.") from None
        types = {name: str(kind) for name, kind in zip(read.columns, read.types, strict=True)}
    columns = tuple(
        sampled_column(name, quoted_name(name), _kind(types[name]), values)
        for name, values in _by_column(list(types), rows)
    )
    questions = [
        f"{name} of {path.name} counts nanoseconds, which Spark does not read: write it in microseconds (pandas: "
        'to_parquet(..., coerce_timestamps="us"))'
        for name, kind in types.items()
        if kind == "TIMESTAMP_NS"
    ]
    return SourceFile((path,), "parquet", {}, columns, len(rows), tuple(questions))


def _orc(path: Path) -> SourceFile:
    from pyarrow import ArrowException, orc

    try:
        table = orc.read_table(path).slice(0, SAMPLE_ROWS)
    except (OSError, ArrowException):
        raise InputError(f"{path} is not ORC: write it again, then run the command again.") from None
    kinds = {f.name: _kind(str(f.type)) for f in table.schema}
    columns = tuple(
        sampled_column(n, quoted_name(n), kinds[n], table.column(n).to_pylist()) for n in table.column_names
    )
    return SourceFile((path,), "orc", {}, columns, table.num_rows)


def _kind(type_name: str) -> Kind:
    name = type_name.lower()
    if "[]" in name or name.startswith(("struct", "map", "list", "large_list")):
        return "nested"
    if name.startswith(("timestamp", "date")):
        return "time"
    if name.startswith("bool"):
        return "boolean"
    return "text" if name.startswith(("varchar", "string", "large_string", "enum", "uuid", "dictionary")) else "number"


def _sheets(path: Path, folder: Path, replace: bool) -> Iterator[Path]:
    """Write each sheet with a table as CSV: from its first row with two texts on."""
    # In a process of its own: one far cell makes the reader ask for more memory than there is, and abort.
    with ProcessPoolExecutor(1, get_context("spawn"), _limit_memory) as pool:
        try:
            book = pool.submit(_rows_of_sheets, path).result()
        except BrokenProcessPool:
            raise InputError(
                f"{path} has more cells than {_SHEET_BYTES // 2**30} GiB of memory hold: export its tables as CSV."
            ) from None
        except (python_calamine.CalamineError, OSError) as error:
            raise InputError(f"{path} is not a spreadsheet ({error}): write it again, or export it as CSV.") from None
    for sheet, rows in book.items():
        start = next((n for n, row in enumerate(rows) if sum(isinstance(c, str) and c != "" for c in row) > 1), None)
        if start is None or start + 1 >= len(rows):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / (re.sub(r"[^\w-]+", "_", f"{path.name.split('.')[0]}-{sheet}") + ".csv")
        if copy.exists() and not replace:
            raise InputError(f"{copy} exists: replace it with --force, or move it away.")
        with copy.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([_cell(cell) for cell in row] for row in rows[start:])
        yield copy


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_SHEET_BYTES, _SHEET_BYTES))


def _rows_of_sheets(path: Path) -> dict[str, list[list[Any]]]:
    """The rows of each sheet, by its name."""
    book = python_calamine.load_workbook(str(path))
    return {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)


def _by_column(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    for number, name in enumerate(names):
        yield name, [row[number] for row in rows]


def sampled_column(name: str, sql: str, kind: Kind, values: Iterable[Any]) -> SourceColumn:
    """Return a column with its `values` as text, without blank ones; long ones are cut."""
    texts = [_as_text(value)[:_VALUE_CHARACTERS] for value in values]
    kept = tuple(text for text in texts if text.strip() and text.strip().lower() not in ("nan", "null", "none", "\\n"))
    return SourceColumn(name, sql, kind, kept, 1 - len(kept) / max(len(texts), 1))


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)


def quoted_name(name: str) -> str:
    """Return a column's name as Spark SQL reads it: in backticks, unless it is a plain word."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else "`" + name.replace("`", "``") + "`"
