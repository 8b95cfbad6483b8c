"""Ten million synthetic events of a big shop as Parquet, made by DuckDB: what the pipeline benchmark reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

PRODUCTS, QUERIES = 50_000, 20_000


def write(connection: Any, folder: Path, events: int, customers: int, texts: Sequence[str]) -> None:
    """Purchases, searches and reviews as 6 : 3 : 1, and the products; review texts are drawn from `texts`."""
    connection.register("texts", pa.table({"n": range(len(texts)), "text": list(texts)}))
    connection.execute("select setseed(0.5)")
    user = f"'u' || cast(floor({customers} * power(random(), 1.5)) as int) user_id"
    item = f"'i' || cast(floor({PRODUCTS} * power(random(), 3)) as int) item_id"
    at = "timestamptz '2026-01-01 00:00:00+00' + to_seconds(cast(random() * 180 * 86400 as int))"
    query = f"'query words ' || cast(floor({QUERIES} * power(random(), 3)) as int) query"
    rating = "cast(1 + floor(random() * 5) as int) rating"
    tables = {
        "purchases": f"select {user}, {item}, {at} purchased_at from range({events * 6 // 10})",
        "searches": f"select {user}, {query}, {at} searched_at from range({events * 3 // 10})",
        "reviews": f"""select user_id, item_id, rating, text, reviewed_at from (
            select {user}, {item}, {rating}, {at} reviewed_at, cast(floor(random() * {len(texts)}) as int) n
            from range({events // 10})) join texts using (n)""",
        "items": f"select 'i' || range item_id, 'Some product title number ' || range title from range({PRODUCTS})",
    }
    for name, rows in tables.items():
        connection.execute(f"copy ({rows}) to '{folder / name}.parquet'")
