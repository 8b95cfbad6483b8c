"""Opening sources: the configuration decides format and options, and every mistake has one clear message."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from jobs.config.input_settings import InputSettings
from jobs.config.settings import Config
from jobs.inputs.column_mapping import map_columns
from jobs.inputs.reader import read_inputs
from jobs.inputs.table_scan import Scan, read_table
from jobs.sources.sources import SOURCE_FILE, open_source
from jobs.spark.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

SEARCHES = {"user_id": "user_id", "query": "query", "searched_at": "searched_at"}


def searches(n: int = 3) -> pa.Table:
    return pa.table(
        {
            "user_id": [f"u{i}" for i in range(n)],
            "query": [f"tea {i}" for i in range(n)],
            "searched_at": pa.array([datetime(2026, 3, 1)] * n, pa.timestamp("us", tz="UTC")),
        }
    )


def rows_of(spark: SparkSession, table: str = "searches", **source: Any) -> list[Row]:
    parsed = InputSettings.model_validate(source)
    return map_columns(open_source(spark, table, parsed).rows, table, parsed).collect()


def test_csv_as_spreadsheets_write_it(spark: SparkSession, tmp_path: Path) -> None:
    text = 'who,the.words,when\nu1,"two\nlines, ""quoted""",2026-03-01\nu2,,2026-03-02\n'
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(text.encode()))
    columns = {"user_id": "WHO", "query": "the.words", "searched_at": "to_timestamp(`when`)", "clicked_item_id": "'i1'"}
    rows = rows_of(spark, path=str(tmp_path / "s.csv.gz"), format="csv", columns=columns)
    assert [(r.user_id, r.query, r.clicked_item_id) for r in rows] == [
        ("u1", 'two\nlines, "quoted"', "i1"),
        ("u2", None, "i1"),
    ]
    assert rows[0][SOURCE_FILE].endswith("/s.csv.gz")


