"""Names of columns are told from the first row of a file without a header."""

from __future__ import annotations

import pytest

from jobs.profiling.column_names import are_names


@pytest.mark.parametrize(
    "columns",
    [
        ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"],
        ["BelegNr", "KdNr", "ArtNr", "Menge", "Belegdatum"],
        ["reviews.id", "asins", "reviews.text"],
        ["用户", "商品", "时间"],
        ["user_id"],
    ],
)
def test_headers_of_shops_are_names(columns: list[str]) -> None:
    assert are_names(columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["17850", "85123A", "WHITE HANGING HEART", "6", "2010-12-01 08:26:00"],
        ["anna@example.com", "order", "date"],
        ["Anna Smith", "green tea", "lovely"],
        ["C0000042"],
        ["张伟"],
        ["item", "5", "1/2/2024"],
    ],
)
def test_a_customers_row_is_no_names(columns: list[str]) -> None:
    assert not are_names(columns)
