"""Paths with brackets, braces, stars and colons, and files that are archives."""

from __future__ import annotations

import shutil
import zipfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.config.config import load
from jobs.inputs.reader import Inputs, read_inputs
from jobs.sources.paths import local_matches
from jobs.spark.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = date(2026, 3, 31)
COLUMNS = {"user_id": "user_id", "item_id": "'i1'", "purchased_at": "'2026-03-01'", "title": "'Tea'"}


def read(spark: SparkSession, folder: Path, **source: Any) -> Inputs:
    """Read purchases as the file in the folder configures them; the work folder lies below it too."""
    content = {
        "store": "store",
        "timezone": "Europe/London",
        "inputs": {"purchases": {"columns": COLUMNS, "format": "csv", **source}},
    }
    (folder / "regulars.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    config = load(folder / "regulars.yaml")
    return read_inputs(spark, config, DAY, f"{config.store}/work/1")


def users(inputs: Inputs) -> list[str]:
    return sorted(row.user_id for row in inputs.used["purchases"].collect())


def csv(path: Path, *users: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["user_id", *users]) + "\n")


def test_a_folder_with_special_characters(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "shop [eu] {a,b} 50%* \\x"
    csv(folder / "data" / "p.csv", "u1")
    csv(folder / "data" / "q.csv", "u2")
    csv(folder / "12:00 [a]" / "a:b[1].csv", "u4")
    assert users(read(spark, folder, path="12:00 [a]")) == ["u4"]
    assert users(read(spark, folder, path="12:*/*")) == ["u4"]
    assert users(read(spark, folder, path="data")) == ["u1", "u2"]
    assert users(read(spark, folder, path="data/[ap]*.csv")) == ["u1"]
    assert users(read(spark, folder, path=["data/{p,x}.csv", "data/q.csv"])) == ["u1", "u2"]
    pq.write_table(pa.table({"user_id": ["u3"]}), folder / "p.parquet")
    assert users(read(spark, folder, path="p.parquet", format="parquet")) == ["u3"]
    with pytest.raises(InputError) as caught:
        read(spark, folder, path="data/z*.csv")
    assert f"inputs.purchases.path: there is no {folder}/data/z*.csv. Correct the path or bring" in str(caught.value)


def test_a_file_of_exactly_that_name_comes_first(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("day [1].csv", "day 1.csv", "a*.csv", "ab.csv", "12:00.csv", "{eu}.csv"):
        csv(tmp_path / name, name.removesuffix(".csv"))
    assert users(read(spark, tmp_path, path="day [1].csv")) == ["day [1]"]
    assert users(read(spark, tmp_path, path="day [1-2].csv")) == ["day 1"]
    assert users(read(spark, tmp_path, path="a*.csv")) == ["a*"]
    assert users(read(spark, tmp_path, path="1[0-9]:*.csv")) == ["12:00"]
    assert users(read(spark, tmp_path, path="\\{eu\\}.csv")) == ["{eu}"]


def test_the_date_in_a_path_and_a_condition(spark: SparkSession, tmp_path: Path) -> None:
    """Without the night's date, the text '{run_date}' is greater than every date and keeps every version."""
    csv(tmp_path / "2026" / "03" / "p.csv", "u1,2026-03-31", "u2,2026-04-01")
    path = tmp_path / "2026" / "03" / "p.csv"
    path.write_text(path.read_text().replace("user_id", "user_id,valid_from"))
    source = {"path": "{run_date:%Y/%m}/p.csv", "where": "valid_from <= '{run_date}'"}
    assert users(read(spark, tmp_path, **source)) == ["u1"]


def test_snapshots_of_other_formats(spark: SparkSession, tmp_path: Path) -> None:
    """A product that left the catalogue has the title of its last snapshot, whatever the format of the date."""
    csv(tmp_path / "p.csv", "u1")
    for day, items in (("2026/03/29", "i1,Old"), ("2026/03/30", "i1,Tea"), ("2026/03/31", "i2,Cup")):
        (tmp_path / "items" / day).mkdir(parents=True)
        (tmp_path / "items" / day / "i.csv").write_text(f"item_id,title\n{items}\n")
    (tmp_path / "regulars.yaml").write_text(
        "store: store\ntimezone: Europe/London\ninputs:\n"
        "  purchases: {path: p.csv, format: csv, columns: {user_id: user_id, item_id: \"'i1'\", "
        "purchased_at: \"'2026-03-01'\"}}\n"
        "  items: {path: 'items/{run_date:%Y/%m/%d}', format: csv}\n"
    )
    config = load(tmp_path / "regulars.yaml")
    found = read_inputs(spark, config, DAY, str(tmp_path / "work")).used["items"].collect()
    assert {(row.item_id, row.title, row.available) for row in found} == {("i1", "Tea", False), ("i2", "Cup", True)}


@pytest.mark.parametrize(
    ("name", "form", "says"),
    [
        ("p.csv.zip", "csv", "p.csv.zip is a zip archive or an Excel workbook, which Spark does not read (gzip, bzip2"),
        ("p.csv", "csv", "p.csv is a zip archive or an Excel workbook"),
        ("p.xlsx", "csv", "unpack it, or save the workbook as CSV. Then run the command again"),
        ("p.json.zip", "json", "p.json.zip is a zip archive"),
        ("p.tgz", "csv", "p.tgz is an archive, which Spark does not read"),
    ],
)
def test_archives(spark: SparkSession, tmp_path: Path, name: str, form: str, says: str) -> None:
    if name.endswith(".tgz"):
        csv(tmp_path / "p.csv", "u1")
        shutil.make_archive(str(tmp_path / "p"), "gztar", tmp_path, "p.csv")
        (tmp_path / "p.tar.gz").rename(tmp_path / name)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("p.csv", "user_id\nu1\n")
    with pytest.raises(InputError) as caught:
        read(spark, tmp_path, path=name, format=form)
    assert str(caught.value).startswith("inputs.purchases.path: ")
    assert says in str(caught.value)


def test_a_column_whose_name_needs_quotes(spark: SparkSession, tmp_path: Path) -> None:
    """The message can be copied into the file: with backquotes for SQL and double quotes for YAML."""
    (tmp_path / "p.csv").write_text("user_id,行为类型\nu1,buy\nu2,view\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(spark, tmp_path, path="p.csv", where="行为类型 = 'buy'")
    mend = "where: \"`行为类型` = 'buy'\""
    assert "inputs.purchases.where: SQL needs backquotes around the column 行为类型, and YAML needs" in str(
        caught.value
    )
    assert f"Write {mend}, then run the command again." in str(caught.value)
    assert users(read(spark, tmp_path, path="p.csv", **yaml.safe_load(mend))) == ["u1"]


def test_local_matches_without_spark(tmp_path: Path) -> None:
    for name in ("a1.csv", "a2.csv", "b[1].csv"):
        csv(tmp_path / name)
    names = {
        "a*.csv": 2,
        "{a1,b*}.csv": 2,
        "b[1].csv": 1,
        "b\\[1\\].csv": 1,
        "[^a]*.csv": 1,
        "{a{1,2},c}.csv": 2,
        "c": 0,
    }
    assert {name: len(local_matches(f"{tmp_path}/{name}")) for name in names} == names
    assert local_matches(f"file:{tmp_path}/a1.csv") == [f"{tmp_path}/a1.csv"]
