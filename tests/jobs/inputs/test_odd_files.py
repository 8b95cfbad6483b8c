"""Small files as shops have them: each is read right, or refused with a message that names the mend and no value."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs.config.input_settings import InputSettings
from jobs.inputs.column_mapping import input_columns, map_columns
from jobs.inputs.table_scan import Scan, read_table
from jobs.inputs.validation import RULE, emptied, emptied_rules, validate_rows
from jobs.sources.sources import open_source
from jobs.spark.errors import InputError
from schemas import contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HEAD = "user_id,query,searched_at"
NOON = "2026-03-01 12:00:00"
#: One right row of each table, as validated; a case states only what differs.
ROWS: Mapping[str, dict[str, Any]] = {
    "searches": {"user_id": "u1", "query": "tea", "searched_at": NOON, "clicked_item_id": None},
    "items": {"item_id": "i1", "title": "Tea", "category": None, "brand": None, "price": None, "available": "true"},
}
CSV = {"format": "csv"}
JSON = {"format": "json"}
MAPPED = {"user_id": "user_id", "query": "query", "searched_at": "searched_at"}


def csv(*rows: str, head: str = HEAD) -> bytes:
    return "\n".join([head, *rows, ""]).encode()


def parquet(**columns: list[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["u1"], "query": ["tea"], "searched_at": [NOON], **columns}), out)
    return out.getvalue()


def timed(expression: str) -> dict[str, Any]:
    return {"columns": {**MAPPED, "searched_at": expression}}


#: Name of the case: the table, the file's name, its bytes, the source, and what differs in each read row. A text stands
#: for a rejected row: its rule.
READ: Mapping[str, tuple[str, str, bytes, dict[str, Any], list[dict[str, Any] | str]]] = {
    "semicolons": ("searches", "a.csv", csv(f"u1;tea;{NOON}", head="user_id;query;searched_at"),
        {**CSV, "options": {"sep": ";"}}, [{}]),
    "tabs": ("searches", "a.tsv", csv(f"u1\ttea\t{NOON}", head="user_id\tquery\tsearched_at"),
        {**CSV, "options": {"sep": "\\t"}}, [{}]),
    "byte order mark": ("searches", "a.csv", b"\xef\xbb\xbf" + csv(f"u1,tea,{NOON}"), CSV, [{}]),
    "Windows' line ends": ("searches", "a.csv", csv(f"u1,tea,{NOON}").replace(b"\n", b"\r\n"), CSV, [{}]),
    "line break in quotes": ("searches", "a.csv", csv(f'u1,"green\ntea",{NOON}'), CSV, [{"query": "green tea"}]),
    "doubled quotes": ("searches", "a.csv", csv(f'u1,"5"" pipe",{NOON}'), CSV, [{"query": '5" pipe'}]),
    "a quote inside a plain field": ("searches", "a.csv", csv(f'u1,5" pipe,{NOON}'), CSV, [{"query": '5" pipe'}]),
    "backslashes before quotes": ("searches", "a.csv", csv(rf'u1,"5\" pipe",{NOON}'),
        {**CSV, "options": {"escape": "\\"}}, [{"query": '5" pipe'}]),
    "GB18030": ("searches", "a.csv", f"{HEAD}\nu1,茶,{NOON}\n".encode("gb18030"),
        {**CSV, "options": {"encoding": "GB18030"}}, [{"query": "茶"}]),
    "Windows-1252": ("searches", "a.csv", f"{HEAD}\nu1,Käse,{NOON}\n".encode("cp1252"),
        {**CSV, "options": {"encoding": "Windows-1252"}}, [{"query": "Käse"}]),
    "no header": ("searches", "a.csv", f"u1,tea,{NOON}\n".encode(),
        {**CSV, "options": {"header": False}, "columns": {"user_id": "_c0", "query": "_c1", "searched_at": "_c2"}},
        [{}]),
    "rows too short and too long": ("searches", "a.csv", csv("u1,tea", f"u1,tea,{NOON}", f"u1,te,a,{NOON}"), CSV,
        ["row_malformed", {}, "row_malformed"]),
    "empty lines and a last line of words": ("searches", "a.csv", csv("", f"u1,tea,{NOON}", "", "(1 row)"), CSV,
        [{}, "row_malformed"]),
    "names with dots and backquotes": ("searches", "a.csv", csv(f"u1,tea,{NOON}", head="user.id,the`words,Searched_At"),
        {**CSV, "columns": {"user_id": "user.id", "query": "the`words", "searched_at": "searched_at"}}, [{}]),
    "two columns of one name": ("searches", "a.csv", csv(f"u1,tea,x,{NOON}", head="user_id,query,query,searched_at"),
        {**CSV, "columns": {**MAPPED, "query": "query1"}}, [{}]),
    "German times": ("searches", "a.csv", csv("u1,tea,1.3.2026 12:00"),
        {**CSV, **timed("try_to_timestamp(searched_at, 'd.M.yyyy H:mm')")}, [{}]),
    "seconds since 1970": ("searches", "a.csv", csv("u1,tea,1772366400"),
        {**CSV, **timed("timestamp_seconds(CAST(searched_at AS BIGINT))")}, [{}]),
    "milliseconds since 1970": ("searches", "a.parquet", parquet(searched_at=[1772366400000]),
        timed("timestamp_millis(searched_at)"), [{}]),
    "a time of no day": ("searches", "a.csv", csv("u1,tea,12:00"), CSV, ["searched_at_unparsable"]),
    "zeros before an id": ("searches", "a.csv", csv(f"007,tea,{NOON}"), CSV, [{"user_id": "007"}]),
    "space around an id": ("searches", "a.csv", csv(f" u1\u00a0,tea,{NOON}"), CSV, [{}]),
    "ids that pandas made doubles": ("searches", "a.parquet", parquet(user_id=[17850.0]), {}, [{"user_id": "17850"}]),
    "large ids as doubles": ("searches", "a.parquet", parquet(user_id=[1.2e7]), {}, [{"user_id": "12000000"}]),
    "a column _metadata": ("searches", "a.parquet", parquet(_metadata=["x"]), {"where": "_metadata = 'x'"}, [{}]),
    "nested JSON": ("searches", "a.json",
        f'{{"user": {{"id": "u1"}}, "query": "tea", "searched_at": "{NOON}"}}'.encode(),
        {**JSON, "columns": {**MAPPED, "user_id": "user.id"}}, [{}]),
    "a JSON line that breaks off": ("searches", "a.json",
        f'{{"user_id": "u1", "query": "tea", "searched_at": "{NOON}"}}\n{{"user_id": "u1", "qu'.encode(), JSON,
        [{}, "row_malformed"]),
    "JSON numbers as ids": ("searches", "a.json",
        f'{{"user_id": 17850, "query": 1.50, "searched_at": "{NOON}"}}'.encode(), JSON,
        [{"user_id": "17850", "query": "1.50"}]),
    "one JSON text": ("searches", "a.json",
        f'[\n{{"user_id": "u1", "query": "tea", "searched_at": "{NOON}"}}\n]'.encode(),
        {**JSON, "options": {"multiLine": True}}, [{}]),
    "gzip": ("searches", "a.csv.gz", gzip.compress(csv(f"u1,tea,{NOON}")), CSV, [{}]),
    "brackets and a colon in names": ("searches", "a:{x} [1].csv", csv(f"u1,tea,{NOON}"), CSV, [{}]),
    "a folder's value": ("searches", "store=007/a.csv", csv(f"u1,tea,{NOON}"),
        {**CSV, "columns": {**MAPPED, "clicked_item_id": "store"}}, [{"clicked_item_id": "007"}]),
    "optional values that cannot be read": ("items", "a.csv",
        csv('i1,Tea,"12,50",in stock', head="item_id,title,price,available"),
        CSV, [{"price": "without", "available": "without"}]),
    "a price below zero": ("items", "a.csv", csv("i1,Tea,-1,yes", head="item_id,title,price,available"), CSV,
        [{"price": "without"}]),
    "a decimal comma": ("items", "a.csv", csv('i1,Tea,"1.299,00"', head="item_id,title,price"),
        {**CSV, "columns": {"item_id": "item_id", "title": "title", "price": "translate(price, ',.', '.')"}},
        [{"price": Decimal("1299.00")}]),
    "yes and no": ("items", "a.csv", csv("i1,Tea,n", head="item_id,title,available"), CSV, [{"available": "false"}]),
}  # fmt: skip


def test_odd_files_are_read_right(spark: SparkSession, tmp_path: Path) -> None:
    for table in ("searches", "items"):
        found = {}
        frames = []
        for name, (of_table, file, content, source, _) in READ.items():
            if of_table == table:
                path = tmp_path / name / file
                path.parent.mkdir(parents=True)
                path.write_bytes(content)
                frames.append(_validated(spark, table, {"path": str(tmp_path / name), **source}, name))
        for row in reduce(lambda one, other: one.unionByName(other), frames).collect():
            found.setdefault(row["case"], []).append(row)
        for name, (of_table, _, _, _, expected) in READ.items():
            if of_table == table:
                assert [_outcome(row, table) for row in found[name]] == [_expected(one, table) for one in expected], (
                    name
                )


def _validated(spark: SparkSession, table: str, source: dict[str, Any], name: str) -> DataFrame:
    settings = InputSettings.model_validate(source)
    raw = map_columns(open_source(spark, table, settings).rows, table, settings)
    rows = validate_rows(raw, table, input_columns(table))
    kept = [*contract(table).column_names, *map(emptied, emptied_rules(table)), RULE]
    texts = {
        c.name: F.col(c.name).cast("string") for c in contract(table).columns if c.type in ("timestamp", "boolean")
    }
    return rows.select(*kept, F.lit(name).alias("case")).withColumns(texts)


def _outcome(row: Any, table: str) -> dict[str, Any] | str:
    if row[RULE]:
        return str(row[RULE])
    lost = {emptied_rules(table)[rule].name for rule in emptied_rules(table) if row[emptied(rule)]}
    return {name: "without" if name in lost else row[name] for name in contract(table).column_names}


def _expected(one: dict[str, Any] | str, table: str) -> dict[str, Any] | str:
    return one if isinstance(one, str) else {**ROWS[table], **one}


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, csv(SECRET))
    return out.getvalue()


#: The row of each refused file; no message may contain a value of it.
SECRET = f"secret@mail.example,secret words,{NOON}"
SECRET_JSON = f'{{"user_id": "secret@mail.example", "query": "secret words", "searched_at": "{NOON}"}}'
#: Name of the case: the file's name, its bytes, the source, and a part of the message.
REFUSED: Mapping[str, tuple[str, bytes, dict[str, Any], str]] = {
    "zip": ("a.csv.zip", zipped("a.csv"), CSV, "is a zip archive or an Excel workbook, which Spark does not read"),
    "Excel": ("a.xlsx", zipped("xl/workbook.xml"), CSV, "unpack it, or save the workbook as CSV"),
    "another separator": ("a.csv", csv(SECRET.replace(",", ";"), head=HEAD.replace(",", ";")), CSV,
        "It has one column with ; in its name, so its separator is another: options: {sep: \";\"}."),
    "JSON as CSV": ("a.csv", f"{SECRET_JSON}\n{SECRET_JSON}\n".encode(), CSV,
        "Its first line looks like JSON: write format: json."),
    "CSV as JSON": ("a.json", csv(SECRET), JSON, "If the file is CSV, write format: csv; if it is one JSON text"),
    "no format": ("a.csv", csv(SECRET), {}, "its name says csv. Write inputs.searches.format: csv, or take the file"),
    "JSON without format": ("a.jsonl", SECRET_JSON.encode(), {}, "Write inputs.searches.format: json, or take"),
    "no header": ("a.csv", f"{SECRET}\n{SECRET}\n".encode(), CSV,
        "The names of its 3 columns look like values and are not repeated here. If the file has no header, write"),
    "a missing column": ("a.csv", csv(SECRET, head="user_id,words,searched_at"), CSV,
        "a.csv has no column query, which searches needs. It has user_id, words, searched_at."),
    "one name twice in CSV": ("a.csv", csv(f"{SECRET},x", head=f"{HEAD},query"), CSV,
        "query stands 2 times in the header, so its columns are called query1, query3"),
    "one name twice in JSON": ("a.json", SECRET_JSON.replace("{", '{"QUERY": "secret", ').encode(), JSON,
        "has two columns query, and the case of letters does not count. Write it again with a name of its own"),
    "one name twice in Parquet": ("a.parquet", parquet(QUERY=["secret"]), {}, "has two columns query, and the case of"),
    "days of the year": ("a.csv", csv(SECRET), {**CSV, **timed("to_timestamp(searched_at, 'DD.MM.YYYY')")},
        "DD.MM.YYYY in inputs.searches.columns.searched_at is no date pattern: yyyy is the year, MM the month, dd the "
        "day, HH the hour, mm the minute, ss the second. Write one such as 'dd.MM.yyyy'"),
    "no pattern at all": ("a.csv", csv(SECRET), {**CSV, **timed("to_timestamp(searched_at, 'foo')")},
        "foo in inputs.searches.columns.searched_at is no date pattern"),
    "numbers as times": ("a.parquet", parquet(searched_at=[1772366400]), {},
        "say what it counts: timestamp_seconds(...) or timestamp_millis(...)"),
    "3,000 parentheses": ("a.csv", csv(SECRET), {**CSV, "where": "(" * 3000 + "true" + ")" * 3000},
        "the SQL of inputs.searches.where is nested too deeply. Write it in several steps"),
    "a broken JSON text": ("a.json", f"[\n{SECRET_JSON},\n{{\"user_id\": \"secret".encode(),
        {**JSON, "options": {"multiLine": True}}, "a.json"),
    "another character set": ("a.csv", f"{HEAD}\nu1,茶壶,{NOON}\n".encode("gb18030"), CSV,
        "the file is not in UTF-8. Add to inputs.searches options: {encoding: GB18030}"),
    "open quotes": ("a.csv", csv(f'u1,"24 inch,{NOON}', SECRET), CSV,
        "a.csv ends inside quotes: the row of line 2 begins them and none close them"),
}  # fmt: skip


@pytest.fixture(scope="module")
def messages(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("refused")

    def message(name: str) -> str:
        file, content, source, _ = REFUSED[name]
        path = folder / name / file
        path.parent.mkdir()
        path.write_bytes(content)
        settings = InputSettings.model_validate({"path": str(path), **source})
        with pytest.raises(InputError) as caught:
            read_table(
                Scan(spark, "searches", settings, {}, datetime(2026, 4, 1, tzinfo=UTC), str(folder / "work"), str)
            )
        return str(caught.value)

    return message


@pytest.mark.parametrize("name", REFUSED)
def test_odd_files_are_refused_with_their_mend(
    name: str, messages: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    message = messages(name)
    assert REFUSED[name][-1] in message
    assert message.startswith("inputs.searches")
    assert "run the command again." in message
    assert "secret" not in message.replace("/secret", ""), "no value of a row"
    assert "\tat " not in message
    assert "\tat " not in capfd.readouterr().err, "no trace on the terminal"
