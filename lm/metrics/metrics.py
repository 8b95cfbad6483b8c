"""Ranking and classification metrics with bootstrap intervals.

Ranking functions return one value per customer, so that the caller can take means, intervals and slices.
Definitions follow Krichene & Rendle, "On Sampled Metrics for Item Recommendation" (KDD 2020), with full ranking.
They raise ValueError for k below 1, a list with a repeated item, and a customer without relevant items.
The classification metrics equal scikit-learn's, which take 50 to 80 times as long: a bootstrap calls them 1,000 times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
#: One ranked list per customer, best first.
Lists = Sequence[Sequence[Hashable]]
#: One non-empty set of relevant items per customer.
Relevant = Sequence[Collection[Hashable]]
#: A bootstrap draws only from the values it has: of fewer equal values than this it knows no interval.
TOO_FEW_EQUAL = 10


def _hits(lists: Lists, relevant: Relevant, k: int) -> NDArray[np.bool_]:
    """(customers, k): whether the item at each rank is relevant."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if len(lists) != len(relevant):
        raise ValueError(f"{len(lists)} lists but {len(relevant)} sets of relevant items")
    hits = np.zeros((len(lists), k), dtype=bool)
    for row, (items, wanted) in enumerate(zip(lists, relevant, strict=True)):
        top = items[:k]
        if len(set(top)) < len(top):
            raise ValueError("a list holds an item twice: remove duplicates first, because metrics would count both")
        for rank, item in enumerate(top):
            hits[row, rank] = item in wanted
    return hits


def _sizes(relevant: Relevant) -> NDArray[np.int64]:
    sizes = np.array([len(set(wanted)) for wanted in relevant], dtype=np.int64)
    if (sizes == 0).any():
        raise ValueError("a customer without relevant items has no recall: leave out such customers")
    return sizes


def hit_at_k(lists: Lists, relevant: Relevant, k: int) -> Floats:
    """1 where one of the first k items is relevant, else 0: (customers,)."""
    _sizes(relevant)
    return np.asarray(_hits(lists, relevant, k).any(axis=1), dtype=np.float64)


def recall_at_k(lists: Lists, relevant: Relevant, k: int) -> Floats:
    """Share of a customer's relevant items among the first k items (with one relevant item: hit@k): (customers,)."""
    return np.asarray(_hits(lists, relevant, k).sum(axis=1) / _sizes(relevant))


def ndcg_at_k(lists: Lists, relevant: Relevant, k: int) -> Floats:
    """Sum of 1/log2(rank+1) over relevant ranks <= k, divided by that of a perfect list: (customers,).

    Source: Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (TOIS 2002), binary gains.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(_sizes(relevant), k) - 1]
    return np.asarray(_hits(lists, relevant, k) @ discounts / ideal)


def reciprocal_rank(lists: Lists, relevant: Relevant, k: int) -> Floats:
    """1 / rank of the first relevant item among the first k, else 0; its mean is MRR@k: (customers,)."""
    _sizes(relevant)
    hits = _hits(lists, relevant, k)
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)


def coverage(lists: Lists, catalogue_items: int, k: int) -> float:
    """Share of the catalogue that appears among the first k items of any list."""
    return len({item for items in lists for item in items[:k]}) / catalogue_items


def mean_popularity(lists: Lists, purchases: Mapping[Any, int], k: int) -> Floats:
    """Mean number of past purchases of a customer's first k items, 0 for an empty list: (customers,)."""
    return np.array(
        [np.mean([purchases.get(item, 0) for item in items[:k]]) if len(items) else 0.0 for items in lists],
        dtype=np.float64,
    )


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of rows whose predicted class is the label."""
    return float(np.mean(np.asarray(labels) == np.asarray(predicted)))


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts: row = label, column = prediction."""
    codes = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes)


def macro_f1(labels: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN), over classes that occur among labels or predictions."""
    counts = confusion_matrix(labels, predicted, classes)
    support = counts.sum(axis=0) + counts.sum(axis=1)  # 2 TP + FP + FN
    occurs = support > 0
    return float(np.mean(2 * np.diag(counts)[occurs] / support[occurs])) if occurs.any() else 0.0


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean recall over the classes that occur among the labels."""
    counts = confusion_matrix(labels, predicted, classes)
    rows = counts.sum(axis=1)
    return float(np.mean(np.diag(counts)[rows > 0] / rows[rows > 0])) if rows.any() else 0.0


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean |confidence - accuracy| over equal-width bins of the highest probability, weighted by rows.

    `probabilities` is (rows, classes), `labels` (rows,). Source: Guo et al., "On Calibration of Modern Neural Networks"
    (ICML 2017).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    return _calibration_error(p.max(axis=1), p.argmax(axis=1) == np.asarray(labels), bins)


def calibration_figures(probabilities: ArrayLike, labels: ArrayLike, seed: int = 0) -> dict[str, float]:
    """The expected calibration error, with the mean and 95th percentile of the error by chance alone."""
    by_chance, at_most = calibration_error_by_chance(probabilities, seed)
    return {
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
        "calibration_error_by_chance": by_chance,
        "calibration_error_by_chance_high": at_most,
    }


def calibration_error_by_chance(
    probabilities: ArrayLike, seed: int = 0, bins: int = 15, draws: int = 1000
) -> tuple[float, float]:
    """(mean, 95th percentile) of the expected calibration error of exact `probabilities` (rows, classes).

    Few rows show an error by chance alone. Labels are drawn from the probabilities. Source: consistency resampling,
    Bröcker & Smith, Weather and Forecasting (2007).
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    rng = np.random.default_rng(seed)
    errors = [_calibration_error(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(draws)]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def _calibration_error(confidence: Floats, is_correct: NDArray[np.bool_], bins: int) -> float:
    row_bin = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(row_bin, confidence - is_correct, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def bootstrap_interval(
    statistic: Callable[..., float], *columns: ArrayLike, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic(*columns)`, NaN without rows. Source: Efron (1979).

    `columns` have one row a customer or review; all of them are resampled by the same rows.
    """
    arrays = [np.asarray(column) for column in columns]
    rows = len(arrays[0])
    if rows == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, rows, rows) for _ in range(resamples))
    values = [statistic(*(array[draw] for array in arrays)) for draw in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def has_interval(values: int, low: float, high: float) -> bool:
    """Whether a bootstrap of so many values knows an interval: one value or few equal ones draw no other mean."""
    return values >= 2 and (values >= TOO_FEW_EQUAL or low != high)


def standard_error(values: ArrayLike) -> float:
    """The standard error of the mean of two or more values; infinite for one value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else float("inf")


def mean_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high): the mean of one value per customer with its 95% bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(lambda column: float(np.mean(column)), array, seed=seed)
    return (float(np.mean(array)) if len(array) else float("nan")), low, high
