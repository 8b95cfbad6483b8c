"""The sample shop's files: the same bytes each time, any size, known shares of dirty rows, nothing overwritten."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from jobs.config import config
from jobs.sample import SAMPLE_TABLES, write_sample
from jobs.sample.browsing import EVENT_DIRT
from jobs.sample.events import PURCHASE_DIRT
from jobs.sample.opinions import QUESTION_DIRT, REVIEW_DIRT
from jobs.sample.searches import SEARCH_DIRT
from jobs.spark.errors import UsageError
from schemas import contract
from tests.sample_shop import CHINESE, CONTROL, EMAIL, Shop, share


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(write_sample(tmp_path_factory.mktemp("shop")))


def all_bytes(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sample(tmp_path / name, customers=60, products=50, days=20, seed=seed)
    first, second, other = (all_bytes(tmp_path / name) for name in "abc")
    assert first == second
    changed = {path for path in first if first[path] != other[path]}
    assert changed == set(first) - {"data/articles/part-00000.parquet"}


def test_block_size_changes_no_row(tmp_path: Path) -> None:
    infos = [write_sample(tmp_path / str(b), customers=90, products=50, days=20, block=b) for b in (90, 40, 7)]
    shops = [Shop(info) for info in infos]
    assert len(list((infos[2].out / "data" / "purchases").iterdir())) == 13
    for other in shops[1:]:
        assert other.info.rows == shops[0].info.rows
        assert other.info.planted == shops[0].info.planted
        for table in SAMPLE_TABLES:
            assert sorted_rows(other[table]) == sorted_rows(shops[0][table]), table
        for name in ("contradictions", "personal", "answers"):
            assert sorted_rows(other.truth[name]) == sorted_rows(shops[0].truth[name]), name


def sorted_rows(frame: pd.DataFrame) -> list[str]:
    return sorted(map(repr, frame.itertuples(index=False)))


def test_a_customer_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = (Shop(write_sample(tmp_path / str(n), customers=n, products=50, days=20)) for n in (20, 70))
    ids = {f"C{c:07d}" for c in range(20)}
    for table in ("purchases", "searches", "reviews", "optouts"):
        known = few[table][few[table].user_id.notna()]
        assert sorted_rows(known) == sorted_rows(many[table][many[table].user_id.isin(ids)]), table


@settings(max_examples=25, deadline=None)
@given(customers=st.integers(1, 40), products=st.integers(1, 90), days=st.integers(1, 130), seed=st.integers(0, 2**31))
def test_every_size_gives_valid_tables(
    tmp_path_factory: pytest.TempPathFactory, customers: int, products: int, days: int, seed: int
) -> None:
    shop = Shop(write_sample(tmp_path_factory.mktemp("any"), customers, products, days, seed))
    assert shop["items"].item_id.nunique() == products
    assert shop.info.rows == {t: len(shop[t]) for t in SAMPLE_TABLES}
    assert (shop["items"].title.str.strip() == shop["items"].title).all()
    assert (shop["items"].title != "").all()
    key = ["user_id", "item_id", "purchased_at", "order_id"]
    assert shop["purchases"].duplicated(key).sum() == shop.info.planted["purchases", "duplicate"]
    start, end = (pd.Timestamp(d, tz="Europe/London") for d in ("2026-01-01", shop.info.last_day + timedelta(days=1)))
    for table in ("purchases", "searches", "reviews", "questions"):
        moments = shop[table][contract(table).time_column]
        assert (moments >= start).all()
        assert (moments >= end).sum() == shop.info.planted[table, "future"]


def test_rows_grow_with_customers_and_days(tmp_path: Path) -> None:
    base = write_sample(tmp_path / "base", customers=1000, days=30)
    wide = write_sample(tmp_path / "wide", customers=4000, days=30)
    long = write_sample(tmp_path / "long", customers=1000, days=90)
    for table in ("purchases", "searches"):
        assert wide.rows[table] / base.rows[table] == pytest.approx(4, rel=0.15)
        assert long.rows[table] / base.rows[table] == pytest.approx(3, rel=0.15)


def test_default_size(shop: Shop) -> None:
    rows = shop.info.rows
    assert 30_000 <= rows["purchases"] <= 40_000
    assert 30_000 <= rows["searches"] <= 40_000
    assert 4_500 <= rows["reviews"] <= 6_000
    assert 900 <= rows["questions"] <= 1_100
    assert (shop.info.first_day, shop.info.last_day) == (date(2026, 1, 1), date(2026, 3, 1))


def test_columns_are_the_contracts(shop: Shop) -> None:
    types = {"string": {pa.string()}, "int": {pa.int32()}, "boolean": {pa.bool_()}}
    types |= {"timestamp": {pa.timestamp("us", tz="UTC")}, "decimal(12,2)": {pa.decimal128(12, 2)}}
    for table in SAMPLE_TABLES:
        schema = pq.read_schema(next((shop.info.out / "data" / table).iterdir()))
        assert schema.names == [column.name for column in contract(table).columns]
        for column in contract(table).columns:
            expected = {pa.string()} if column.name == "rating" else types[column.type.lower()]
            assert schema.field(column.name).type in expected, (table, column.name)


def test_configuration_is_ready_to_run(shop: Shop) -> None:
    text = shop.info.config.read_text()
    assert text.splitlines()[0] == "# A sample shop, 2026-01-01 to 2026-03-01; a good run_date is 2026-03-01"
    loaded = config.load(shop.info.config)
    assert loaded.store == str(shop.info.out / "store")
    assert loaded.models.recommend == str(shop.info.out / "models" / "recommend")
    assert {table: Path(source.paths[0]) for table, source in loaded.inputs.items()} == {
        table: shop.info.out / "data" / table for table in SAMPLE_TABLES if table != "events"
    }
    assert "  # events: {path: data/events}\n" in text


def test_a_second_sample_replaces_the_first(tmp_path: Path) -> None:
    write_sample(tmp_path, customers=50, products=30, days=10, block=10)
    (tmp_path / "store").mkdir()
    write_sample(tmp_path, customers=20, products=30, days=10, block=10)
    assert len(list((tmp_path / "data" / "purchases").iterdir())) == 2
    (tmp_path / "regulars.yaml").unlink()  # as if it had been interrupted
    write_sample(tmp_path, customers=20, products=30, days=10)
    assert (tmp_path / "store").is_dir()


def test_nothing_that_is_not_a_sample_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "a" / "regulars.yaml"
    mine.parent.mkdir()
    mine.write_text("store: /shop\n")
    with pytest.raises(UsageError, match=r"regulars\.yaml was not written by .*--out"):
        write_sample(mine.parent)
    assert mine.read_text() == "store: /shop\n"
    part = tmp_path / "b" / "data" / "purchases" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"was not written by .*--out"):
        write_sample(tmp_path / "b")
    assert part.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["customers", "products", "days", "block"])
def test_numbers_below_one_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} is 0: it must be 1 or more"):
        write_sample(tmp_path / "x", **{name: 0})
    assert not (tmp_path / "x").exists()


def test_a_tenth_is_chinese(shop: Shop) -> None:
    for table, column in (("searches", "query"), ("reviews", "text"), ("questions", "text")):
        # Questions and queries may name a Chinese product in English ones: the share is a little higher there.
        assert share(shop[table][column].str.contains(CHINESE)) == pytest.approx(0.11, abs=0.045), table
    by_customer = (
        shop["searches"].assign(zh=shop["searches"]["query"].str.contains(CHINESE)).groupby("user_id").zh.mean()
    )
    assert share(by_customer > 0.5) == pytest.approx(0.10, abs=0.02)


def test_personal_data_is_in_the_texts_and_known(shop: Shop) -> None:
    texts = {
        "searches": "\n".join(shop["searches"]["query"]),
        "reviews": "\n".join(shop["reviews"].text),
        "questions": "\n".join(shop["questions"].text),
    }
    truth = shop.truth["personal"]
    without_control = {table: CONTROL.sub("", text) for table, text in texts.items()}
    for row in truth.itertuples():
        assert row.value in texts[row.table] or row.value in without_control[row.table]
    values = {kind: rows.value.tolist() for kind, rows in truth.groupby("kind")}
    assert min(map(len, values.values())) >= 10
    assert all(luhn.is_valid(re.sub("[ -]", "", card)) for card in values["card"])
    assert all(iban.is_valid(number) for number in values["iban"])
    assert len({re.sub(r"[0-9０-９]", "0", phone) for phone in values["phone"]}) >= 15
    for text in texts.values():
        assert set(EMAIL.findall(text)) <= set(values["email"])
    assert Counter(truth.table)["questions"] > 50
    assert all(share(truth.table == table) > 0.1 for table in texts)


def test_dirt_is_as_frequent_as_stated(tmp_path: Path) -> None:
    info = write_sample(tmp_path, customers=6000, seed=2)
    for table, shares in (
        ("purchases", PURCHASE_DIRT),
        ("searches", SEARCH_DIRT),
        ("reviews", REVIEW_DIRT),
        ("questions", QUESTION_DIRT),
        ("events", EVENT_DIRT),
    ):
        for kind, stated in shares.items():
            expected = stated * info.rows[table]
            assert abs(info.planted[table, kind] - expected) < 5 * np.sqrt(expected), (table, kind)
            assert 0.001 <= stated <= 0.005


def test_planted_dirt_is_what_is_found_in_the_rows(shop: Shop) -> None:
    tables = ("purchases", "searches", "reviews", "questions", "events")
    purchases, searches, reviews, questions, events = (shop[t] for t in tables)
    end = pd.Timestamp("2026-03-02", tz="Europe/London")
    rating = reviews.rating.dropna()
    found = {
        ("purchases", "duplicate"): purchases.duplicated().sum(),
        ("purchases", "unknown_item"): (~purchases.item_id.isin(shop["items"].item_id)).sum(),
        ("purchases", "null_user"): purchases.user_id.isna().sum(),
        ("purchases", "future"): (purchases.purchased_at >= end).sum(),
        ("purchases", "negative_quantity"): (purchases.quantity < 0).sum(),
        ("purchases", "zero_quantity"): (purchases.quantity == 0).sum(),
        ("searches", "duplicate"): searches.duplicated().sum(),
        ("searches", "null_user"): searches.user_id.isna().sum(),
        ("searches", "future"): (searches.searched_at >= end).sum(),
        ("searches", "blank_query"): (searches["query"].str.strip() == "").sum(),
        ("searches", "control_characters"): searches["query"].str.contains(CONTROL).sum(),
        ("reviews", "duplicate"): reviews.duplicated().sum(),
        ("reviews", "unknown_item"): (~reviews.item_id.isin(shop["items"].item_id)).sum(),
        ("reviews", "null_user"): reviews.user_id.isna().sum(),
        ("reviews", "future"): (reviews.reviewed_at >= end).sum(),
        ("reviews", "unparsable_rating"): (~rating.str.fullmatch(r"-?\d+")).sum(),
        ("reviews", "rating_out_of_range"): rating.isin(["0", "9", "6", "-1"]).sum(),
        ("reviews", "blank_text"): (reviews.text.str.strip() == "").sum(),
        ("reviews", "long_text"): (reviews.text.str.len() >= 2000).sum(),
        ("reviews", "control_characters"): reviews.text.str.contains(CONTROL).sum(),
        ("events", "duplicate"): events.duplicated().sum(),
        ("events", "unknown_item"): (~events.item_id.isin(shop["items"].item_id)).sum(),
        ("events", "null_user"): events.user_id.isna().sum(),
        ("events", "future"): (events.happened_at >= end).sum(),
        ("questions", "duplicate"): questions.duplicated().sum(),
        ("questions", "future"): (questions.asked_at >= end).sum(),
        ("questions", "blank_text"): (questions.text.str.strip() == "").sum(),
        ("questions", "control_characters"): questions.text.str.contains(CONTROL).sum(),
    }
    assert found == {key: shop.info.planted[key] for key in found}
    assert min(found.values()) >= 1
    assert reviews.rating.isna().sum() == pytest.approx(0.04 * len(reviews), rel=0.25)


def test_some_views_and_carts_precede_a_purchase_and_most_do_not(shop: Shop) -> None:
    found = shop["events"].merge(shop["purchases"], on=["user_id", "item_id"], how="left")
    waits = found.purchased_at - found.happened_at
    is_bought = (waits >= pd.Timedelta(0)) & (waits < pd.Timedelta(days=14))
    share = (
        is_bought.groupby([found.user_id, found.item_id, found.kind, found.happened_at]).any().groupby("kind").mean()
    )
    assert 0.1 < share["view"] < 0.35
    assert share["view"] < share["cart"] < 0.8
    assert 0 < share["wish"] < 0.35
    days_before = waits[is_bought] > pd.Timedelta(days=1)
    assert 0.3 < days_before.mean() < 0.9, "a night sees views of purchases that are still to come"
