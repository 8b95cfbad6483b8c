"""Files that a reader gives up on end in one message that names the file and no value."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.profiling.guessing import guess_tables
from jobs.profiling.source_files import read_files
from jobs.spark.errors import InputError


def unclosed_quote(folder: Path) -> Path:
    file = folder / "orders.csv"
    rows = [f'{n};"Anna{n}";3,50' for n in range(300)]
    rows[5] = '5;"Anna5;3,50'
    file.write_text("id;name;preis\n" + "\n".join(rows))
    return file


def huge_cell(folder: Path) -> Path:
    file = folder / "orders.csv"
    file.write_text("a,b\n" + "x" * 200_000 + ",1\n")
    return file


def huge_number(folder: Path) -> Path:
    file = folder / "reviews.jsonl"
    file.write_text('{"rating": 1e400, "text": "fine"}\n')
    return file


def deep_nesting(folder: Path) -> Path:
    file = folder / "reviews.jsonl"
    file.write_text('{"a":' * 100_000 + "1" + "}" * 100_000 + "\n")
    return file


def far_cell(folder: Path) -> Path:
    """A spreadsheet of some kB with one cell in its last row and column."""
    file = folder / "orders.xlsx"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    with zipfile.ZipFile(file, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
        )
        relations = "http://schemas.openxmlformats.org/package/2006/relationships"
        office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/worksheet" '
            'Target="worksheets/sheet1.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets>'
            "</workbook>",
        )
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet xmlns="{main}"><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
            '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>',
        )
    return file


def pipe(folder: Path) -> Path:
    """A pipe that nobody writes into: a reader of it would wait for ever."""
    os.mkfifo(folder / "orders.csv")
    return folder / "orders.csv"


def folder_of_spreadsheets(folder: Path) -> Path:
    far_cell(folder)
    return folder


@pytest.mark.parametrize("write", [unclosed_quote, deep_nesting, far_cell, pipe, folder_of_spreadsheets])
def test_a_file_that_cannot_be_read_is_named(write: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    file = write(tmp_path / "shop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as refusal:
        read_files([file], tmp_path / "converted")
    assert str(file) in str(refusal.value)
    assert "Anna" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written beside the shop's files"


@pytest.mark.parametrize("write", [huge_cell, huge_number])
def test_huge_values_are_read(write: Callable[[Path], Path], tmp_path: Path) -> None:
    (found,) = read_files([write(tmp_path)], tmp_path / "converted")
    assert found.rows == 1
    guess_tables([found])


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_file_of_forty_columns_is_not_too_wide(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "orders.csv"
    rows = [[f"column_{n}" for n in range(40)], *([f"{row}.{n}" for n in range(40)] for row in range(30))]
    file.write_text("\n".join(separator.join(row) for row in rows))
    (found,) = read_files([file], tmp_path / "converted")
    assert len(found.columns) == 40
