"""The sample shop is plausible, and the next purchase can be predicted from earlier ones."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.sample import write_sample
from jobs.sample.catalogue import FAMILIES, _seasons, build_catalogue
from jobs.sample.customers import draw_customers, simulate
from tests.sample_shop import CHINESE, Shop, share


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(write_sample(tmp_path_factory.mktemp("shop")))


@pytest.fixture(scope="module")
def clean_purchases(shop: Shop) -> pd.DataFrame:
    return shop.clean_purchases()


def test_catalogue_has_the_oddities_of_real_ones(shop: Shop) -> None:
    items = shop["items"].drop_duplicates()
    titles = items.title
    assert share(titles.str.contains(CHINESE)) == pytest.approx(0.10, abs=0.03)
    assert 1 <= titles.duplicated().sum() <= 8
    assert sum(any(t != u and u.startswith(t + " ") for u in titles) for t in set(titles)) >= 5
    assert 0.01 <= share(~items.available) <= 0.06
    assert items.price.dropna().between(1, 1000).all()
    assert len(shop["items"]) - len(items) == 1
    assert items.category.nunique() > 30


@pytest.mark.parametrize("products", [1, 9, 400, 30_000])
def test_titles_tell_products_apart_in_a_catalogue_of_any_size(products: int) -> None:
    catalogue = build_catalogue(products, 60, 0)
    titles = Counter(catalogue.titles.to_pylist())
    assert len(titles) >= products - max(1, products // 200)
    assert max(titles.values()) <= 3
    assert catalogue.successors.min() >= 0
    assert catalogue.successors.max() < products


def test_products_come_and_go_over_the_whole_period() -> None:
    keys = np.random.default_rng(0).integers(2**63, size=20_000, dtype=np.uint64)
    always = np.arange(20_000) < 2000
    launched, withdrawn = _seasons(keys, 60, always)
    late, gone = launched[2000:], withdrawn[2000:]
    assert not launched[:2000].any()
    assert np.isinf(withdrawn[:2000]).all()
    assert not ((late > 0) & np.isfinite(gone)).any()
    assert (late > 0).mean() == pytest.approx(0.10, abs=0.01)
    assert np.isfinite(gone).mean() == pytest.approx(0.04, abs=0.01)
    np.testing.assert_allclose(np.quantile(late[late > 0], [0, 0.5, 1]), [6, 36, 66], atol=2)
    np.testing.assert_allclose(np.quantile(gone[np.isfinite(gone)], [0, 0.5, 1]), [18, 39, 60], atol=2)


def test_popularity_is_long_tailed_and_so_is_activity(clean_purchases: pd.DataFrame) -> None:
    by_item = np.sort(clean_purchases.item_id.value_counts())[::-1]
    assert by_item[:40].sum() / by_item.sum() > 0.4  # a tenth of the products
    assert by_item[len(by_item) // 2] < by_item[0] / 10
    by_customer = clean_purchases.user_id.value_counts()
    assert (by_customer == 1).sum() > 50
    assert by_customer.median() < by_customer.mean() / 1.5
    assert by_customer.max() > 150


def test_some_customers_have_a_single_event(shop: Shop) -> None:
    events = pd.concat([shop[t].user_id for t in ("purchases", "searches", "reviews")]).value_counts()
    assert (events == 1).sum() >= 20
    assert len(set(shop["searches"].user_id) - set(shop["purchases"].user_id)) >= 10


def test_shop_grows_and_loses_customers(clean_purchases: pd.DataFrame) -> None:
    seen = clean_purchases.groupby("user_id").purchased_at.agg(["min", "max"])
    midway = pd.Timestamp("2026-01-31", tz="UTC")
    assert 0.2 < share(seen["min"] > midway) < 0.5
    regular = seen[clean_purchases.groupby("user_id").size() >= 10]
    assert 0.05 < share(regular["max"] < pd.Timestamp("2026-02-12", tz="UTC")) < 0.3


def test_a_quarter_leaves_and_was_less_happy(shop: Shop) -> None:
    catalogue = build_catalogue(400, 60, 0)
    people = draw_customers(0, np.arange(2000), 60, catalogue)
    assert people.churned.mean() == pytest.approx(0.25, abs=0.03)
    bought = simulate(catalogue, people)
    assert (bought.day <= np.ceil(people.left[bought.customer])).all()
    leavers = {f"C{number:07d}" for number in people.numbers[people.churned]}
    rated = shop["reviews"][shop["reviews"].rating.isin(list("12345"))]
    stars, left = rated.rating.astype(int), rated.user_id.isin(leavers)
    assert stars[left].mean() < stars[~left].mean() - 0.15


def test_opted_out_customers_are_one_in_a_hundred(tmp_path: Path) -> None:
    info = write_sample(tmp_path, customers=20_000, products=20, days=1)
    assert info.rows["optouts"] == pytest.approx(200, abs=45)


def test_orders_hold_several_items_at_one_moment(clean_purchases: pd.DataFrame) -> None:
    orders = clean_purchases.groupby("order_id")
    assert (orders.user_id.nunique() == 1).all()
    assert (orders.purchased_at.nunique() == 1).all()
    assert 0.05 < share(orders.size() > 1) < 0.15
    assert not clean_purchases.duplicated(["order_id", "item_id"]).any()


@pytest.fixture(scope="module")
def held_out(clean_purchases: pd.DataFrame) -> list[tuple[str, list[str], str, pd.Timestamp]]:
    """Customer, history, last new item and its time, for customers with a new item after two purchases."""
    cases = []
    for user, rows in clean_purchases.groupby("user_id"):
        items = rows.item_id.tolist()
        last_new = next((j for j in range(len(items) - 1, 1, -1) if items[j] not in items[:j]), None)
        if last_new is not None:
            cases.append((str(user), items[:last_new], items[last_new], rows.purchased_at.iloc[last_new]))
    return cases


def recall_at_10(
    cases: list[tuple[str, list[str], str, pd.Timestamp]], ranker: Callable[[list[str]], Counter]
) -> float:
    hits = 0
    for _, history, target, _ in cases:
        scores = ranker(history)
        best = sorted((item for item in scores if item not in set(history)), key=lambda i: (-scores[i], i))[:10]
        hits += target in best
    return hits / len(cases)


def test_what_was_bought_last_tells_more_than_popularity_and_copurchase(held_out: list) -> None:
    popularity: Counter[str] = Counter()
    after: dict[str, Counter[str]] = defaultdict(Counter)
    together: dict[str, Counter[str]] = defaultdict(Counter)
    for _, history, _, _ in held_out:
        popularity.update(history)
        for one, following in itertools.pairwise(history):
            after[one][following] += 1
        for one in set(history):
            together[one].update(set(history) - {one})
    by_popularity = recall_at_10(held_out, lambda history: popularity)

    def bought_together(history: list[str]) -> Counter[str]:
        scores: Counter[str] = Counter()
        for item in set(history):
            scores.update(together[item])
        return scores

    by_copurchase = recall_at_10(held_out[::3], bought_together)
    by_last = recall_at_10(held_out, lambda history: after[history[-1]])
    assert len(held_out) > 1200
    assert 0.08 < by_popularity < 0.25
    assert by_copurchase > 1.5 * by_popularity
    assert by_last > 3 * by_popularity
    assert by_last > 1.5 * by_copurchase


def test_the_last_search_names_half_of_what_is_bought_next(shop: Shop, held_out: list) -> None:
    family_of = {}
    for row in shop["items"].itertuples():
        family_of[row.item_id] = next(f for f in FAMILIES if row.category in (f.name, f.name_zh))
    searches = shop["searches"].dropna(subset="user_id").sort_values("searched_at")
    searches_of = {
        user: (rows.searched_at.dt.as_unit("ns").astype("int64").to_numpy(), rows["query"].tolist())
        for user, rows in searches.groupby("user_id")
    }
    named = popular = 0
    for user, _, target, at in held_out:
        moments, queries = searches_of.get(user, (np.array([]), []))
        before = int((moments < at.value).sum())
        words = [w.lower() for w in (*family_of[target].words, *family_of[target].words_zh)]
        named += before > 0 and any(word in queries[before - 1].lower() for word in words)
        other = family_of[held_out[0][2]]
        popular += before > 0 and any(word.lower() in queries[before - 1].lower() for word in other.words)
    assert 0.5 < named / len(held_out) < 0.75
    assert popular / len(held_out) < 0.15


def test_products_lead_to_their_own_brands_supplies(shop: Shop, clean_purchases: pd.DataFrame) -> None:
    titles = dict(zip(shop["items"].item_id, shop["items"].title, strict=True))
    rows = clean_purchases.assign(title=clean_purchases.item_id.map(titles))
    follows: dict[str, list[bool]] = defaultdict(list)
    days = []
    for _, one in rows.groupby("user_id"):
        bought = one.title.tolist()
        for here, title in enumerate(bought[:-1]):
            for lead, supply in (
                ("Inkjet Printer", "Ink Cartridge"),
                ("Shampoo", "Conditioner"),
                ("Smartphone", "Phone Case"),
            ):
                if f" {lead} " in title:
                    brand = title.split(f" {lead} ")[0]
                    found = [
                        j
                        for j in range(here + 1, min(here + 4, len(bought)))
                        if bought[j].startswith(f"{brand} {supply}")
                    ]
                    follows[lead].append(bool(found))
                    days += [(one.purchased_at.iloc[j] - one.purchased_at.iloc[here]).days for j in found]
    for lead, found in follows.items():
        assert len(found) > 30, lead
        assert np.mean(found) > 0.25, lead
    assert np.mean(np.array(days) >= 1) > 0.3


def test_used_up_goods_are_bought_again_and_durables_hardly(shop: Shop, clean_purchases: pd.DataFrame) -> None:
    durable = {name for f in FAMILIES if f.kind == "durable" for name in (f.name, f.name_zh)}
    category = dict(zip(shop["items"].item_id, shop["items"].category, strict=True))
    again = clean_purchases.duplicated(["user_id", "item_id"])
    is_durable = clean_purchases.item_id.map(category).isin(durable)
    assert 0.1 < share(again) < 0.35
    assert share(again[~is_durable]) > 0.15
    assert share(again[is_durable]) < 0.05
