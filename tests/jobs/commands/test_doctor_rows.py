"""`regulars init` and `regulars doctor --rows` together: Spark reads what init writes, and doctor says the rest."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from jobs.commands.doctor_rows import check_rows
from jobs.config.config import load
from tests.jobs.commands.exports import LAYOUTS, german_shop
from tests.jobs.commands.test_init import written


def checked(spark, config: Path, rows: int = 50) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=1000)
    return check_rows(spark, load(config), rows, console), console.file.getvalue()


def test_spark_rejects_no_row_of_any_layout_by_the_mapping_that_init_writes(spark, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        folder = tmp_path / layout.__name__
        folder.mkdir()
        tables = layout(folder)
        written(folder, timezone="Europe/London")
        healthy, printed = checked(spark, folder / "regulars.yaml")
        assert healthy, printed
        assert printed.count(" 0 of the first ") == len(tables), printed


def test_doctor_shows_every_broken_input_and_no_value(spark, tmp_path: Path) -> None:
    german_shop(tmp_path)
    (tmp_path / "regulars.yaml").write_text(
        """
        store: store
        timezone: Europe/London
        inputs:
          purchases:
            path: bestellungen.csv
            format: csv
            options: {sep: ";"}
            columns: {user_id: Kundennummer, item_id: Artikelnr, purchased_at: Bestelldatum, unit_price: Einzelpreis}
          items:
            path: artikel.csv
            format: csv
            options: {sep: ";", encoding: windows-1252}
            columns: {item_id: Artikelnr, title: Bezeichnung, price: Preis, available: lieferbar}
          optouts: {path: abmeldungen.csv, format: csv}
        """
    )
    (tmp_path / "abmeldungen.csv").write_text("user_id\n")
    healthy, printed = checked(spark, tmp_path / "regulars.yaml")
    assert not healthy
    assert "50 of the first 50 rows are rejected" in printed
    assert "inputs.purchases.columns.purchased_at: try_to_timestamp(Bestelldatum, 'd.M.yyyy H:mm')" in printed
    assert "inputs.purchases.columns.unit_price: replace(" in printed
    assert "has no column `Preis`" in printed
    assert "99.99.9999 99:99" in printed
    assert ".11.2025" not in printed
    assert "✗ inputs.optouts: 0 of the first 0 rows are rejected" in printed  # a night refuses an empty list
