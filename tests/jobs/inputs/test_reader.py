"""Reading the inputs: each row has one outcome, and the counts add up."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.config.settings import Config
from jobs.inputs.reader import Inputs, read_inputs
from jobs.inputs.row_accounting import RowAccount, end_of_date, refuse_imbalance
from jobs.spark.errors import ConfigurationError, GateRefused, InputError
from jobs.tables.histories import histories
from jobs.training.training_data import tables_of_reviews
from schemas import contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RUN_DATE = date(2026, 6, 30)
ITEMS = [{"item_id": "i1", "title": "Tea"}, {"item_id": "i2", "title": "Cup", "price": "2.50", "available": "false"}]
RIGHT = {
    "purchases": {"user_id": "u1", "item_id": "i1", "purchased_at": "2026-06-01 10:00:00"},
    "reviews": {
        "review_id": "r1", "user_id": "u1", "item_id": "i1", "rating": "5", "text": "good",
        "reviewed_at": "2026-06-01 10:00:00",
    },
    "searches": {"user_id": "u1", "query": "tea", "searched_at": "2026-06-01 10:00:00"},
    "items": {"item_id": "i1", "title": "Tea"},
    "optouts": {"user_id": "u1"},
    "questions": {"question_id": "q1", "text": "why", "asked_at": "2026-06-01 10:00:00"},
}  # fmt: skip
Rows = Iterable[Mapping[str, Any]]


def config_of(folder: Path, tables: Mapping[str, Rows], **changes: Any) -> Config:
    """Write JSON lines, one file per table, and return their configuration; RIGHT fills what a row omits."""
    inputs: dict[str, Any] = {}
    for table, rows in tables.items():
        (folder / table).mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({**RIGHT[table], **row}) for row in rows]
        (folder / table / "part-0.json").write_text("\n".join(lines), encoding="utf-8")
        inputs[table] = {"path": str(folder / table), "format": "json"}
    for table, change in changes.items():
        inputs[table] = {**inputs.get(table, {}), **change}
    return Config.model_validate({"store": "s", "timezone": "Europe/London", "inputs": inputs})


def read(spark: SparkSession, folder: Path, tables: Mapping[str, Rows], **changes: Any) -> Inputs:
    return read_inputs(spark, config_of(folder, tables, **changes), RUN_DATE, str(folder / "work"))


def values(df: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in df.select(*columns).collect())


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Read one small shop that has every outcome; `order_id` and `review_id` name the outcome of a row."""
    purchases = [
        {"order_id": "used"},
        {"order_id": "used", "quantity": "2"},  # the same item of the same order again: a duplicate
        {"order_id": "other order"},
        {"order_id": "no user", "user_id": "  "},
        {"order_id": "unknown item", "item_id": "i9"},
        {"order_id": "last moment", "purchased_at": "2026-06-30T22:59:59.999999Z"},  # London summer time
        {"order_id": "next day", "purchased_at": "2026-06-30T23:00:00Z"},
        {"order_id": "far future", "purchased_at": "2999-01-01"},
        {"order_id": "opted out", "user_id": "gone"},
        {"order_id": "opt-out before rule", "user_id": "gone", "quantity": "0"},
        {"order_id": "opt-out before window", "user_id": "gone", "purchased_at": "2999-01-01"},
        {"order_id": "bad time", "purchased_at": "soon"},
        {"order_id": "window before rule", "quantity": "0", "purchased_at": "2026-07-02 10:00:00"},
    ]
    reviews = [
        {"review_id": "edited", "text": "first", "reviewed_at": "2026-06-01 10:00:00"},
        {"review_id": "edited", "text": "second", "reviewed_at": "2026-06-02 10:00:00"},
        {"review_id": "edited", "text": "after the night", "reviewed_at": "2026-07-02 10:00:00"},
        {"review_id": "stars", "rating": "5 stars"},
        {"review_id": "unrated", "rating": None},
        {"review_id": "orphan", "item_id": "i9"},
        {"review_id": "by gone", "user_id": "gone"},
    ]
    tables = {
        "purchases": purchases,
        "reviews": reviews,
        "items": [*ITEMS, {"item_id": "i3", "title": ""}],
        "optouts": [{"user_id": " gone "}, {"user_id": "gone"}, {"user_id": None}],
        "searches": [{}, {}, {"query": "TEA"}, {"query": " "}],
        "questions": [{"user_id": "gone"}, {"question_id": "q2", "user_id": None}],
    }
    return read(spark, tmp_path_factory.mktemp("shop"), tables, optouts={"allow_empty": True})


