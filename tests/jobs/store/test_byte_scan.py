"""Ids and phrases are found in raw bytes and decoded values, and not where they are part of another id."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.store import byte_scan
from jobs.store.byte_scan import Needles, scan
from tests.jobs.spark.test_files import NO_SPARK


@pytest.mark.parametrize(
    ("needle", "text", "count"),
    [
        ("C0012", '{"user": "C0012"}', 1),
        ("C0012", "C0012 and C0012.", 2),
        ("C0012", "C00123 XC0012", 0),
        ("17850", "0.17850 and 17850.25", 0),
        ("17850", "user 17850, again", 1),
        ("früh@x.de", "an früh@x.de", 1),
        ("u7", "u7 is too short", 0),
        ("u7", 'but not "u7"', 1),
    ],
)
def test_an_id_stands_alone(needle: str, text: str, count: int) -> None:
    assert Needles([needle]).count_in_text(text.encode()) == count


def test_a_phrase_counts_anywhere_and_an_id_before_its_length_byte() -> None:
    assert Needles([], ["theremin"]).count_in_text(b"mytheremins") == 1
    long_id = "x" * 48  # Parquet's statistics write the length 48, the digit 0, before it
    assert Needles([long_id]).count_in_raw(b"\x18" + b"0" + long_id.encode() + b"\x18") == 1
    assert Needles(["C0012"]).count_in_raw(b"C0012") == 0  # chance makes such short texts


def test_values_of_every_type_are_searched(tmp_path: Path) -> None:
    """Compressed pages hide them from a search of the bytes."""
    columns = {
        "plain": pa.array(["customer-1"] * 3),
        "listed": pa.array([["a", "customer-2"]] * 3),
        "inside": pa.array([{"deep": [{"user": "customer-3"}]}] * 3),
        "mapped": pa.array([[("customer-4", "v"), ("k", "customer-5")]] * 3, pa.map_(pa.string(), pa.string())),
        "wide": pa.array(["customer-6"] * 3, pa.large_string()),
        "coded": pa.array(["customer-7"] * 3).dictionary_encode(),
        "short": pa.array(["u8"] * 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "part.parquet", compression="zstd", write_statistics=False)
    for number in range(1, 8):
        found = scan(NO_SPARK, [str(tmp_path)], Needles([f"customer-{number}"])).found
        assert found["part.parquet"] >= 3, number
    assert scan(NO_SPARK, [str(tmp_path)], Needles(["u8"])).found == {"part.parquet": 3}
    assert scan(NO_SPARK, [str(tmp_path)], Needles(["customer-8", "custome"])).found == {}


def test_blocks_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_scan, "_BLOCK", 16)
    text = "..customer-1......customer-12...customer-1.,"
    (tmp_path / "notes.txt").write_text(text)
    done = scan(NO_SPARK, [str(tmp_path)], Needles(["customer-1"]))
    assert done.found == {"notes.txt": 2}
    assert (done.files, done.size) == (1, len(text))
