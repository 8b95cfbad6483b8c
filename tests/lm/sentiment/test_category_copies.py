"""Copies of features for each category: as counted by hand, and only where they are worth a weight."""

from __future__ import annotations

from collections import Counter

import numpy as np
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from lm.sentiment import category_copies

ROWS = st.lists(
    st.tuples(st.sampled_from(["", "food", "Lamps", "灯"]), st.lists(st.integers(0, 3), min_size=4, max_size=4))
)


@given(ROWS, ROWS)
def test_the_copies_are_those_counted_by_hand(learned_from, judged):
    def matrix(rows):
        return scipy.sparse.csr_matrix(np.array([counts for _, counts in rows], dtype=float).reshape(-1, 4))

    def hashes(rows):
        return category_copies.hashes_of([category for category, _ in rows])

    categories = category_copies.learned(hashes(learned_from))
    kept = category_copies.shared_pairs(matrix(learned_from), hashes(learned_from), categories)
    holders = Counter((category, f) for category, counts in learned_from for f in range(4) if category and counts[f])
    shared = {pair for pair, count in holders.items() if count > 1}
    if len({category for category, _ in learned_from}) < 2:
        shared = set()
    assert len(kept) == len(shared)
    found = category_copies.with_copies(matrix(judged), hashes(judged), categories, kept).toarray()
    assert (found[:, :4] == matrix(judged).toarray()).all()
    features = category_copies.features_of(kept, categories)
    for row, (category, counts) in zip(found, judged, strict=True):
        copied = {int(f): n for f, n in zip(features, row[4:], strict=True) if n}
        assert copied == {f: counts[f] for f in range(4) if counts[f] and (category, f) in shared}


def test_a_category_is_the_same_whatever_its_case_and_spacing():
    food, same, other, unknown, blank = category_copies.hashes_of(["Pet Food", " pet  food", "Food", "", "  "])
    assert food == same != other
    assert food != 0 != other
    assert unknown == blank == 0
    assert category_copies.hashes_of([]).shape == (0,)


def test_one_category_is_none_and_a_shop_that_knows_some_has_those():
    assert category_copies.learned(np.array([7, 7])).tolist() == []
    assert category_copies.learned(np.array([0, 0])).tolist() == []
    assert category_copies.learned(np.array([7, 0, 5, 7])).tolist() == [5, 7]
    assert category_copies.learned(np.array([7, 0])).tolist() == [7]