def test_accounts(shop: Inputs) -> None:
    assert shop.accounts == {
        "purchases": RowAccount(13, used=3, quarantined=3, opted_out=3, duplicates=1, outside_window=3),
        "reviews": RowAccount(7, used=3, quarantined=1, opted_out=1, duplicates=1, outside_window=1),
        "items": RowAccount(3, used=2, quarantined=1),
        "optouts": RowAccount(3, used=1, quarantined=1, duplicates=1),
        "searches": RowAccount(4, used=2, quarantined=1, duplicates=1),
        "questions": RowAccount(2, used=1, opted_out=1),
    }


def test_rules(shop: Inputs) -> None:
    assert shop.rejected_by_rule == {
        ("purchases", "purchased_at_unparsable"): 1,
        ("purchases", "unknown_item"): 1,
        ("purchases", "user_id_not_null"): 1,
        ("reviews", "unknown_item"): 1,
        ("items", "title_not_blank"): 1,
        ("optouts", "user_id_not_null"): 1,
        ("searches", "query_not_blank"): 1,
    }
    assert shop.emptied_by_rule == {("reviews", "rating_unparsable"): 1}


def test_used_rows_fit_their_contracts(shop: Inputs) -> None:
    assert set(shop.used) == {"purchases", "reviews", "items", "searches", "questions"}
    for table, df in shop.used.items():
        assert df.columns == list(contract(table).column_names)
        assert [f.dataType.simpleString() for f in df.schema.fields] == [c.type for c in contract(table).columns]
    assert values(shop.used["purchases"], "order_id", "quantity") == [
        ("last moment", 1),
        ("other order", 1),
        ("used", 1),
    ]
    assert values(shop.used["reviews"], "review_id", "text") == [
        ("edited", "second"),
        ("stars", "good"),
        ("unrated", "good"),
    ]
    assert values(shop.used["reviews"].where("rating IS NULL"), "review_id") == [("stars",), ("unrated",)]
    assert values(shop.used["items"], "item_id", "title", "available") == [("i1", "Tea", True), ("i2", "Cup", False)]


def test_quarantine_names_the_row_without_quoting_it(shop: Inputs) -> None:
    assert shop.quarantine.columns == ["table", "rule", "key_hash", "user_id", "source_file", "detail"]
    rows = shop.quarantine.collect()
    assert len(rows) == sum(shop.rejected_by_rule.values())
    blank = next(row for row in rows if row.rule == "title_not_blank")
    assert blank.table == "items"
    assert blank.source_file == "part-0.json"
    assert blank.detail == "title has no characters"
    assert blank.key_hash == hashlib.sha256(b"i3").hexdigest()
    unknown = next(row for row in rows if row.table == "purchases" and row.rule == "unknown_item")
    key = "\x1f".join(["u1", "i9", "2026-06-01 10:00:00", "unknown item"])
    assert unknown.key_hash == hashlib.sha256(key.encode()).hexdigest()
    assert "5 stars" not in str(rows)
    assert "gone" not in str(rows)


def test_no_opted_out_customer_is_left(shop: Inputs) -> None:
    for df in shop.used.values():
        if "user_id" in df.columns:
            assert df.where("user_id = 'gone'").count() == 0


def outcomes(rows: list[dict[str, Any]], gone: set[str]) -> tuple[RowAccount, dict[str, int], set[tuple[str, ...]]]:
    """Compute in plain Python what becomes of purchases: their account, rejected rows by rule, keys of used rows."""
    counts = dict.fromkeys(("quarantined", "opted_out", "duplicates", "outside_window"), 0)
    rules: dict[str, int] = {}
    used: set[tuple[str, ...]] = set()
    for row in rows:
        rule = (
            "purchased_at_unparsable" if row["purchased_at"] == "junk"
            else "user_id_not_null" if not row["user_id"]
            else "quantity_not_zero" if row["quantity"] == "0"
            else "unknown_item" if row["item_id"] == "i9"
            else None
        )  # fmt: skip
        key = (row["user_id"], row["item_id"], row["purchased_at"])
        is_later = row["purchased_at"] != "junk" and row["purchased_at"] > "2026-06-30 23:59:59"
        if row["user_id"] in gone:
            counts["opted_out"] += 1
        elif rule and not is_later:
            rules[rule] = rules.get(rule, 0) + 1
            counts["quarantined"] += 1
        elif is_later:
            counts["outside_window"] += 1
        elif key in used:
            counts["duplicates"] += 1
        else:
            used.add(key)
    return RowAccount(len(rows), len(used), **counts), rules, used


