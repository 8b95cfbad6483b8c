"""The prior that leans towards counting, popularity only where it pays, and NDCG of candidates by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest
import scipy.sparse
import torch

from lm.recommend.co_purchase import FEATURES, CoPurchaseFeatures
from lm.recommend_training import mixture_weights
from lm.recommend_training.fit_candidates import FitRows, all_items
from lm.recommend_training.mixture_weights import fit_mixture, ndcg

ITEMS = 40
RNG = np.random.default_rng(0)
POPULAR = RNG.normal(size=(2, ITEMS)).astype(np.float32)
FEATURES_ALONE = CoPurchaseFeatures(scipy.sparse.csr_matrix((ITEMS, ITEMS), dtype=np.float32), popular=POPULAR)


def rows(customers: int, *, gpt2: float, popular: float, seed: int, without_gpt2: bool = False) -> FitRows:
    """Customers who buy one item each by the softmax of two weighted features."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(customers, ITEMS)).astype(np.float32))
    scores = gpt2 * logits.numpy() + popular * POPULAR[0] + rng.gumbel(size=(customers, ITEMS))
    wanted = [np.array([best]) for best in scores.argmax(axis=1)]
    nothing = [np.empty(0, np.int64)] * customers
    shown = torch.zeros_like(logits) if without_gpt2 else logits
    return all_items(FEATURES_ALONE, shown, nothing, wanted, nothing)


def named(weights: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(FEATURES, weights, strict=True))


def test_few_customers_leave_gpt2_little_weight_and_many_give_it_its_own():
    folds = [rows(400, gpt2=1, popular=1, seed=1, without_gpt2=True)]
    fits = [fit_mixture(rows(n, gpt2=1, popular=1, seed=2), folds) for n in (3, 600)]
    few, more = (named(fit.mixture) for fit in fits)
    assert abs(few["gpt2"]) < 0.35 < 0.8 < more["gpt2"] < 1.2
    assert few["popular"] == pytest.approx(named(fits[0].counting)["popular"], abs=0.2)
    assert few["popular"] > 0.5


def test_counting_alone_has_no_gpt2():
    fitted = fit_mixture(rows(1200, gpt2=1, popular=1, seed=3), [])
    assert named(fitted.counting)["gpt2"] == 0
    assert named(fitted.counting)["popular"] > 0.5
    assert named(fitted.mixture)["gpt2"] == pytest.approx(1, abs=0.15)


def test_popularity_is_left_out_where_lists_without_it_are_better(monkeypatch):
    """The likelihood asks for popularity in both cases; the second judges lists in which it has no part."""
    few = rows(50, gpt2=1, popular=2, seed=4)
    folds = [rows(300, gpt2=0, popular=2, seed=5, without_gpt2=True)]
    assert named(fit_mixture(few, folds).mixture)["popular"] > 1
    monkeypatch.setattr(mixture_weights, "ndcg", lambda rows, weights: -np.abs(weights[-2:]).sum(keepdims=True))
    left_out = named(fit_mixture(few, folds).mixture)
    assert left_out["popular"] == left_out["popular_lately"] == 0


def test_counting_alone_has_popularity_only_where_it_gains_beyond_its_interval(monkeypatch):
    """The mixture takes any gain; counting alone only the second, which is beyond chance."""
    few = rows(50, gpt2=1, popular=2, seed=4)
    folds = [rows(300, gpt2=0, popular=2, seed=5, without_gpt2=True)]
    for gains, is_in in (([0.5, -0.4] * 4, False), ([0.5, 0.4] * 4, True)):
        gain = np.array(gains)
        monkeypatch.setattr(mixture_weights, "ndcg", lambda rows, weights, gain=gain: gain * (weights[-2] != 0))
        found = fit_mixture(few, folds)
        assert named(found.mixture)["popular"] > 1
        assert (named(found.counting)["popular"] > 1) == is_in


def test_ndcg_by_hand():
    """The first customer's item has rank 2, the second's is never listed, and the third wants nothing."""
    logits = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    small = replace(FEATURES_ALONE, cosines=scipy.sparse.csr_matrix((3, 3), dtype=np.float32), popular=None)
    one, none = np.array([1]), np.empty(0, np.int64)
    found = all_items(small, logits, [none] * 3, [one, one, none], [none, one, none])
    weights = (1.0, *[0.0] * (len(FEATURES) - 1))
    assert ndcg(found, weights).tolist() == pytest.approx([1 / log2(3), 1 / log2(4), 0])
