"""Rows that want to break a night: broken text, paths, SQL and HTML, absurd numbers and times, keys of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.config.config import Config
from jobs.inputs.row_accounting import RowAccount
from jobs.nightly import run_night
from tests.growing_shop import use_stub
from tests.models import save_causal, save_classifier

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.faults

#: As bytes: most of these are no text at all to a strict reader.
HOSTILE = [
    b"", b" ", b"\0", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\xaf",
    b"../../etc/passwd", b"/etc/passwd", b"..", b"run_date=2026-01-01", b"a/b\\c", b"%2e%2e%2f", b"file:///etc/passwd",
    b"'; DROP TABLE purchases; --", b"1 OR 1=1", b"${env:HOME}", b"{{7*7}}", b"`id`", b"$(id)", b"%s%n%x",
    b"<script>alert(1)</script>", b"<img src=x onerror=alert(1)>", b"=cmd|' /C calc'!A0", b"[bold red]x[/]", b"[/]",
    "\u202eevil\u202c".encode(), "\u200b\ufeff".encode(), "e\u0301".encode(), "\U0001f469\u200d\U0001f52c".encode(),
    "\u0130\u0131\u1e9e".encode(), "\ud7ff\ue000".encode(), "\u2028\u2029".encode(), b"\x1b[31mred", b"\r\n\t\x0b",
    b"<|endoftext|>", b"NaN", b"Infinity", b"-0", b"1e999", b"null", b"None", b"\\N", b"true", b"0x1F",
    b"2026-02-30", b"2026-13-01", b"0000-00-00", b"9999-12-31 23:59:59", b"-290308-12-21", b"1e18", b"9" * 17,
    b"2026-06-01T00:00:00+99:00", b"a@b.example", b"x" * 5000,
]  # fmt: skip
ROWS = {"purchases": 100_000, "searches": 50_000, "reviews": 50_000}
DAY = pd.Timestamp("2026-06-30").date()


def texts(values: list[bytes]) -> pa.Array:
    """Bytes as a column that says of itself that it is text: what a careless writer leaves in a file."""
    return pa.array(values, pa.binary()).view(pa.string())


def fuzzed(draw: np.random.Generator, right: list[bytes], rows: int, share: float) -> pa.Array:
    """Right values, a share of them replaced by hostile ones, cut somewhere or joined to a right one."""
    found: list[bytes] = [right[n] for n in draw.integers(len(right), size=rows)]
    for place in np.flatnonzero(draw.random(rows) < share):
        value = HOSTILE[draw.integers(len(HOSTILE))]
        kind = draw.integers(4)
        found[place] = (value, value[: draw.integers(len(value) + 1)], found[place] + value, value * 2)[kind]
    return texts(found)


def write_shop(folder: Path) -> dict[str, int]:
    draw = np.random.default_rng(0)
    items = [f"i{n}".encode() for n in range(50)]
    users = [f"u{n}".encode() for n in range(400)]
    times = [f"2026-06-{1 + n % 30:02d} {n % 24:02d}:00:00".encode() for n in range(720)]
    words = [b"tea", b"a good cup", b"late and broken", b"fine"]
    numbers = [str(n).encode() for n in range(1, 6)]
    catalogue = [*items, *HOSTILE]
    titles = [*(b"Tea " + item for item in items), *HOSTILE]
    titles[3] = b"A long title " * 80_000  # one megabyte
    columns = {
        "items": {"item_id": texts(catalogue), "title": texts(titles), "price": texts([b"1.50"] * len(titles))},
        "purchases": {
            "user_id": fuzzed(draw, users, ROWS["purchases"], 0.02),
            "item_id": fuzzed(draw, items, ROWS["purchases"], 0.02),
            "purchased_at": fuzzed(draw, times, ROWS["purchases"], 0.02),
            "quantity": fuzzed(draw, numbers, ROWS["purchases"], 0.02),
            "unit_price": fuzzed(draw, [b"2.50", b"10"], ROWS["purchases"], 0.02),
            "order_id": fuzzed(draw, [f"o{n}".encode() for n in range(50_000)], ROWS["purchases"], 0.02),
        },
        "searches": {
            "user_id": fuzzed(draw, users, ROWS["searches"], 0.02),
            "query": fuzzed(draw, words, ROWS["searches"], 0.5),
            "searched_at": fuzzed(draw, times, ROWS["searches"], 0.02),
        },
        "reviews": {
            "review_id": texts([f"r{n}".encode() for n in range(ROWS["reviews"])]),
            "user_id": fuzzed(draw, users, ROWS["reviews"], 0.02),
            "item_id": fuzzed(draw, items, ROWS["reviews"], 0.02),
            "rating": fuzzed(draw, numbers, ROWS["reviews"], 0.1),
            "text": fuzzed(draw, words, ROWS["reviews"], 0.5),
            "reviewed_at": fuzzed(draw, times, ROWS["reviews"], 0.02),
        },
    }
    for table, values in columns.items():
        pq.write_table(pa.table(values), folder / f"{table}.parquet")
    return {table: len(next(iter(values.values()))) for table, values in columns.items()}


def test_two_hundred_thousand_fuzzed_rows_make_a_night(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(spark, monkeypatch)
    written = write_shop(tmp_path)
    save_causal(tmp_path / "models/recommend")
    save_classifier(tmp_path / "models/sentiment")
    config = Config.model_validate(
        {
            "store": str(tmp_path / "store"),
            "timezone": "Europe/London",
            "inputs": {table: {"path": str(tmp_path / f"{table}.parquet")} for table in written},
            "models": {task: str(tmp_path / "models" / task) for task in ("recommend", "sentiment")},
        }
    )
    night = run_night(spark, config, DAY, Console(quiet=True), "regulars.yaml")
    for table, rows in written.items():
        account: RowAccount = night.accounts[table]
        assert account.read == rows
        assert account.used > rows / 2 if table != "items" else account.used > 50
        left = account.quarantined + account.duplicates + account.outside_window + account.returned
        assert rows == account.used + left
    assert sum(night.quarantined.values()) == night.rows["quarantine"] > 5000
    # Nothing was written beside the store, nothing in it is named by a row.
    assert {path.name for path in tmp_path.iterdir()} == {"store", "models", *(f"{table}.parquet" for table in written)}
    published = list((tmp_path / "store/tables").glob("*/*/*"))
    assert {(path.parent.name, path.name) for path in published} == {(f"run_date={DAY}", "part-00000.parquet")}
    for path in published:
        rows = duckdb.sql(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()
        assert rows == [(len(pd.read_parquet(path, partitioning=None)),)]
    lists = pd.read_parquet(tmp_path / "store/tables/recommendations")
    assert "\0" not in "".join(lists.title) + "".join(lists.user_id)
    assert not lists.user_id.str.strip().eq("").any()