def test_many_rows_agree_with_a_plain_model_in_any_order_and_partitioning(spark: SparkSession, tmp_path: Path) -> None:
    dice = random.Random(7)
    start = datetime(2026, 6, 30, 20)
    times = ["junk", *(str(start + timedelta(hours=hour)) for hour in range(8))]
    rows = [
        {
            "user_id": dice.choice(["", *(f"u{n}" for n in range(20))]),
            "item_id": dice.choice(["i1", "i2", "i9"]),
            "purchased_at": dice.choice(times),
            "quantity": dice.choice(["0", "1", "2", "3", "4"]),
        }
        for _ in range(2000)
    ]
    gone = {"u3", "u4"}
    tables = {"items": ITEMS, "optouts": [{"user_id": user} for user in gone]}
    account, rules, used = outcomes(rows, gone)
    assert min(account.duplicates, account.opted_out, account.outside_window, account.used) > 50

    first = read(spark, tmp_path / "a", {"purchases": rows, **tables})
    assert first.accounts["purchases"] == account
    assert first.rejected_by_rule == {("purchases", rule): n for rule, n in rules.items()}
    keys = first.used["purchases"].selectExpr("user_id", "item_id", "CAST(purchased_at AS string)").collect()
    assert {tuple(key) for key in keys} == used

    dice.shuffle(rows)
    config = config_of(tmp_path / "b", {"purchases": [], **tables})
    for part in range(5):
        lines = "\n".join(json.dumps(row) for row in rows[part::5])
        (tmp_path / "b" / "purchases" / f"part-{part}.json").write_text(lines, encoding="utf-8")
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        again = read_inputs(spark, config, RUN_DATE, str(tmp_path / "b" / "work"))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    assert again.accounts == first.accounts
    everything = contract("purchases").column_names
    assert sorted(map(str, again.used["purchases"].select(*everything).collect())) == sorted(
        map(str, first.used["purchases"].select(*everything).collect())
    )
    assert values(again.quarantine, "rule", "key_hash") == values(first.quarantine, "rule", "key_hash")


def test_items_are_derived_from_titled_purchases(spark: SparkSession, tmp_path: Path) -> None:
    def bought(item: str, title: str | None, order: int, at: str = "2026-06-01") -> dict[str, Any]:
        return {"item_id": item, "name": title, "order_id": str(order), "purchased_at": at}

    rows = [
        bought("a", "Red cup", 1),
        bought("a", " Red cup ", 2),
        bought("a", "Blue cup", 3),
        bought("b", "Zebra", 4),
        bought("b", "Ant", 5),
        bought("c", None, 6),
        bought("c", "  ", 7),
        bought("c", None, 8),
        bought("d", None, 9),
        bought("d", "Only once", 10),
        bought("d", None, 11),
        bought("e", "Tomorrow's", 12, at="2026-07-01"),
    ]
    mapping = {name: name for name in ("user_id", "item_id", "purchased_at", "order_id")} | {"title": "name"}
    tables = {"purchases": rows, "reviews": [{"item_id": "a"}, {"review_id": "r2", "item_id": "e"}]}
    got = read(spark, tmp_path, tables, purchases={"columns": mapping})
    assert values(got.used["items"], "item_id", "title", "available") == [
        ("a", "Red cup", True),  # the most frequent
        ("b", "Ant", True),  # a tie: first by text
        ("c", "c", True),  # none: the id
        ("d", "Only once", True),  # a title, however rare, is better than none
    ]
    assert got.accounts["items"] == RowAccount(4, used=4)
    assert got.rejected_by_rule == {("reviews", "unknown_item"): 1}
    assert got.used["purchases"].columns == list(contract("purchases").column_names)


def snapshot(folder: Path, day: str, items: Rows) -> None:
    (folder / "snapshots" / day).mkdir(parents=True)
    lines = "\n".join(json.dumps(item) for item in items)
    (folder / "snapshots" / day / "part-0.json").write_text(lines, encoding="utf-8")


