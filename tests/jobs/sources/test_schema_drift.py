"""Schema drift within a source is refused or reported; unreadable files are refused, or skipped and counted."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.input_settings import InputSettings
from jobs.inputs.quarantine import collect_quarantine
from jobs.inputs.row_accounting import ReadTable, RowAccount
from jobs.inputs.table_scan import Scan, read_table
from jobs.sources.schema_drift import merge_schemas
from jobs.spark.errors import BadFile, InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

END = datetime(2026, 4, 1, tzinfo=UTC)
AT = datetime(2026, 3, 1, tzinfo=UTC)


def reviews(names: str = "", **columns: Any) -> pa.Table:
    """Return two reviews; `columns` replaces columns or, as None, removes them; ids start with `names`."""
    values: dict[str, Any] = {
        "review_id": [f"{names}1", f"{names}2"],
        "user_id": ["u1", "u2"],
        "item_id": ["i1", "i2"],
        "rating": pa.array([5, 1], pa.int32()),
        "text": ["good", "bad"],
        "reviewed_at": pa.array([AT, AT], pa.timestamp("us", tz="UTC")),
    }
    return pa.table({name: value for name, value in (values | columns).items() if value is not None})


def read(spark: SparkSession, folder: Path, **source: Any) -> ReadTable:
    parsed = InputSettings.model_validate({"path": str(folder / "reviews"), **source})
    return read_table(Scan(spark, "reviews", parsed, {}, END, str(folder / "work"), str))


def written(folder: Path, *tables: pa.Table) -> None:
    for name, table in zip("abc", tables, strict=False):
        (folder / f"reviews/day={name}").mkdir(parents=True)
        pq.write_table(table, folder / f"reviews/day={name}/{name}.parquet")


def test_a_renamed_column_is_refused_by_column_and_file(spark: SparkSession, tmp_path: Path) -> None:
    written(tmp_path, reviews("a"), reviews("b", text=None, body=["fine", "poor"]))
    with pytest.raises(InputError, match=r"inputs\.reviews: file:.*/b\.parquet has no column text, which reviews need"):
        read(spark, tmp_path)
    names = {name: name for name in ("review_id", "user_id", "item_id", "reviewed_at")}
    with pytest.raises(
        InputError, match=r"columns\.text: file:.*/b\.parquet has no column `text`. It has .* body, day"
    ):
        read(spark, tmp_path, columns=names | {"text": "trim(text)"})
    found = read(spark, tmp_path, columns=names | {"text": "coalesce(text, body)"}, where="day < 'c'")
    assert {row.text for row in found.used.collect()} == {"good", "bad", "fine", "poor"}


def test_added_widened_and_case_changed_columns_are_read(spark: SparkSession, tmp_path: Path) -> None:
    wide = reviews("b", rating=None, Rating=pa.array([4, 2], pa.int64()), channel=["app", "web"])
    written(tmp_path, wide, reviews("a"), reviews("c", rating=None))
    found = read(spark, tmp_path)
    rated = {row.review_id: row.rating for row in found.used.collect()}
    assert rated == {"a1": 5, "a2": 1, "b1": 4, "b2": 2, "c1": None, "c2": None}
    (note,) = found.notes
    assert note.endswith("/day=c/c.parquet has no column rating, which other files have")


def test_a_nested_column_that_moved_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    body = pa.array([{"text": "good", "stars": 5}, {"text": "bad", "stars": 1}])
    moved = pa.array([{"words": "good"}, {"words": "bad"}])
    written(tmp_path, reviews("a", text=None, body=body), reviews("b", text=None, body=moved))
    names = {name: name for name in ("review_id", "user_id", "item_id", "reviewed_at")}
    with pytest.raises(InputError, match=r"inputs\.reviews\.columns\.text: .*`text`") as caught:
        read(spark, tmp_path, columns=names | {"text": "body.text"})
    assert "Correct inputs.reviews.columns.text" in str(caught.value)


def test_a_retyped_column_is_refused_by_column_and_file(spark: SparkSession, tmp_path: Path) -> None:
    written(tmp_path, reviews("a"), reviews("b", text=pa.array([1, 2])))
    says = (
        r"the column text is bigint in file:.*/b\.parquet but string in file:.*/a\.parquet\. reviews\.text is string: "
    )
    with pytest.raises(InputError, match=says + "write all files with that type, then run the command again"):
        read(spark, tmp_path)


def test_a_type_that_spark_does_not_have_is_refused_by_column_and_file(spark: SparkSession, tmp_path: Path) -> None:
    nanoseconds = pa.array([AT, AT], pa.timestamp("ns", tz="UTC"))
    written(tmp_path, reviews("a"), reviews("b", reviewed_at=nanoseconds))
    says = r"inputs\.reviews\.path: the column reviewed_at of file:.*/b\.parquet has the type INT64 \(TIMESTAMP\(NANOS"
    with pytest.raises(InputError, match=says):
        read(spark, tmp_path)


def test_a_column_without_values_and_type_is_read_as_nulls(spark: SparkSession, tmp_path: Path) -> None:
    """A frame of pandas whose column is None throughout has no type in Parquet. The first and the last file lack it."""
    written(tmp_path, reviews("a", rating=pa.nulls(2)), reviews("b"), reviews("c", text=pa.nulls(2)))
    try:
        found = read(spark, tmp_path)
        rated = {row.review_id: (row.rating, row.text) for row in found.used.collect()}
    finally:
        spark.conf.set("spark.sql.parquet.enableVectorizedReader", "true")
    whole = {"b1": (5, "good"), "b2": (1, "bad")}
    assert rated == whole | {"a1": (None, "good"), "a2": (None, "bad"), "c1": (5, None), "c2": (1, None)}


def test_a_time_without_values_and_type_is_refused_by_column_and_file(spark: SparkSession, tmp_path: Path) -> None:
    written(tmp_path, reviews("a", reviewed_at=pa.nulls(2)), reviews("b"))
    says = r"inputs\.reviews\.path: the column reviewed_at of file:.*/a\.parquet has no values and no type, but it is"
    with pytest.raises(InputError, match=says):
        read(spark, tmp_path)


@pytest.mark.usefixtures("spark")  # Spark parses types in its JVM
def test_merged_schemas_ignore_case() -> None:
    from pyspark.sql.types import _parse_datatype_string as parsed

    one, other = parsed("a int, b struct<x:int>, c string"), parsed("A bigint, b struct<y:string>, c int")
    assert merge_schemas([one, other]).simpleString() == "struct<a:bigint,b:struct<x:int,y:string>,c:string>"


def test_a_renamed_key_of_json_is_reported_and_a_rare_one_is_not(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    for name, stars, count in (("a", "rating", 40), ("b", "stars", 40), ("c", "stars", 1)):
        common = {"user_id": "u1", "item_id": "i1", stars: 5, "reviewed_at": str(AT)}
        rows = [common | {"review_id": f"{name}{n}", "text": f"good {n}"} for n in range(count)]
        (tmp_path / f"reviews/{name}.json").write_text("\n".join(map(json.dumps, rows)))
    found = read(spark, tmp_path, format="json")
    assert found.account == RowAccount(81, used=81)
    (note,) = found.notes  # none of c: one row may lack what most have
    assert re.fullmatch(
        r"inputs\.reviews: file:.*/b\.json has no rating in any of its 40 rows, which other files have", note
    )


def bad_files(folder: Path, form: str) -> None:
    """Write a valid file, a truncated one, one of zero bytes and one of another format."""
    (folder / "reviews").mkdir()
    if form == "parquet":
        for name in ("b", "d"):
            pq.write_table(reviews(name), folder / f"reviews/{name}.parquet")
        (folder / "reviews/d.parquet").write_bytes((folder / "reviews/d.parquet").read_bytes()[:500])
    else:
        lines = [f"b{n},u{n},i1,5,word {n * n},2026-03-01" for n in range(5000)]
        text = "\n".join(["review_id,user_id,item_id,rating,text,reviewed_at", *lines, ""]).encode()
        (folder / "reviews/b.csv.gz").write_bytes(gzip.compress(text))
        (folder / "reviews/d.csv.gz").write_bytes(gzip.compress(text.replace(b"\nb", b"\nd"))[:9000])
    (folder / f"reviews/c.{form}").touch()
    (folder / f"reviews/e.{form}").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)


@pytest.mark.parametrize("form", ["parquet", pytest.param("csv", marks=pytest.mark.slow)])
def test_bad_files_are_skipped_up_to_the_limit(spark: SparkSession, tmp_path: Path, form: str) -> None:
    bad_files(tmp_path, form)
    with pytest.raises(BadFile, match=r"inputs\.reviews"):
        read(spark, tmp_path, format=form, max_bad_files=2)
    found = read(spark, tmp_path, format=form, max_bad_files=3)
    rows = 2 if form == "parquet" else 5000
    assert found.account == RowAccount(rows, used=rows)
    assert found.rejected_by_rule == {"file_unreadable": 3}
    kept = collect_quarantine(spark, {"reviews": found.written}, {"reviews": found.excluded_files}).collect()
    assert {row.source_file[0] for row in kept} == {"c", "d", "e"}
    assert {(row.table, row.rule) for row in kept} == {("reviews", "file_unreadable")}
