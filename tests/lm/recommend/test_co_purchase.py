"""What is bought together and again, beside GPT-2: the features by hand, the fitted weights, and the file."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.checkpoint.checkpoint import CO_PURCHASE_FILE, CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.metrics.baselines import CoPurchases
from lm.recommend.co_purchase import FEATURES, Neighbours, purchases_in

CODES = {item: code for code, item in enumerate("abcde")}
# a and b were bought by the same two of three customers, c with one of them; nobody bought d and e.
COUNTED = CoPurchases.fit([["a", "b"], ["b", "a", "c"], ["c"]])


def neighbours(**weights: float) -> Neighbours:
    counted = Neighbours.of(COUNTED, CODES)
    return Neighbours(counted.cosines, tuple(weights.get(name, 0.0) for name in FEATURES))


def codes(items: str) -> np.ndarray:
    return np.array([CODES[item] for item in items], dtype=np.int64)


@pytest.mark.parametrize("feature", ["near", "nearest"])
def test_near_items_count_by_the_logarithm_of_their_cosines(feature):
    logits = neighbours(gpt2=2.0, **{feature: 1.0}).add(torch.ones(2, 5), [codes("aa"), codes("ac")])
    half = 1 / 2  # of the buyers of a (2) and c (2) one is the same: 1 / sqrt(2 * 2)
    assert logits[0].tolist() == pytest.approx([2, 2 + log(101), 2 + log(1 + 100 * half), 2, 2])
    assert logits[1].tolist() == pytest.approx(
        [2 + log(1 + 100 * half), 2 + log(1 + 100 * 1.5), 2 + log(1 + 100 * half), 2, 2]
    )


def test_the_nearest_are_those_of_the_newest_ten():
    twelve = [f"i{n}" for n in range(12)]
    counted = CoPurchases.fit([[item, f"of {item}"] for item in twelve])
    names = {item: code for code, item in enumerate([*twelve, *(f"of {item}" for item in twelve)])}
    near = Neighbours(Neighbours.of(counted, names).cosines, (0, 1, 0, 0, 0, 0))
    nearest = Neighbours(near.cosines, (0, 0, 1, 0, 0, 0))
    bought = [np.arange(12)]
    assert near.add(torch.zeros(1, 24), bought)[0, 12:].tolist() == pytest.approx([log(101)] * 12)
    assert nearest.add(torch.zeros(1, 24), bought)[0, 12:].tolist() == pytest.approx([0, 0] + [log(101)] * 10)


def test_own_items_count_by_how_often_and_how_lately():
    bought = [codes("abaea")]
    assert neighbours(times=1.0).add(torch.zeros(1, 5), bought)[0].tolist() == pytest.approx(
        [log(4), log(2), 0, 0, log(2)]
    )
    assert neighbours(bought=3.0).add(torch.zeros(1, 5), bought)[0].tolist() == [3, 3, 0, 0, 3]
    lately = neighbours(lately=1.0).add(torch.zeros(1, 5), bought)[0].tolist()
    assert lately == pytest.approx([1, 20 / 22, 0, 0, 20 / 21])  # a last, e before it, b before that


def test_only_the_closest_are_kept(monkeypatch):
    monkeypatch.setattr("lm.recommend.co_purchase.PAIRS", 0)
    monkeypatch.setattr("lm.recommend.co_purchase._FEWEST", 1)
    assert Neighbours.of(COUNTED, CODES).cosines.toarray().tolist() == pytest.approx(
        np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [0] * 5, [0] * 5])
    )


@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=6))
def test_a_row_has_the_same_bits_in_any_company(purchases):
    some = neighbours(gpt2=0.7, near=0.3, nearest=0.2, times=0.5, bought=-1.0, lately=0.4)
    logits = torch.randn(len(purchases), 5, generator=torch.Generator().manual_seed(0))
    rows = [np.array(row, dtype=np.int64) for row in purchases]
    together = some.add(logits, rows)
    for place, row in enumerate(rows):
        assert torch.equal(some.add(logits[place : place + 1], [row])[0], together[place])


def test_who_buys_again_is_learned_and_nothing_where_own_items_are_barred():
    rng = np.random.default_rng(0)
    purchases = [rng.integers(0, 5, 3) for _ in range(200)]
    wanted = [row[-1:] for row in purchases]  # each buys the last item again
    logits = torch.zeros(200, 5)
    counted = Neighbours.of(COUNTED, CODES)
    fitted = counted.fitted(logits, purchases, wanted, [row[:0] for row in purchases])
    right = np.concatenate(wanted)
    log_p = fitted.add(logits, purchases).log_softmax(dim=1)[range(200), right]
    assert log_p.mean() > log(1 / 2) > log(1 / 5)
    others = [np.setdiff1d(np.arange(5), row)[:1] for row in purchases]
    barred = counted.fitted(logits, purchases, others, purchases)
    assert barred.weights[3:] == (0, 0, 0)


def test_few_rows_change_little():
    one = Neighbours.of(COUNTED, CODES).fitted(torch.zeros(1, 5), [codes("a")], [codes("b")], [codes("a")])
    assert one.weights[0] == 1  # GPT-2 says nothing here
    assert 0 < one.weights[1] < 2


def test_purchases_are_the_run_of_items_at_the_end():
    assert purchases_in([5, 101, 7, 100, 103, 100], first=100).tolist() == [0, 3, 0]
    assert purchases_in([5, 7], first=100).tolist() == []
    assert purchases_in([101], first=100).tolist() == [1]


def test_saved_and_loaded(tmp_path):
    some = neighbours(gpt2=0.5, near=0.25)
    some.save(tmp_path)
    manifest = Manifest(
        coding="item_tokens", item_ids=list(CODES), first_item_token=9, neighbour_weights=list(some.weights)
    )
    loaded = Neighbours.load(tmp_path, manifest)
    assert loaded is not None
    assert loaded.weights == some.weights
    assert (loaded.cosines != some.cosines).nnz == 0
    assert Neighbours.load(tmp_path, manifest.model_copy(update={"neighbour_weights": []})) is None
    (tmp_path / CO_PURCHASE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"neighbours\.safetensors cannot be read"):
        Neighbours.load(tmp_path, manifest)
    (tmp_path / CO_PURCHASE_FILE).unlink()
    with pytest.raises(CheckpointError, match="copy the model directory again"):
        Neighbours.load(tmp_path, manifest)
