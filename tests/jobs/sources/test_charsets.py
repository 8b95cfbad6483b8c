"""Tables in other character sets than UTF-8 are read if the configuration names the set, else refused or reported."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.input_settings import InputSettings
from jobs.inputs.table_scan import Scan, read_table
from jobs.spark.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.inputs.row_accounting import ReadTable

END = datetime(2026, 4, 1, tzinfo=UTC)
HEADER = "user_id,query,searched_at\n"
CHINESE_HEADER = "用户,词,时间\n"
CHINESE_COLUMNS = {"user_id": "用户", "query": "词", "searched_at": "时间"}
ROWS = "".join(f"u{i},红茶 {i},2026-03-01\n" for i in range(20))
LINES = "".join(f'{{"user_id": "u{i}", "query": "红茶 {i}", "searched_at": "2026-03-01"}}\n' for i in range(20))


def table_of(spark: SparkSession, folder: Path, data: bytes, kind: str, **source: Any) -> ReadTable:
    path = folder / f"s.{kind}"
    path.write_bytes(data)
    parsed = InputSettings.model_validate({"path": str(path), "format": kind, **source})
    return read_table(Scan(spark, "searches", parsed, {}, END, str(folder / "work"), str))


@pytest.mark.parametrize(
    ("text", "written", "kind", "source"),
    [
        (HEADER + ROWS, "gb18030", "csv", {"options": {"encoding": "GB18030"}}),
        (HEADER + ROWS, "gbk", "csv", {"options": {"Encoding": "gbk", "multiLine": False}}),
        (HEADER + ROWS.replace("红", "紅"), "big5", "csv", {"options": {"charset": "Big5"}}),
        (HEADER + ROWS, "utf-16", "csv", {"options": {"encoding": "UTF-16"}}),
        (CHINESE_HEADER + ROWS, "gb18030", "csv", {"options": {"encoding": "GB18030"}, "columns": CHINESE_COLUMNS}),
        (HEADER + ROWS, "utf-8-sig", "csv", {}),
        (LINES, "gb18030", "json", {"options": {"encoding": "GB18030"}}),
    ],
)
def test_a_named_character_set_is_read(
    spark: SparkSession, tmp_path: Path, text: str, written: str, kind: str, source: dict[str, Any]
) -> None:
    table = table_of(spark, tmp_path, text.encode(written), kind, **source)
    assert table.account.used == 20
    assert not table.notes
    assert {row.query for row in table.used.collect()} == {
        f"{'紅' if written == 'big5' else '红'}茶 {i}" for i in range(20)
    }


@pytest.mark.parametrize(
    ("text", "written", "kind", "source", "says"),
    [
        (HEADER + ROWS, "gb18030", "csv", {}, "20 of the 20 rows of {path} have characters that could not be decoded"),
        (CHINESE_HEADER + ROWS, "gb18030", "csv", {"columns": CHINESE_COLUMNS}, "no column 用户. Its names are not in"),
        (HEADER + ROWS, "utf-16", "csv", {}, "Its names are not in UTF-8"),
        (LINES, "gb18030", "json", {}, "None of its lines is JSON in UTF-8"),
        (HEADER + ROWS, "gb18030", "csv", {"options": {"encoding": "GB18031"}}, "Java does not know the character set"),
    ],
)
def test_another_character_set_without_a_name_is_refused(
    spark: SparkSession, tmp_path: Path, text: str, written: str, kind: str, source: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        table_of(spark, tmp_path, text.encode(written), kind, **source)
    assert says.format(path=tmp_path / f"s.{kind}") in str(caught.value)
    assert "{encoding: GB18030}" in str(caught.value)


def test_a_few_or_intended_undecoded_characters_give_a_warning(spark: SparkSession, tmp_path: Path) -> None:
    good = "".join(f"u{i},red tea,2026-03-01\n" for i in range(100, 180))
    of_20 = table_of(spark, tmp_path, (HEADER + ROWS + good).encode("gb18030"), "csv")
    assert of_20.account.used == 100
    assert "20 of the 100 rows" in of_20.notes[0]
    assert "inputs.searches.options: encoding" in of_20.notes[0]
    meant = table_of(spark, tmp_path, (HEADER + ROWS).encode("gb18030"), "csv", options={"encoding": "UTF-8"})
    assert meant.account.used == 20
    assert "20 of the 20 rows" in meant.notes[0]
    one = HEADER.encode() + b"u0,caf\xe9,2026-03-01\n" + (good + good.replace("u", "v")).encode()
    assert not table_of(spark, tmp_path, one, "csv").notes
    pq.write_table(
        pa.table({"user_id": ["u1"], "query": ["\ufffd\ufffd"], "searched_at": ["2026-03-01"]}), tmp_path / "p"
    )
    parsed = InputSettings.model_validate({"path": str(tmp_path / "p")})
    lost = read_table(Scan(spark, "searches", parsed, {}, END, str(tmp_path / "work"), str))
    assert lost.account.used == 1
    assert "the program that wrote the files lost them" in lost.notes[0]
