"""Rows of text files that are no rows: each is counted, and a file that ends inside quotes is refused by line."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config.input_settings import InputSettings
from jobs.inputs.row_accounting import ReadTable, RowAccount
from jobs.inputs.table_scan import Scan, read_table
from jobs.sources.malformed_rows import line_of_open_quotes
from jobs.spark.errors import BadFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

END = datetime(2026, 4, 1, tzinfo=UTC)
HEADER = "user_id,query,searched_at,note\n"


def read(spark: SparkSession, folder: Path, **source: Any) -> ReadTable:
    settings = InputSettings.model_validate(source)
    return read_table(Scan(spark, "searches", settings, {}, END, str(folder / "work"), str))


def row(number: int, note: str = "") -> str:
    return f"u{number},tea {number},2026-03-01 10:00:00,{note}\n"


def test_csv_rows_with_another_number_of_columns_are_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    text = (
        HEADER
        + row(1)
        + "u2,tea, green,2026-03-01 10:00:00,\n"
        + "u3,tea\n"
        + row(4, '"2026-03-01,\n5"')
        + "\n(4 rows)\n"
    )
    (tmp_path / "s.csv").write_text(text)
    # Malformed rows have no values that a condition could judge.
    found = read(spark, tmp_path, path=str(tmp_path / "s.csv"), format="csv", where="searched_at IS NOT NULL")
    assert found.account == RowAccount(5, used=2, quarantined=3)
    assert found.rejected_by_rule == {"row_malformed": 3}
    assert sorted(value.user_id for value in found.used.collect()) == ["u1", "u4"]
    rejected = found.written.where("__rule IS NOT NULL").collect()
    assert {(value.user_id, value.query) for value in rejected} == {(None, None)}, "shifted values are not kept"
    assert len({value.key_hash for value in rejected}) == 3
    # An own mode of Spark's reader says what becomes of them.
    own = read(spark, tmp_path, path=str(tmp_path / "s.csv"), format="csv", options={"mode": "DROPMALFORMED"})
    assert own.account == RowAccount(2, used=2)


def test_json_lines_that_do_not_parse_are_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    right = '{"user_id": "u1", "query": "tea", "searched_at": "2026-03-01 10:00:00"}'
    (tmp_path / "s.json").write_text(f"{right}\n{right[:30]}\nERROR 500\n\n{right.replace('u1', 'u2')}")
    found = read(spark, tmp_path, path=str(tmp_path / "s.json"), format="json")
    assert found.account == RowAccount(4, used=2, quarantined=2)
    assert found.rejected_by_rule == {"row_malformed": 2}


def test_a_field_that_holds_rows_is_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    swallowing = row(1, '"24 inch') + "".join(map(row, range(2, 8))) + row(8, 'an inch"')
    (tmp_path / "s.csv").write_text(HEADER + swallowing + row(9, '"poem,\nof\nfour,\nlines"'))
    found = read(spark, tmp_path, path=str(tmp_path / "s.csv"), format="csv")
    assert found.account == RowAccount(2, used=1, quarantined=1)
    assert found.rejected_by_rule == {"row_malformed": 1}


def test_a_file_that_ends_inside_quotes_is_refused_by_line(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "a [1]"
    folder.mkdir()
    (folder / "right.csv").write_text(HEADER + row(1, '5" pipe') + row(2, '"two\nlines"'))
    broken = HEADER + "".join(row(number, '"24 inch' if number == 40 else "") for number in range(1, 161))
    (folder / "z z.csv").write_text(broken)
    source = {"path": str(folder), "format": "csv"}
    with pytest.raises(BadFile, match=r"a \[1\]/z z.csv ends inside quotes: the row of line 41 begins them and") as bad:
        read(spark, tmp_path, **source)
    assert str(bad.value).startswith("inputs.searches.path: ")
    found = read(spark, tmp_path, **source, max_bad_files=1)
    assert (found.account, found.rejected_by_rule) == (RowAccount(2, used=2), {"file_unreadable": 1})
    plain = read(spark, tmp_path, **source, options={"quote": ""})
    assert plain.account == RowAccount(163, used=160, quarantined=1, duplicates=2)


@given(
    rows=st.lists(st.lists(st.text(alphabet='ab,"\n', max_size=6), min_size=2, max_size=3), min_size=1, max_size=5),
)
def test_the_line_of_open_quotes(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    whole = text.getvalue()
    assert line_of_open_quotes(whole.split("\n")[:-1], ",", '"', '"') is None
    # Cut inside the last field: the row of that field is named.
    last = io.StringIO()
    csv.writer(last, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(rows[-1])
    begins = whole[: len(whole) - len(last.getvalue())].count("\n") + 1
    field = rows[-1][-1].replace('"', "")
    cut = whole[: len(whole) - len(last.getvalue())] + f'"{field}'
    assert line_of_open_quotes(cut.split("\n"), ",", '"', '"') == begins