def test_options_and_where_of_the_configuration(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u1;tea;2026-03-01\nu2;cup;2026-03-01\n")
    rows = rows_of(
        spark,
        path=str(tmp_path / "s.txt"),
        format="csv",
        options={"header": False, "sep": ";"},
        where="_c1 <> 'cup'",
        columns={"user_id": "_c0", "query": "_c1", "searched_at": "_c2"},
    )
    assert [(r.user_id, r.query, r.clicked_item_id) for r in rows] == [("u1", "tea", None)]


def test_paths_are_folders_globs_and_lists(spark: SparkSession, tmp_path: Path) -> None:
    for day in ("2026-03-01", "2026-03-02", "2026-04-01"):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(searches(1), tmp_path / f"day={day}" / "part.parquet")
    assert len(rows_of(spark, path=str(tmp_path))) == 3
    assert len(rows_of(spark, path=str(tmp_path / "day=2026-03-*"))) == 2
    two = [str(tmp_path / "day=2026-03-01"), str(tmp_path / "day=2026-04-01" / "part.parquet")]
    assert len(rows_of(spark, path=two)) == 2
    assert len(rows_of(spark, path=str(tmp_path), where="day >= '2026-04-01'")) == 1


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_partition_values_stay_text(spark: SparkSession, tmp_path: Path, form: str) -> None:
    for store, user in (("007", "u1"), ("7", "u2"), ("1e3", "u3")):
        folder = tmp_path / f"store={store}"
        folder.mkdir()
        if form == "parquet":
            pq.write_table(searches(1), folder / "a.parquet")
        elif form == "csv":
            (folder / "a.csv").write_text(f"user_id,query,searched_at\n{user},tea,2026-03-01\n")
        else:
            (folder / "a.json").write_text('{"user_id": "u", "query": "tea", "searched_at": "2026-03-01"}\n')
    columns = SEARCHES | {"user_id": "concat(store, '-', query)", "clicked_item_id": "store"}
    rows = rows_of(spark, path=str(tmp_path), format=form, columns=columns)
    assert {row.clicked_item_id for row in rows} == {"007", "7", "1e3"}
    assert {row.user_id.split("-tea")[0] for row in rows} == {"007", "7", "1e3"}
    (only,) = rows_of(spark, path=str(tmp_path / "store=007"), format=form)
    assert only.query.startswith("tea")
    numbers = tmp_path / "numbers"
    shutil.copytree(tmp_path / "store=007", numbers / "hour=09")
    shutil.copytree(tmp_path / "store=007", numbers / "hour=10")
    source = {"path": str(numbers), "format": form, "columns": SEARCHES | {"clicked_item_id": "hour"}}
    assert [row.clicked_item_id for row in rows_of(spark, where="hour < 10", **source)] == ["09"]


def test_only_the_columns_that_are_needed_are_read(spark: SparkSession, tmp_path: Path) -> None:
    wide = searches().append_column("clicked_item_id", pa.array(["i"] * 3)).append_column("blob", pa.array(["b"] * 3))
    pq.write_table(wide, tmp_path / "s.parquet")
    source = InputSettings.model_validate({"path": str(tmp_path), "columns": SEARCHES})
    df = map_columns(open_source(spark, "searches", source).rows, "searches", source)
    plan = df._jdf.queryExecution().executedPlan().toString()
    assert "blob" not in plan.split("ReadSchema")[1]
    assert {row.clicked_item_id for row in df.collect()} == {None}, "a column that is not mapped is not read"
    assert {row.clicked_item_id for row in rows_of(spark, path=str(tmp_path))} == {"i"}, "without a mapping it is"


def test_orc_and_json(spark: SparkSession, tmp_path: Path) -> None:
    orc.write_table(searches(), tmp_path / "s.orc")
    assert len(rows_of(spark, path=str(tmp_path / "s.orc"), format="orc")) == 3
    lines = '{"user_id": 7, "query": "a", "searched_at": "x"}\n{"user_id": "u", "query": 1.50, "searched_at": null}\n-'
    (tmp_path / "s.json").write_text(lines)
    rows = rows_of(spark, path=str(tmp_path / "s.json"), format="json")
    assert sorted(((r.user_id, r.query) for r in rows), key=str) == [("7", "a"), ("u", "1.50"), (None, None)]


def test_given_fields_of_json_need_no_pass_over_the_files(spark: SparkSession, tmp_path: Path) -> None:
    for store in ("007", "8"):
        (tmp_path / f"store={store}").mkdir()
        (tmp_path / f"store={store}/s.json").write_text(
            '{"user": {"id": 7}, "query": 1.50, "searched_at": "2026-03-01"}\n{"user": {"id": "u"}, "more": 1}\n-'
        )
    settings: dict[str, Any] = {"path": str(tmp_path), "format": "json"}
    settings["columns"] = SEARCHES | {"user_id": "user.id", "clicked_item_id": "store"}
    found, passes = [], []
    for fields in (None, "user struct<id string>, query string, searched_at string"):
        group = f"fields {fields}"
        spark.sparkContext.setJobGroup(group, "")
        opened = open_source(spark, "searches", InputSettings(**settings, json_fields=fields))
        passes.append(len(spark.sparkContext.statusTracker().getJobIdsForGroup(group)))
        found.append(sorted(map(str, map_columns(opened.rows, "searches", InputSettings(**settings)).collect())))
    spark.sparkContext.setJobGroup("", "")
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert passes == [1, 0]


def truncated(folder: Path) -> None:
    pq.write_table(searches(), folder / "a.parquet")
    (folder / "a.parquet").write_bytes((folder / "a.parquet").read_bytes()[:300])


def truncated_beside_a_right_one(folder: Path) -> None:
    truncated(folder)
    (folder / "a.parquet").rename(folder / "z.parquet")
    pq.write_table(searches(), folder / "a.parquet")


def damaged_inside(folder: Path) -> None:
    pq.write_table(searches(), folder / "a.parquet")
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[:4] + b"\xff" * 80 + content[84:])


def zero_bytes_beside_a_right_one(folder: Path) -> None:
    pq.write_table(searches(), folder / "a.parquet")
    (folder / "z.parquet").touch()


def foreign(folder: Path) -> None:
    pq.write_table(searches(), folder / "a.parquet")
    (folder / "readme.txt").write_text("these are the searches of March")


def of_two_types(folder: Path) -> None:
    pq.write_table(searches(), folder / "a.parquet")
    pq.write_table(searches().set_column(1, "query", pa.array([1, 2, 3])), folder / "b.parquet")