def test_delisted_products_are_history_and_never_sold(spark: SparkSession, tmp_path: Path) -> None:
    tea = {"item_id": "i1", "title": "Tea"}
    snapshot(tmp_path, "2026-06-01", [tea, {"item_id": "old", "title": "First name"}])
    snapshot(tmp_path, "2026-06-29", [tea, {"item_id": "old", "title": "Last name", "category": "cups", "price": "3"}])
    snapshot(tmp_path, "2026-06-30", [tea])
    snapshot(tmp_path, "2026-07-01", [tea, {"item_id": "new", "title": "Not yet"}])
    (tmp_path / "snapshots" / "notes-2026-06-02").mkdir()
    purchases = [{}, {"item_id": "old", "unit_price": "3"}, {"item_id": "new"}, {"item_id": "i9"}]
    source = {"path": str(tmp_path / "snapshots" / "{run_date}"), "format": "json"}
    reviews = [{"item_id": "old"}, {"review_id": "r2", "item_id": "i9"}]
    found = read(spark, tmp_path, {"purchases": purchases, "reviews": reviews}, items=source)
    assert values(found.used["purchases"], "item_id") == [("i1",), ("old",)]
    assert values(found.used["reviews"], "item_id") == [("old",)]
    assert found.rejected_by_rule == {("purchases", "unknown_item"): 2, ("reviews", "unknown_item"): 1}
    assert values(found.used["items"], "item_id", "title", "category", "available") == [
        ("i1", "Tea", None, True),
        ("old", "Last name", "cups", False),
    ]
    assert found.accounts["items"] == RowAccount(1, used=1)
    assert found.notes == []
    (customer,) = histories(found.used, 10).collect()
    assert {event.title for event in customer.events} == {"Tea", "Last name"}
    # On an earlier date only the snapshots before it count.
    early = read_inputs(
        spark,
        config_of(tmp_path, {"purchases": purchases}, items=source),
        date(2026, 6, 1),
        str(tmp_path / "early"),
    )
    assert values(early.used["items"], "title", "available") == [("First name", True), ("Tea", True)]


def test_earlier_snapshots_that_cannot_be_read_are_reported(spark: SparkSession, tmp_path: Path) -> None:
    snapshot(tmp_path, "2026-06-29", [{"item_id": "old", "name": "Cup"}])
    snapshot(tmp_path, "2026-06-30", [{"item_id": "i1", "title": "Tea"}])
    source = {"path": str(tmp_path / "snapshots" / "{run_date}"), "format": "json"}
    found = read(spark, tmp_path, {"purchases": [{}, {"item_id": "old"}]}, items=source)
    assert found.accounts["purchases"] == RowAccount(2, used=1, quarantined=1)
    (note,) = found.notes
    assert "the earlier snapshots cannot be read" in note
    assert "has no column title" in note


def test_products_that_purchases_name_are_history(spark: SparkSession, tmp_path: Path) -> None:
    mapping = {name: name for name in ("user_id", "item_id", "purchased_at")} | {"title": "name"}
    purchases = [
        {"name": "Tea bag"},
        {"item_id": "old", "name": "Old cup"},
        {"item_id": "i9", "name": " "},
        {"item_id": "later", "name": "Later", "purchased_at": "2026-07-01 10:00:00"},
    ]
    reviews = [{"item_id": "old"}, {"review_id": "r2", "item_id": "later"}]
    tables = {"purchases": purchases, "items": ITEMS, "reviews": reviews}
    found = read(spark, tmp_path, tables, purchases={"columns": mapping})
    assert values(found.used["purchases"], "item_id") == [("i1",), ("old",)]
    assert found.rejected_by_rule == {("purchases", "unknown_item"): 1, ("reviews", "unknown_item"): 1}
    assert values(found.used["items"], "item_id", "title", "available") == [
        ("i1", "Tea", True),
        ("i2", "Cup", False),
        ("old", "Old cup", False),
    ]


def test_products_that_where_leaves_out_are_history_and_never_sold(spark: SparkSession, tmp_path: Path) -> None:
    items = [
        {"blocked": "no"},
        {"item_id": "old", "title": "Knife", "price": "12,50", "blocked": "yes"},
        {"item_id": "old", "title": "A knife", "blocked": "yes"},
        {"item_id": "bare", "title": " ", "blocked": "yes"},
    ]
    purchases = [{}, {"item_id": "old"}, {"item_id": "bare"}]
    tables = {"purchases": purchases, "items": items, "reviews": [{"item_id": "old", "text": None}]}
    found = read(spark, tmp_path, tables, items={"where": "blocked = 'no'"})
    assert values(found.used["items"], "item_id", "title", "available") == [
        ("i1", "Tea", True),
        ("old", "A knife", False),
    ]
    assert values(found.used["purchases"], "item_id") == [("i1",), ("old",)]
    assert values(found.used["reviews"], "item_id", "text") == [("old", None)]
    assert found.accounts["items"] == RowAccount(1, used=1)
    assert found.rejected_by_rule == {("purchases", "unknown_item"): 1}
    assert found.emptied_by_rule == {}


