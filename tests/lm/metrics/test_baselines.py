"""Baselines on shops small enough to count by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.metrics import baselines

HISTORIES = [["milk", "bread"], ["milk", "bread", "jam"], ["milk"], ["tea", "milk"]]


def test_popularity_counts_purchases_and_breaks_ties_by_id():
    assert baselines.popularity(HISTORIES) == ["milk", "bread", "jam", "tea"]
    assert baselines.popularity(HISTORIES, sellable={"tea", "jam"}) == ["jam", "tea"]


def test_popular_lists_leave_out_what_is_excluded():
    popular = baselines.popularity(HISTORIES)
    assert baselines.recommend_popular(popular, [{"milk"}, set()], 2) == [["bread", "jam"], ["milk", "bread"]]


def test_buy_again_puts_the_most_often_then_the_newest_first_and_fills_up():
    popular = ["milk", "bread", "jam", "tea"]
    assert baselines.recommend_again([["tea", "jam", "tea", "bread"]], popular, 3) == [["tea", "bread", "jam"]]
    assert baselines.recommend_again([["jam"]], popular, 3) == [["jam", "milk", "bread"]]
    assert baselines.recommend_again([["gone", "jam"]], popular, 1) == [["jam"]]


def test_co_purchase_is_the_cosine():
    fitted = baselines.CoPurchases.fit(HISTORIES)
    near = {
        (fitted.items[row], fitted.items[fitted.columns[place]]): float(fitted.cosines[place])
        for row in range(len(fitted.items))
        for place in range(fitted.starts[row], fitted.starts[row + 1])
    }
    # Bought together by 2 customers; milk has 4 buyers, bread 2: 2 / sqrt(8).
    assert near["milk", "bread"] == near["bread", "milk"] == pytest.approx(2 / 8**0.5)
    assert near["jam", "bread"] == pytest.approx(1 / 2**0.5)
    assert ("jam", "tea") not in near
    assert ("milk", "milk") not in near


def test_co_purchase_lists():
    fitted = baselines.CoPurchases.fit(HISTORIES)
    popular = baselines.popularity(HISTORIES)
    # To bread: jam .707 and milk .707 (2 / sqrt(8)) tie and go by id; tea has no cosine and comes by popularity.
    assert fitted.recommend([["bread"]], popular, [{"bread"}], 3) == [["jam", "milk", "tea"]]
    assert fitted.recommend([["unheard"]], popular, [set()], 2) == [["milk", "bread"]]
    assert fitted.recommend([["bread"]], ["tea", "milk"], [set()], 2) == [["milk", "tea"]]


def test_only_the_newest_fifty_items_of_a_customer_count():
    history = [f"{i:03}" for i in range(80)]
    fitted = baselines.CoPurchases.fit([history])
    assert fitted.starts[31] - fitted.starts[30] == 49
    assert fitted.starts[30] == 0


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=8),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_lists_are_distinct_never_excluded_and_do_not_depend_on_the_order(histories, k, rng: random.Random):
    shuffled = rng.sample(histories, len(histories))
    popular = baselines.popularity(histories)
    assert popular == baselines.popularity(shuffled)
    excluded = [set(history) for history in histories]
    lists = baselines.CoPurchases.fit(histories).recommend(histories, popular, excluded, k)
    assert lists == baselines.CoPurchases.fit(shuffled).recommend(histories, popular, excluded, k)
    for items, barred in zip(lists, excluded, strict=True):
        assert len(items) == len(set(items)) == min(k, len(set(popular) - barred))
        assert not barred.intersection(items)
    assert all(set(items) <= set(popular) for items in baselines.recommend_again(histories, popular, k))


def test_pairs_are_counted_the_same_in_small_chunks(monkeypatch):
    rng = random.Random(0)
    histories = [rng.choices("abcdefghij", k=5) for _ in range(40)]
    whole = baselines.CoPurchases.fit(histories)
    monkeypatch.setattr(baselines, "_PAIRS_AT_ONCE", 7)
    parts = baselines.CoPurchases.fit(histories)
    assert whole.cosines.tolist() == parts.cosines.tolist()
    assert whole.columns.tolist() == parts.columns.tolist()


def test_the_closest_of_each_item_are_kept():
    histories = [["a", "b"], ["b", "a", "c"], ["c", "d"]]
    fitted = baselines.CoPurchases.fit(histories, most=1)
    near = [fitted.items[column] for column in fitted.columns]
    assert near == ["b", "a", "d", "c"]  # to c: a and b 1 / 2, d 1 / sqrt(2)
    assert fitted.starts.tolist() == [0, 1, 2, 3, 4]
