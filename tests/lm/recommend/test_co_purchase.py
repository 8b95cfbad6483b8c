"""Co-purchase features: values computed by hand, fitted weights, and the saved file."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.checkpoint.checkpoint import CO_PURCHASE_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.metrics.baselines import CoPurchases
from lm.recommend.co_purchase import FEATURES, CoPurchaseFeatures, popularity, purchases_in_prompt
from lm.recommend_training.count_purchases import closest_co_purchases
from lm.recommend_training.fit_candidates import CandidateSampler, all_items
from lm.recommend_training.mixture_weights import GPT2_ALONE, fit_weights

CODES = {item: code for code, item in enumerate("abcde")}
# a and b were bought by the same two of three customers, c with one of them; nobody bought d and e.
COUNTED = CoPurchases.fit([["a", "b"], ["b", "a", "c"], ["c"]])


def weighted(**weights: float) -> CoPurchaseFeatures:
    counted = closest_co_purchases(COUNTED, CODES)
    return CoPurchaseFeatures(counted.cosines, tuple(weights.get(name, 0.0) for name in FEATURES))


def fitted_on(features, *customers) -> CoPurchaseFeatures:
    rows = all_items(features, *customers)
    return replace(features, weights=fit_weights([rows], GPT2_ALONE, [1.0] * len(FEATURES)))


def codes(items: str) -> np.ndarray:
    return np.array([CODES[item] for item in items], dtype=np.int64)


@pytest.mark.parametrize("feature", ["near", "nearest"])
def test_near_items_count_by_the_logarithm_of_their_cosines(feature):
    logits = weighted(gpt2=2.0, **{feature: 1.0}).add(torch.ones(2, 5), [codes("aa"), codes("ac")])
    half = 1 / 2  # of the buyers of a (2) and c (2) one is the same: 1 / sqrt(2 * 2)
    assert logits[0].tolist() == pytest.approx([2, 2 + log(101), 2 + log(1 + 100 * half), 2, 2])
    assert logits[1].tolist() == pytest.approx(
        [2 + log(1 + 100 * half), 2 + log(1 + 100 * 1.5), 2 + log(1 + 100 * half), 2, 2]
    )


def test_the_nearest_are_those_of_the_newest_ten():
    twelve = [f"i{n}" for n in range(12)]
    counted = CoPurchases.fit([[item, f"of {item}"] for item in twelve])
    names = {item: code for code, item in enumerate([*twelve, *(f"of {item}" for item in twelve)])}
    near = CoPurchaseFeatures(closest_co_purchases(counted, names).cosines, (0, 1, 0, 0, 0, 0))
    nearest = CoPurchaseFeatures(near.cosines, (0, 0, 1, 0, 0, 0))
    bought = [np.arange(12)]
    assert near.add(torch.zeros(1, 24), bought)[0, 12:].tolist() == pytest.approx([log(101)] * 12)
    assert nearest.add(torch.zeros(1, 24), bought)[0, 12:].tolist() == pytest.approx([0, 0] + [log(101)] * 10)


def test_own_items_count_by_how_often_and_how_lately():
    bought = [codes("abaea")]
    assert weighted(times=1.0).add(torch.zeros(1, 5), bought)[0].tolist() == pytest.approx(
        [log(4), log(2), 0, 0, log(2)]
    )
    assert weighted(bought=3.0).add(torch.zeros(1, 5), bought)[0].tolist() == [3, 3, 0, 0, 3]
    lately = weighted(lately=1.0).add(torch.zeros(1, 5), bought)[0].tolist()
    assert lately == pytest.approx([1, 20 / 22, 0, 0, 20 / 21])  # a last, e before it, b before that


def test_popularity_counts_all_purchases_and_those_of_28_days_ago_half():
    counted = popularity(codes("aaab"), np.array([0, 28, 56, 0]), 5)
    assert counted[0].tolist() == pytest.approx([log(4), log(2), 0, 0, 0])
    assert counted[1].tolist() == pytest.approx([log(2.75), log(2), 0, 0, 0])
    features = replace(weighted(gpt2=2.0, popular=3.0, popular_lately=-1.0), popular=counted)
    found = features.add(torch.ones(2, 5), [codes("d"), codes("e")])
    added = [3 * log(4) - log(2.75), 2 * log(2), 0, 0, 0]
    assert features.popular_part().tolist() == pytest.approx(added)
    assert found[0].tolist() == found[1].tolist() == pytest.approx([2 + value for value in added])


def test_only_the_closest_are_kept(monkeypatch):
    monkeypatch.setattr("lm.recommend_training.count_purchases.PAIRS", 0)
    monkeypatch.setattr("lm.recommend_training.count_purchases._FEWEST_PER_ITEM", 1)
    assert closest_co_purchases(COUNTED, CODES).cosines.toarray().tolist() == pytest.approx(
        np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [0] * 5, [0] * 5])
    )


@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=6))
def test_a_row_has_the_same_bits_in_any_company(purchases):
    features = weighted(gpt2=0.7, near=0.3, nearest=0.2, times=0.5, bought=-1.0, lately=0.4)
    logits = torch.randn(len(purchases), 5, generator=torch.Generator().manual_seed(0))
    rows = [np.array(row, dtype=np.int64) for row in purchases]
    together = features.add(logits, rows)
    for place, row in enumerate(rows):
        assert torch.equal(features.add(logits[place : place + 1], [row])[0], together[place])


def test_who_buys_again_is_learned_and_nothing_where_own_items_are_barred():
    rng = np.random.default_rng(0)
    purchases = [rng.integers(0, 5, 3) for _ in range(200)]
    wanted = [row[-1:] for row in purchases]  # each buys the last item again
    logits = torch.zeros(200, 5)
    counted = closest_co_purchases(COUNTED, CODES)
    fitted = fitted_on(counted, logits, purchases, wanted, [row[:0] for row in purchases])
    right = np.concatenate(wanted)
    log_p = fitted.add(logits, purchases).log_softmax(dim=1)[range(200), right]
    assert log_p.mean() > log(1 / 2) > log(1 / 5)
    others = [np.setdiff1d(np.arange(5), row)[:1] for row in purchases]
    barred = fitted_on(counted, logits, purchases, others, purchases)
    assert set(barred.weights[3:]) == {0}


@pytest.mark.parametrize("drawn", [40, 400])  # of 400 items: some of the others, or all of them
def test_the_fit_on_a_sample_of_items_agrees_with_the_fit_on_all(monkeypatch, drawn):
    for name, number in {"GREATEST": 20, "LIKELIEST": 10, "DRAWN": drawn}.items():
        monkeypatch.setattr(f"lm.recommend_training.fit_candidates.{name}", number)
    rng = np.random.default_rng(0)
    items = [f"{item:03}" for item in range(400)]
    bought = [rng.choice(400, 8, replace=False) // 8 * 8 + rng.integers(0, 2, 8) for _ in range(900)]
    counted = CoPurchases.fit([[items[code] for code in row] for row in bought])
    features = closest_co_purchases(counted, {item: code for code, item in enumerate(items)})
    logits = torch.randn(900, 400, generator=torch.Generator().manual_seed(0))
    purchases, barred = [row[:-1] for row in bought], [np.unique(row[:-1]) for row in bought]
    wanted = [np.setdiff1d(row[-1:], before) for row, before in zip(bought, barred, strict=True)]
    logits[np.repeat(np.arange(900), list(map(len, wanted))), np.concatenate(wanted)] += 1
    exact = fitted_on(features, logits, purchases, wanted, barred).weights
    sampler = CandidateSampler(features, seed=0)
    for some in (slice(0, 500), slice(500, 900)):
        sampler.add(logits[some], purchases[some], wanted[some], barred[some])
    sampled = fit_weights([sampler.rows(logits.device)], GPT2_ALONE, [1.0] * len(FEATURES))
    assert sampled == pytest.approx(exact, rel=0.05 if drawn == 40 else 1e-3, abs=0.02)
    assert max(map(abs, exact[1:])) > 0.2


def test_few_rows_change_little():
    one = fitted_on(closest_co_purchases(COUNTED, CODES), torch.zeros(1, 5), [codes("a")], [codes("b")], [codes("a")])
    assert one.weights[0] == 1  # GPT-2 says nothing here
    assert 0 < one.weights[1] < 2


def test_purchases_are_the_run_of_items_at_the_end():
    assert purchases_in_prompt([5, 101, 7, 100, 103, 100], 100).tolist() == [0, 3, 0]
    assert purchases_in_prompt([5, 7], 100).tolist() == []
    assert purchases_in_prompt([101], 100).tolist() == [1]


def test_saved_and_loaded(tmp_path):
    features = replace(weighted(gpt2=0.5, near=0.25), popular=np.arange(10, dtype=np.float32).reshape(2, 5))
    features.save(tmp_path)
    manifest = Manifest(
        coding="item_tokens", item_ids=list(CODES), first_item_token=9, neighbour_weights=list(features.weights)
    )
    loaded = CoPurchaseFeatures.load(tmp_path, manifest)
    assert loaded is not None
    assert loaded.weights == features.weights
    assert loaded.popular.tolist() == features.popular.tolist()
    assert (loaded.cosines != features.cosines).nnz == 0
    assert CoPurchaseFeatures.load(tmp_path, manifest.model_copy(update={"neighbour_weights": []})) is None
    replace(features, popular=None).save(tmp_path)  # as an earlier release did
    earlier = manifest.model_copy(update={"neighbour_weights": [0.5, 0.25, 0, 0, 0, 0]})
    logits, bought = torch.ones(1, 5), [codes("a")]
    assert torch.equal(CoPurchaseFeatures.load(tmp_path, earlier).add(logits, bought), features.add(logits, bought))
    (tmp_path / CO_PURCHASE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"neighbours\.safetensors cannot be read"):
        CoPurchaseFeatures.load(tmp_path, manifest)
    (tmp_path / CO_PURCHASE_FILE).unlink()
    with pytest.raises(CheckpointError, match="copy the model directory again"):
        CoPurchaseFeatures.load(tmp_path, manifest)


def test_contributions_are_what_is_added_to_the_logits():
    features = weighted(gpt2=1.0, near=0.5, nearest=0.25, times=0.1, bought=0.7, lately=0.3)
    logits = torch.arange(10.0).reshape(2, 5)
    bought = [codes("abaea"), codes("c")]
    together, again = (part.toarray() for part in features.contributions(bought))
    np.testing.assert_allclose(logits.numpy() + together + again, features.add(logits, bought).numpy(), atol=1e-5)
    assert again[0].nonzero()[0].tolist() == [0, 1, 4]
    assert together[1, 4] == 0
