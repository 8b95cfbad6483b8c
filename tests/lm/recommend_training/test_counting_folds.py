"""Folds ask for later purchases and count earlier ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from lm.recommend_training import counting_folds as module
from lm.recommend_training.count_purchases import Bought
from lm.recommend_training.counting_folds import counting_folds

IDS = ["a", "b", "c", "d"]


def bought(*pairs: tuple[int, int]) -> Bought:
    codes, days = np.array(pairs, dtype=np.int64).T
    return Bought(codes, days)


def wanted_of(fold) -> list[list[int]]:
    row, column = np.divmod(fold.wanted, fold.logits.shape[1])
    return [column[row == customer].tolist() for customer in range(len(fold.logits))]


@pytest.fixture(autouse=True)
def two_weeks(monkeypatch):
    monkeypatch.setattr(module, "FEWEST", 1)


def test_the_newest_days_are_wanted_and_the_days_before_them_are_counted():
    shop = [
        bought((0, 0), (1, 1), (0, 95), (2, 100)),
        bought((0, 2), (1, 3), (3, 70)),
        *[bought((0, day), (1, day)) for day in range(20)],
    ]
    (newest, *older) = counting_folds(shop, IDS, new_only=False, seed=0)
    assert wanted_of(newest) == [[0, 2]]  # days 87 to 100
    assert newest.popular[0, 0].tolist() == pytest.approx(np.log1p([22, 22, 0, 1]).tolist())
    assert wanted_of(older[-1]) == [[3]]  # days 59 to 72
    assert older[-1].popular[0, 0].tolist() == pytest.approx(np.log1p([22, 22, 0, 0]).tolist())


def test_own_items_are_neither_wanted_nor_listed_where_lists_leave_them_out():
    shop = [bought((0, 0), (1, 1), (0, 95), (2, 100)), *[bought((0, day)) for day in range(20)]]
    (fold,) = counting_folds(shop, IDS, new_only=True, seed=0)
    assert wanted_of(fold) == [[2]]
    assert (fold.correction < -1000).tolist() == [[True, True, False, False]]


def test_days_are_doubled_until_they_hold_enough_customers(monkeypatch):
    monkeypatch.setattr(module, "FEWEST", 2)
    shop = [bought((0, 0), (1, 400)), bought((0, 1), (2, 360)), *[bought((0, 3), (1, 3)) for _ in range(20)]]
    (fold,) = counting_folds(shop, IDS, new_only=True, seed=0)
    assert wanted_of(fold) == [[1], [2]]


def test_a_history_that_is_too_short_has_no_folds():
    assert counting_folds([], IDS, new_only=True, seed=0) == []
    assert counting_folds([bought((0, 1), (1, 3))], IDS, new_only=True, seed=0) == []
