"""An evening that reads only new files beside kept rows has the tables and counts of one that reads everything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from jobs.config.privacy import privacy_key
from jobs.config.settings import Config
from jobs.inputs.known_rows import KnownInputs
from jobs.inputs.reader import Inputs, read_inputs
from jobs.inputs.row_accounting import end_of_date
from jobs.sources.file_versions import StartFromNothing
from jobs.spark.privacy_key import keyed_hash
from tests.erasable import search
from tests.jobs.inputs.test_reader import RIGHT, RUN_DATE, config_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BEFORE = RUN_DATE - timedelta(days=1)
TABLES = ("purchases", "reviews")
ITEMS = [{"item_id": "i1", "title": "Tea"}, {"item_id": "i2", "title": "Cup"}]


def bought(order: str, user: str = "u1", item: str = "i1", quantity: int = 1, at: str = "2026-06-01") -> dict[str, Any]:
    return {"order_id": order, "user_id": user, "item_id": item, "quantity": quantity, "purchased_at": at}


def reviewed(review: str, user: str = "u1", rating: int = 5, at: str = "2026-06-01 10:00:00") -> dict[str, Any]:
    return {"review_id": review, "user_id": user, "rating": rating, "reviewed_at": at}


FIRST = {
    "purchases": [
        bought("kept", "u1", quantity=3),
        bought("repeated later", "u2", quantity=2),
        bought("returned later", "u3", quantity=2),
        bought("returned at once", "u4"),
        bought("return", "u4", quantity=-1, at="2026-06-02"),
        bought("unknown until tomorrow", "u5", "i3"),
        bought("unknown", "u5", "i9"),
        bought("tomorrow", "u1", at="2026-06-30 12:00:00"),
        bought("next year", "u1", at="2027-01-01"),
        bought("next year, opts out tomorrow", "u6", at="2027-01-01"),
        bought("tomorrow, opts out tomorrow", "u6", at="2026-06-30 12:00:00"),
        bought("tomorrow, unknown until tomorrow", "u5", "i3", at="2026-06-30 12:00:00"),
        bought("tomorrow, no user", " ", at="2026-06-30 12:00:00"),
        bought("tomorrow, no price", "u4", at="2026-06-30 12:00:00") | {"unit_price": "none"},
        bought("tomorrow, return", "u1", quantity=-2, at="2026-06-30 13:00:00"),
        bought("tomorrow, return without purchase", "u4", "i2", quantity=-1, at="2026-06-30 13:00:00"),
        bought("opts out tomorrow", "u6"),
        bought("return without purchase", "u7", quantity=-1),
        bought("opted out", "gone"),
    ],
    "reviews": [
        reviewed("r1", "u1"),
        reviewed("r2", "u2"),
        *(reviewed("r3", "u3", rating, f"2026-06-0{rating} 10:00:00") for rating in (4, 5)),
        reviewed("r4", "u6"),
    ],
}
NEW = {
    "purchases": [
        bought("late", "u2", "i2", at="2026-05-01"),
        bought("repeated later", "u2", quantity=1),
        bought("return later", "u3", quantity=-1, at="2026-06-30"),
        bought("covers the return", "u7", at="2026-05-01"),
        bought("no user", " "),
        bought("new customer", "u8", at="2026-06-30"),
        bought("new and next year", "u8", at="2027-01-01"),
    ],
    "reviews": [reviewed("r1", "u9", 1, "2026-06-30 10:00:00"), reviewed("r5", "u2")],
}


def add(folder: Path, rows: Mapping[str, list[dict[str, Any]]], name: str) -> None:
    for table, of_table in rows.items():
        lines = [json.dumps({**RIGHT[table], **row}) for row in of_table]
        (folder / table / name).write_text("\n".join(lines), encoding="utf-8")


def rows_of(inputs: Inputs) -> dict[str, list[tuple[Any, ...]]]:
    found = {t: sorted(map(tuple, inputs.used[t].select(*sorted(inputs.used[t].columns)).collect())) for t in TABLES}
    rejected = inputs.quarantine.select("table", "rule", "key_hash", F.coalesce("user_id", F.lit("")))
    return found | {"quarantine": sorted(map(tuple, rejected.collect()))}


def evening(
    spark: SparkSession, config: Config, day: date, work: str, known: KnownInputs | None, segment: str | None
) -> Inputs:
    return read_inputs(spark, config, day, work, (*TABLES, "items", "optouts"), known, segment=segment)


def test_new_files_and_later_rows_are_read_beside_kept_ones(spark: SparkSession, tmp_path: Path) -> None:
    tables = FIRST | {"items": ITEMS, "optouts": [{"user_id": "gone"}]}
    config = config_of(tmp_path, tables)
    first = evening(spark, config, BEFORE, f"{tmp_path}/before", None, f"{tmp_path}/kept/first")
    assert first.accounts["purchases"].outside_window == 9
    known = KnownInputs(
        folders=[f"{tmp_path}/kept/first"],
        notes=first.noted,
        end=end_of_date(BEFORE, config.timezone),
        work=f"{tmp_path}/work",
    )
    # A later night compares opt-outs by keyed hashes: what is kept has no id that could be guessed.
    key = privacy_key(spark, config)
    (kept,) = spark.read.parquet(f"{tmp_path}/kept/first/optouts").collect()
    assert kept.asDict() == {"id_hash": keyed_hash(key, "gone")}
    (number,) = spark.range(1).select(F.xxhash64(F.lit("gone"))).first() or ()
    assert first.noted["purchases"].opted_out == [keyed_hash(key, str(number))]
    assert search(tmp_path / "kept", ["gone"]) == []

    add(tmp_path, NEW, "part-1.json")
    add(tmp_path, {"items": [*ITEMS, {"item_id": "i3", "title": "Pot"}]}, "part-0.json")
    add(tmp_path, {"optouts": [{"user_id": "gone"}, {"user_id": "u6"}]}, "part-0.json")
    second = evening(spark, config, RUN_DATE, known.work, known, f"{tmp_path}/kept/second")
    whole = evening(spark, config, RUN_DATE, f"{tmp_path}/whole", None, None)
    assert rows_of(second) == rows_of(whole)
    assert second.accounts == whole.accounts
    assert second.freshness == whole.freshness
    assert second.rejected_by_rule == whole.rejected_by_rule
    changed = {table: {row["user_id"] for row in ids.collect()} for table, ids in second.changed.items()}
    assert changed == {
        "purchases": {"u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"},
        "reviews": {"u1", "u2", "u6", "u9"},
    }

    # That u6 opted out lets no review come back: only r1, which is new tonight, is of two customers.
    assert [inputs.noted["reviews"].of_others for inputs in (first, second)] == [0, 1]
    # What happens later is kept apart, of two folders the first one alone has some.
    kept = [path.parent.name for path in sorted(tmp_path.glob("kept/*/*_later"))]
    assert kept == ["first", "second"]
    assert second.accounts["purchases"].outside_window == 2
    assert second.emptied_by_rule == whole.emptied_by_rule

    # No file is new the next evening: two segments are read, and nothing else.
    both = KnownInputs(
        folders=[*known.folders, f"{tmp_path}/kept/second"],
        notes=second.noted,
        end=end_of_date(RUN_DATE, config.timezone),
        work=known.work,
        changed={table: notes.changed for table, notes in second.noted.items()},
    )
    third = evening(spark, config, RUN_DATE + timedelta(days=1), both.work, both, f"{tmp_path}/kept/third")
    assert rows_of(third) == rows_of(whole)
    assert third.accounts == whole.accounts
    assert all(ids.count() == 0 for ids in third.changed.values())

    add(tmp_path, {"optouts": [{"user_id": "u6"}]}, "part-0.json")
    with pytest.raises(StartFromNothing, match="a customer is no longer in it"):
        evening(spark, config, RUN_DATE, known.work, known, f"{tmp_path}/kept/third")
    add(tmp_path, {"optouts": [{"user_id": "gone"}, {"user_id": "u6"}, {"user_id": "u9"}]}, "part-0.json")
    with pytest.raises(StartFromNothing, match=r"inputs\.reviews one key in two customers' rows"):
        evening(spark, config, RUN_DATE, both.work, both, f"{tmp_path}/kept/third")
