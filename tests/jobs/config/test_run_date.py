"""The date of the night in paths and SQL: offsets, formats, quotes, and text in braces that is none."""

from __future__ import annotations

from datetime import date

import pytest

from jobs.config.input_settings import InputSettings
from jobs.config.run_date import check_path, check_sql, dates_in, fill_path, fill_sql, glob_of_dates

DAY = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("items/{run_date}", "items/2026-03-01"),
        ("items/{run_date:%Y/%m/%d}/{run_date-1d:%j}", "items/2026/03/01/059"),
        ("day={run_date-730d:%Y%m%d}/{a,b}/[0-9]*", "day=20240301/{a,b}/[0-9]*"),
        ("a \\{run_date\\}/{run_date+31d}", "a \\{run_date\\}/2026-04-01"),
    ],
)
def test_paths(text: str, filled: str) -> None:
    check_path(text)
    assert fill_path(text, DAY) == filled


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("day <= '{run_date}'", "day <= '2026-03-01'"),
        ("day > {run_date-730d}", "day > DATE '2024-03-01'"),
        ("day > {run_date:%Y%m%d} -- don't", "day > 20260301 -- don't"),
        ("a = 'it\\'s {run_date}' AND b < {run_date}", "a = 'it\\'s 2026-03-01' AND b < DATE '2026-03-01'"),
        ("a = 'it''s' AND b < {run_date}", "a = 'it''s' AND b < DATE '2026-03-01'"),
        ("n RLIKE '^[0-9]{4}\\\\p{L}{2,}$'", "n RLIKE '^[0-9]{4}\\\\p{L}{2,}$'"),
        ("j = '{\"a\": 1}'", "j = '{\"a\": 1}'"),
    ],
)
def test_sql(text: str, filled: str) -> None:
    check_sql(text)
    assert fill_sql(text, DAY) == filled


@pytest.mark.parametrize("text", ["{run_dat}", "${run_date}", "{{ ds }}", "{RUN_DATE}", "{run_date - 1d}"])
def test_unknown_placeholders(text: str) -> None:
    for check in (check_path, check_sql):
        with pytest.raises(ValueError, match="is not a placeholder; write"):
            check(f"x '{text}'")


def test_the_dates_of_snapshots() -> None:
    template = "/items/{run_date-1d:%Y/%m/%d}/full"
    assert glob_of_dates(template) == "/items/*/*/*/full"
    assert dates_in("/items/2026/02/28/full", template) == {DAY}
    assert dates_in("/items/2026/02/30/full", template) == set()
    assert dates_in("/2025-01-01/2026-03-01", "/*/{run_date}") == {date(2025, 1, 1), DAY}
    assert dates_in("/items/2026-03-01", "/items/*") == set()


def test_every_place_of_a_source() -> None:
    source = InputSettings.model_validate({"query": "SELECT {run_date} AS day", "where": "day < '{run_date}'"})
    filled = source.for_date(DAY)
    assert (filled.query, filled.where) == ("SELECT DATE '2026-03-01' AS day", "day < '2026-03-01'")
    jdbc = {"url": "jdbc:postgresql://host/shop", "query": "SELECT * FROM orders WHERE day > {run_date-7d}"}
    source = InputSettings.model_validate({"jdbc": jdbc})
    assert source.for_date(DAY).jdbc.query.endswith("day > DATE '2026-02-22'")
    assert source.place == "the query of jdbc"