def nanoseconds(folder: Path) -> None:
    table = searches().set_column(2, "searched_at", pa.array([datetime(2026, 3, 1)] * 3, pa.timestamp("ns")))
    pq.write_table(table, folder / "a.parquet")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (shutil.rmtree, "inputs.searches.path: there is no file:{folder}. Correct the path or bring the file, then"),
        (lambda folder: None, "inputs.searches.path: {folder} is an empty folder, or files of zero bytes. Correct the"),
        (lambda folder: (folder / "a.parquet").touch(), "is an empty folder, or files of zero bytes. Correct the"),
        (zero_bytes_beside_a_right_one, "/z.parquet has zero bytes, so its export failed. Write it again or take"),
        (truncated, "/a.parquet cannot be read as parquet: it is truncated, damaged, gone, of another"),
        (truncated_beside_a_right_one, "/z.parquet cannot be read as parquet: it is truncated, damaged"),
        (damaged_inside, "/a.parquet cannot be read as parquet: it is truncated, damaged"),
        (foreign, "/readme.txt cannot be read as parquet: it is truncated, damaged"),
        (of_two_types, "the column query is bigint in file://{folder}/b.parquet but string in file:"),
        (nanoseconds, "INT64 (TIMESTAMP(NANOS,false)), which Spark does not read. Write times in microseconds"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(
    spark: SparkSession, tmp_path: Path, prepare: Callable[[Path], None], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "searches"
    folder.mkdir()
    prepare(folder)
    message = error_of(spark, tmp_path, {"path": str(folder)})
    assert says.format(folder=folder) in message
    assert message.startswith("inputs.searches")
    assert "Traceback" not in capfd.readouterr().err


def error_of(spark: SparkSession, tmp_path: Path, source: dict[str, Any]) -> str:
    """Return the error message of a night whose searches have this source."""
    end = datetime(2026, 4, 1, tzinfo=UTC)
    with pytest.raises(InputError) as caught:
        read_table(Scan(spark, "searches", InputSettings.model_validate(source), {}, end, str(tmp_path / "work"), str))
    assert caught.value.exit_code == 5
    message = str(caught.value)
    assert "\tat " not in message, "no stack trace"
    return message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": SEARCHES | {"query": "words"}}, "searches.columns.query: {path} has no column `words`."),
        ({"columns": SEARCHES | {"query": "lower(words)"}}, "searches.columns.query: {path} has no column `words`."),
        ({"columns": SEARCHES | {"query": "lower(query"}}, "searches.columns.query: Syntax error at or"),
        ({"columns": SEARCHES | {"query": "lowercase(query)"}}, "columns.query: Cannot resolve rou"),
        ({"columns": SEARCHES | {"searched_at": "array(1)"}}, "columns.searched_at gives array<int>, which cannot"),
        ({"where": "quality > 3"}, "inputs.searches.where: {path} has no column `quality`. It has user_id, query"),
        ({"where": "user_id >"}, "inputs.searches.where: Syntax error at or near end of input"),
        ({"where": "url_decode(concat('%zz', query)) IS NOT NULL"}, "an expression fails on some row (CANNOT_DECODE"),
        ({"format": "parkett"}, "inputs.searches.path: Spark knows no format parkett; use parquet, csv, json, orc"),
        ({"format": "json", "json_fields": "string"}, "json_fields: Spark cannot read it. Write a name and a type"),
        ({"format": "json", "json_fields": "user_id strong"}, "inputs.searches.json_fields: Spark cannot read it"),
        ({"format": "orc"}, "/a.parquet cannot be read as orc, and its name says parquet. Write inputs.searches"),
    ],
)  # fmt: skip
def test_mappings_that_do_not_fit(spark: SparkSession, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    pq.write_table(searches(), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    assert says.format(path=path) in error_of(spark, tmp_path, {"path": path, **change})


_GETENV = "('java.lang.System', 'getenv', 'HOME')"


@pytest.mark.parametrize(
    ("key", "sql", "says"),
    [
        ("columns.query", f"reflect{_GETENV}", "reflect, java_method and try_reflect call Java"),
        ("columns.query", f"`java_method`{_GETENV}", "call Java"),
        ("columns.query", f"lower(system.builtin.try_reflect{_GETENV})", "call Java"),
        ("columns.query", f"IDENTIFIER('ref' || 'lect'){_GETENV}", "call Java"),
        ("columns.query", "transform(array('HOME'), x -> reflect('java.lang.System', 'getenv', x))[0]", "call Java"),
        ("columns.query", f"(WITH t AS (SELECT reflect{_GETENV} AS home) SELECT max(home) FROM t)", "call Java"),
        ("where", f"query IN (SELECT reflect/**/{_GETENV})", "call Java"),
        ("columns.query", "(SELECT TRANSFORM(a) USING 'id' AS (b string) FROM (SELECT 'x' AS a))", "runs a program"),
        ("columns.query", f"max(reflect{_GETENV}) OVER ()", "call Java"),
        ("columns.query", f"explode(array(reflect{_GETENV}))", "call Java"),
        ("columns.query", "explode(array('a', 'b'))", "explode and its kin make several rows of one"),
        ("columns.query", "max(query)", "an aggregate makes one row of many, and a column has one value a row"),
    ],
)
def test_expressions_that_call_java_or_programs_are_refused(
    spark: SparkSession, tmp_path: Path, key: str, sql: str, says: str
) -> None:
    pq.write_table(searches(), tmp_path / "a.parquet")
    source: dict[str, Any] = {"path": str(tmp_path / "a.parquet")}
    source |= {"where": sql} if key == "where" else {"columns": SEARCHES | {"query": sql}}
    message = error_of(spark, tmp_path, source)
    assert message.startswith(f"inputs.searches.{key}: ")
    assert says in message


def test_numbers_in_text_files_need_a_cast(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"user_id": "u1", "query": "tea", "at": 1772323200}\n')
    source = {"path": str(tmp_path / "s.json"), "format": "json"}
    columns = {"user_id": "user_id", "query": "query", "searched_at": "timestamp_seconds(at)"}
    message = error_of(spark, tmp_path, {**source, "columns": columns})
    assert "JSON gives text: CAST(... AS BIGINT) makes a number of it. Correct inputs.searches.columns.sea" in message
    rows = rows_of(spark, **source, columns=columns | {"searched_at": "timestamp_seconds(CAST(at AS BIGINT))"})
    assert rows[0].searched_at.isoformat() == "2026-03-01T00:00:00"


def test_a_missing_column_is_named_with_the_existing_ones(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(searches().drop_columns(["query"]), tmp_path / "a.parquet")
    message = error_of(spark, tmp_path, {"path": str(tmp_path / "a.parquet")})
    assert "a.parquet has no column query, which searches needs. It has user_id, searched_at. Map it: " in message
    (tmp_path / "empty.csv").touch()
    message = error_of(spark, tmp_path, {"path": str(tmp_path / "empty.csv"), "format": "csv"})
    assert "It has no columns: is the file empty?" in message


def test_csv_that_cannot_be_read(spark: SparkSession, tmp_path: Path) -> None:
    text = "user_id,query,searched_at\n" + "".join(f"u{i},word {i * i},2026-03-01\n" for i in range(20000))
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(text.encode())[:20000])
    message = error_of(spark, tmp_path, {"path": str(tmp_path / "s.csv.gz"), "format": "csv"})
    assert "s.csv.gz cannot be read as csv: it is truncated, damaged" in message
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.csv").write_text("user_id,query,searched_at\nu1,tea,2026-03-01\n")
    (tmp_path / "s" / "b.csv").write_text("query,user_id,searched_at\ntea,u1,2026-03-01\n")
    message = error_of(spark, tmp_path, {"path": str(tmp_path / "s"), "format": "csv"})
    assert "b.csv cannot be read as csv" in message
    assert "has another header than the first file" in message


@pytest.mark.parametrize(
    ("rows", "where", "says"),
    [
        ("", None, "inputs.purchases: {path} has no rows. Give a table with rows."),
        ("u1,2026-03-01\n", "user_id = 'x'", "inputs.purchases: {path} has no rows after inputs.purchases.where."),
        (
            "u1,2026-04-01\n,2026-03-01\n",
            None,
            "no row of {path} can be used as of 2026-03-31: 2 read, 0 used, 1 quarantined, 0 opted out, 0 duplicates, "
            "1 outside window, 0 returned; 1 broke user_id_not_null (user_id is null or empty)",
        ),
    ],
)
def test_a_night_needs_purchases(spark: SparkSession, tmp_path: Path, rows: str, where: str | None, says: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text("user_id,purchased_at\n" + rows)
    columns = {"user_id": "user_id", "item_id": "'i'", "purchased_at": "purchased_at", "title": "'Tea'"}
    source = {"path": str(path), "format": "csv", "columns": columns, "where": where}
    config = Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": {"purchases": source}})
    with pytest.raises(InputError) as caught:
        read_inputs(spark, config, date(2026, 3, 31), str(tmp_path / "work"))
    assert says.format(path=path) in str(caught.value)


def test_a_csv_without_a_header_repeats_no_row(spark: SparkSession, tmp_path: Path) -> None:
    """The first row is a customer's: its values are in no message."""
    (tmp_path / "orders.csv").write_text("C00017,tea for Anna,2026-01-01 10:00:00\n", encoding="utf-8")
    source = InputSettings(path=str(tmp_path / "orders.csv"), format="csv")
    with pytest.raises(InputError, match=r"has no column user_id.*write options: \{header: false\}") as caught:
        map_columns(open_source(spark, "purchases", source).rows, "purchases", source)
    named = source.model_copy(update={"columns": {"user_id": "customer"}})
    with pytest.raises(InputError, match=r"has no column `customer`.*look like values") as other:
        map_columns(open_source(spark, "purchases", named).rows, "purchases", named)
    for said in (str(caught.value), str(other.value)):
        assert "C00017" not in said
        assert "Anna" not in said
