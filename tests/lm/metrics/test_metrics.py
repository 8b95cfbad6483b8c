"""Every expected value is a fraction that a reader can derive by hand from the lists above it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from lm.metrics import metrics

LISTS = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]
BOUGHT = [{"b"}, {"d", "f", "x", "y"}, {"z"}]


def test_hit_at_k():
    assert metrics.hit_at_k(LISTS, BOUGHT, 1).tolist() == [0, 1, 0]
    assert metrics.hit_at_k(LISTS, BOUGHT, 3).tolist() == [1, 1, 0]


def test_recall_at_k():
    assert metrics.recall_at_k(LISTS, BOUGHT, 3).tolist() == [1, 2 / 4, 0]
    assert metrics.recall_at_k(LISTS, BOUGHT, 2).tolist() == [1, 1 / 4, 0]


def test_ndcg_at_k():
    second = (1 / math.log2(3)) / 1  # one hit at rank 2; the best list has it at rank 1
    both = (1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)  # ranks 1 and 3 (log2 of 4 is 2) of three possible
    assert metrics.ndcg_at_k(LISTS, BOUGHT, 3) == pytest.approx([second, both, 0])
    assert metrics.ndcg_at_k([["d"]], [{"d", "f"}], 3) == pytest.approx([1 / (1 + 1 / math.log2(3))])


def test_reciprocal_rank():
    assert metrics.reciprocal_rank(LISTS, BOUGHT, 3).tolist() == [1 / 2, 1, 0]
    assert metrics.reciprocal_rank([["a", "b", "c"]], [{"c"}], 2).tolist() == [0]


def test_coverage_and_popularity():
    assert metrics.coverage([["a", "b"], ["a", "c"]], 10, 2) == 3 / 10
    assert metrics.coverage([["a", "b"], ["a", "c"]], 10, 1) == 1 / 10
    assert metrics.mean_popularity([["a", "b"], ["c"], []], {"a": 4, "b": 2}, 2).tolist() == [3, 0, 0]


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="without relevant items"):
        metrics.recall_at_k([["a"]], [set()], 1)
    with pytest.raises(ValueError, match="holds an item twice"):
        metrics.hit_at_k([["a", "a"]], [{"a"}], 2)
    with pytest.raises(ValueError, match="2 lists but 1 sets"):
        metrics.hit_at_k([["a"], ["b"]], [{"a"}], 2)
    with pytest.raises(ValueError, match="k must be"):
        metrics.hit_at_k([["a"]], [{"a"}], 0)


@given(
    st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), min_size=1, max_size=8),
    st.sets(st.integers(0, 30), min_size=1),
    st.integers(1, 12),
)
def test_ranking_metrics_agree_with_each_other(lists, wanted, k):
    relevant = [wanted] * len(lists)
    hit, recall = metrics.hit_at_k(lists, relevant, k), metrics.recall_at_k(lists, relevant, k)
    ndcg, rank = metrics.ndcg_at_k(lists, relevant, k), metrics.reciprocal_rank(lists, relevant, k)
    assert np.all((ndcg >= 0) & (ndcg <= 1 + 1e-12))
    assert ((ndcg > 0) == (hit > 0)).all()
    assert ((recall > 0) == (hit > 0)).all()
    assert ((rank > 0) == (hit > 0)).all()
    assert np.all(metrics.recall_at_k(lists, relevant, k + 1) >= recall)
    perfect = sorted(wanted)
    assert metrics.ndcg_at_k([perfect], [wanted], k) == pytest.approx([1])


LABELS = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 2]


def test_classification_metrics():
    assert metrics.accuracy(LABELS, PREDICTED) == 4 / 6
    assert metrics.confusion_matrix(LABELS, PREDICTED, 3).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    # F1 = 2TP / (2TP + FP + FN): class 0: 4/5, class 1: 2/4, class 2: 2/3
    assert metrics.macro_f1(LABELS, PREDICTED, 3) == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)
    assert metrics.balanced_accuracy(LABELS, PREDICTED, 3) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_a_class_that_never_occurs_is_left_out():
    assert metrics.macro_f1([0, 1], [0, 1], 3) == 1
    assert metrics.balanced_accuracy([0, 0], [0, 1], 3) == 1 / 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_classification_metrics_are_scikit_learns(pairs):
    labels, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    assert (
        metrics.confusion_matrix(labels, predicted, 4).tolist()
        == confusion_matrix(labels, predicted, labels=range(4)).tolist()
    )
    assert metrics.accuracy(labels, predicted) == pytest.approx(accuracy_score(labels, predicted))
    f1 = f1_score(labels, predicted, average="macro", zero_division=0.0)
    assert metrics.macro_f1(labels, predicted, 4) == pytest.approx(f1)
    recall = recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0.0)
    assert metrics.balanced_accuracy(labels, predicted, 4) == pytest.approx(recall)


def test_expected_calibration_error():
    # Two rows at confidence .6 of which one is right (gap .1), two at 1.0 of which both are right (gap 0).
    p = [[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert metrics.expected_calibration_error(p, [0, 0, 0, 2], bins=10) == pytest.approx((2 * 0.1 + 2 * 0) / 4)


def test_gaps_of_opposite_sign_in_one_bin_cancel_but_not_across_bins():
    p = [[0.95, 0.05], [0.55, 0.45]]
    assert metrics.expected_calibration_error(p, [1, 0], bins=10) == pytest.approx((0.95 + 0.45) / 2)


def test_the_surest_rows_are_in_the_last_bin():
    p = [[1.0, 0.0], [0.95, 0.05]]
    assert metrics.expected_calibration_error(p, [1, 0], bins=10) == pytest.approx((1 - 0.05) / 2)


def test_few_rows_show_a_calibration_error_by_chance():
    # Four coins of confidence 1/2: |1/2 - heads/4| is 1/2 twice in 16, 1/4 eight times, 0 six times.
    mean, high = metrics.calibration_error_by_chance([[0.5, 0.5]] * 4, draws=20_000)
    assert mean == pytest.approx((2 / 2 + 8 / 4) / 16, rel=0.03)
    assert high == 0.5
    assert metrics.calibration_error_by_chance([[1.0, 0.0]] * 4) == (0, 0)


def test_bootstrap_interval_covers_the_mean_and_is_seeded():
    values = np.arange(100) / 99
    mean, low, high = metrics.mean_interval(values, seed=1)
    assert mean == pytest.approx(0.5)
    assert low < mean < high
    # The standard error of a uniform mean of 100 is sqrt(1/12/100) = .0289; 95% is about +-.057.
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(1 / 1200), rel=0.15)
    assert metrics.mean_interval(values, seed=1) == (mean, low, high) != metrics.mean_interval(values, seed=2)


def test_bootstrap_keeps_rows_together():
    labels = np.array([0, 1] * 50)
    assert metrics.bootstrap_interval(metrics.accuracy, labels, labels) == (1, 1)


def test_nothing_has_no_interval():
    assert all(math.isnan(value) for value in metrics.mean_interval([]))


def test_the_standard_error_of_a_mean_by_hand():
    assert metrics.standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert metrics.standard_error([5.0]) == float("inf")