def test_inputs_that_miss_each_other_are_reported(spark: SparkSession, tmp_path: Path) -> None:
    few = [{"order_id": str(number), "item_id": "i1" if number < 8 else "i9"} for number in range(10)]
    assert read(spark, tmp_path / "few", {"purchases": few, "items": ITEMS}).notes == []
    many = [{"order_id": str(number), "item_id": "i1" if number < 3 else "i9"} for number in range(10)]
    (note,) = read(spark, tmp_path / "many", {"purchases": many, "items": ITEMS}).notes
    assert note.startswith(
        "inputs.purchases and inputs.items miss each other: 7 of 10 rows (70%) name an id in item_id"
    )


@pytest.mark.parametrize(
    ("zone", "day", "instant"),
    [
        ("Europe/London", date(2026, 6, 30), datetime(2026, 6, 30, 23, tzinfo=UTC)),
        ("Europe/London", date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC)),
        ("Asia/Shanghai", date(2026, 6, 30), datetime(2026, 6, 30, 16, tzinfo=UTC)),
        ("America/New_York", date(2026, 10, 31), datetime(2026, 11, 1, 4, tzinfo=UTC)),
        ("America/New_York", date(2026, 11, 1), datetime(2026, 11, 2, 5, tzinfo=UTC)),  # a day of 25 hours
        ("America/Santiago", date(2026, 9, 5), datetime(2026, 9, 6, 4, tzinfo=UTC)),  # that midnight does not exist
    ],
)
def test_end_of_a_date_in_the_shops_zone(zone: str, day: date, instant: datetime) -> None:
    assert end_of_date(day, zone).timestamp() == instant.timestamp()


def test_an_account_that_does_not_add_up_ends_the_night() -> None:
    refuse_imbalance("purchases", RowAccount(10, used=5, quarantined=1, opted_out=1, duplicates=1, outside_window=2))
    with pytest.raises(GateRefused, match="rows of purchases do not add up: 10 read, 5 used, 4 quarantined") as caught:
        refuse_imbalance("purchases", RowAccount(10, used=5, quarantined=4))
    assert caught.value.exit_code == 4


def test_the_session_must_keep_the_shops_time(spark: SparkSession, tmp_path: Path) -> None:
    config = config_of(tmp_path, {"purchases": [{}], "items": ITEMS}).model_copy(update={"timezone": "Asia/Tokyo"})
    with pytest.raises(ValueError, match="session's time zone is Europe/London, the shop's is Asia/Tokyo"):
        read_inputs(spark, config, RUN_DATE, str(tmp_path / "work"))


def test_reviews_alone_are_enough_if_they_have_a_row(spark: SparkSession, tmp_path: Path) -> None:
    tables = {"reviews": [{}, {"review_id": "r2"}], "optouts": [{"user_id": None}]}
    config = config_of(tmp_path, tables, optouts={"allow_empty": True})
    wanted = tables_of_reviews(config.inputs)
    found = read_inputs(spark, config, RUN_DATE, str(tmp_path / "work"), wanted)
    assert {table: account.used for table, account in found.accounts.items()} == {"reviews": 2, "optouts": 0}
    with pytest.raises(InputError, match=r"inputs\.reviews: no row of .* can be used as of 2026-05-01"):
        read_inputs(spark, config, date(2026, 5, 1), str(tmp_path / "early"), wanted)
    with pytest.raises(ConfigurationError, match=r"inputs\.purchases is missing: name the table"):
        read_inputs(spark, config, RUN_DATE, str(tmp_path / "night"))


def test_gzip_is_read(spark: SparkSession, tmp_path: Path) -> None:
    config = config_of(tmp_path, {"purchases": [], "items": ITEMS})
    text = "\n".join(json.dumps({**RIGHT["purchases"], "order_id": str(n)}) for n in range(3))
    (tmp_path / "purchases" / "part-0.json").unlink()
    (tmp_path / "purchases" / "part-0.json.gz").write_bytes(gzip.compress(text.encode()))
    assert read_inputs(spark, config, RUN_DATE, str(tmp_path / "work")).accounts["purchases"] == RowAccount(3, used=3)
