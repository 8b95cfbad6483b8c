"""Cold items: odds computed by hand, the fit, and lists that contain them."""

from __future__ import annotations

import random
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from lm.checkpoint.checkpoint import COLD_ITEMS_FILE, CheckpointError
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest, read_manifest
from lm.recommend.catalogue import Catalogue
from lm.recommend.co_purchase import CoPurchaseFeatures
from lm.recommend.cold_items import NEVER, ColdItems
from lm.recommend.hybrid import Hybrid
from lm.recommend.recommender import Recommender
from lm.recommend_training.fit_hybrid import COLD_FOLDS, _cold_fold, fit_cold_items
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.prompt import Event, PromptEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

TITLES = ["tea", "tea", "soap", None, "ink"]
BOUGHT = np.array([True, True, True, True, False])


def codes(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def cold_items(slope: float, constant: float) -> ColdItems:
    counted = ColdItems.of(TITLES, BOUGHT)
    return ColdItems(counted.title_vectors, counted.idf, counted.bought, (slope, constant))


def test_the_odds_are_those_of_the_likeness_to_the_newest_purchases():
    cold = cold_items(2.0, -1.0)
    # Titles of one word: equal ones have the cosine 1, others 0. The last purchase counts 1, the one before it 0.7.
    log_p = cold.log_probs(torch.zeros(2, 5), [codes(2, 0), codes(3)], cold.vectors(["soap", "tea"]))
    of_soap, of_tea, of_none = (exp(2 * log(likeness + 0.1) - 1) for likeness in (0.7, 1.0, 0.0))
    first = 1 + of_soap + of_tea
    known = [1 / 4 / first] * 4 + [0]  # four of five have been bought
    assert log_p[0].exp().tolist() == pytest.approx([*known, of_soap / first, of_tea / first], rel=1e-5)
    second = 1 + 2 * of_none  # an item without a title is like nothing
    assert log_p[1].exp().tolist()[5:] == pytest.approx([of_none / second] * 2, rel=1e-5)


def test_an_item_that_was_bought_twice_counts_once_and_only_the_newest_twenty_count():
    titles = ["tea", *(f"word{n}" for n in range(20))]
    cold = ColdItems.of(titles, np.ones(21, np.bool_))
    cold = ColdItems(cold.title_vectors, cold.idf, cold.bought, (1.0, 0.0))
    rows = cold.vectors(["tea"])
    asked = (codes(0, 0), codes(0), codes(0, *range(1, 21)))
    odds = [cold.log_probs(torch.zeros(1, 21), [bought], rows)[0] for bought in asked]
    assert torch.equal(odds[0], odds[1])
    assert (odds[2][-1] - odds[2][0]).exp().item() == pytest.approx(0.1 * 21, rel=1e-5)


def test_chinese_titles_share_characters():
    cold = ColdItems.of(["红色墨盒", "绿茶"], np.ones(2, np.bool_))
    cold = ColdItems(cold.title_vectors, cold.idf, cold.bought, (1.0, 0.0))
    ink, tea = cold.log_probs(torch.zeros(1, 2), [codes(0)], cold.vectors(["黑色墨盒", "红茶"]))[0, 2:]
    assert ink > tea > cold.log_probs(torch.zeros(1, 2), [codes(0)], cold.vectors(["tea"]))[0, 2]


@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=6))
def test_a_row_has_the_same_bits_in_any_company(purchases):
    cold = cold_items(1.3, -2.0)
    rows = cold.vectors(["tea soap", "ink", "tea"])
    logits = torch.randn(len(purchases), 5, generator=torch.Generator().manual_seed(0))
    bought = [codes(*row) for row in purchases]
    together = cold.log_probs(logits, bought, rows)
    for place, row in enumerate(bought):
        assert torch.equal(cold.log_probs(logits[place : place + 1], [row], rows)[0], together[place])
        assert together[place].exp().sum().item() == pytest.approx(1, rel=1e-5)


def customers_who_go_on_with_a_word(
    count: int, likely: float, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """100 products of ten words; the next purchase has the word of the last with probability `likely`."""
    last = np.random.default_rng(0).integers(0, 100, count)
    rng = np.random.default_rng(seed + 1)
    word = np.where(rng.random(count) < likely, last % 10, rng.integers(0, 10, count))
    following = word + 10 * rng.integers(0, 10, count)
    return [codes(item) for item in last], [codes(item) for item in following]


def test_the_fit_finds_what_titles_say_and_how_often_a_product_is_bought():
    titles = [f"word{n % 10}" for n in range(100)]
    counted = ColdItems.of(titles, np.ones(100, np.bool_))
    purchases, wanted = customers_who_go_on_with_a_word(2000, likely=0.9)
    telling = fit_cold_items(counted, purchases, wanted, seed=0)
    alike, other = (
        telling.log_probs(torch.zeros(1, 100), [codes(3)], telling.vectors([title]))[0, -1].exp().item()
        for title in ("word3", "word4")
    )
    # One more product of the word: a tenth of .91; of another: a tenth of .01. All of it beside the 100 known ones.
    assert alike == pytest.approx(0.091, rel=0.2)
    assert other == pytest.approx(0.001, rel=0.6)
    purchases, wanted = customers_who_go_on_with_a_word(2000, likely=0.0)
    silent = fit_cold_items(counted, purchases, wanted, seed=0)
    assert silent.weights == (0.0, NEVER)  # titles that tell nothing list nothing
    assert telling.weights[0] > 1


def test_a_cold_item_whose_title_says_nothing_is_never_listed():
    cold = cold_items(2.0, -1.0)
    log_p = cold.log_probs(torch.zeros(1, 5), [codes(3)], cold.vectors(["", "soap"]))
    assert log_p[0, 5].item() == pytest.approx(NEVER, abs=1)
    alone = cold.log_probs(torch.zeros(1, 5), [codes(3)], cold.vectors(["soap"]))
    assert log_p[0, [0, 1, 2, 3, 6]].tolist() == alone[0, [0, 1, 2, 3, 5]].tolist()


def test_the_fit_on_a_sample_of_products_agrees_with_the_fit_on_all(monkeypatch):
    monkeypatch.setattr("lm.recommend_training.fit_hybrid.COLD_DRAWN", 10)  # beside the wanted ones, of 50 in a fold
    counted = ColdItems.of([f"word{n % 10}" for n in range(1000)], np.ones(1000, np.bool_))
    purchases, wanted = customers_who_go_on_with_a_word(1000, likely=0.9)
    exact = fit_cold_items(counted, purchases, wanted, seed=0)
    sampled = fit_cold_items(counted, purchases, wanted, seed=0, exact=False)
    assert sampled.weights == pytest.approx(exact.weights, rel=0.03)
    assert sampled.weights != exact.weights


def test_the_constant_is_lowered_by_its_standard_error():
    counted = ColdItems.of([f"word{n % 10}" for n in range(100)], np.ones(100, np.bool_))
    purchases, wanted = customers_who_go_on_with_a_word(2000, likely=0.9)
    few, more, most = (
        fit_cold_items(counted, times * purchases, times * wanted, seed=0).weights for times in (1, 4, 16)
    )
    assert few[0] == pytest.approx(most[0], rel=0.02)
    # The same likelihood four times over has half the standard error.
    assert more[1] - few[1] == pytest.approx(2 * (most[1] - more[1]), rel=0.2)
    assert 0.01 < more[1] - few[1] < 0.1


def test_few_customers_move_the_weights_as_far_as_a_standard_normal_prior_lets_them():
    counted = ColdItems.of([f"word{n % 10}" for n in range(100)], np.ones(100, np.bool_))
    purchases, wanted = customers_who_go_on_with_a_word(20, likely=0.9)
    drawn = np.random.default_rng(0).permutation(100)
    parts = [np.sort(drawn[fold::COLD_FOLDS]) for fold in range(COLD_FOLDS)]
    folds = [_cold_fold(counted, part, purchases, wanted) for part in parts]
    begin = np.array([1, np.log(sum(sum(fold.share) for fold in folds) / (20 * 100))])

    def loss(weights: np.ndarray) -> float:
        surprise = sum(fold.loss(torch.tensor(weights, dtype=torch.float32)).item() for fold in folds)
        return ((weights - begin) ** 2).sum() / 2 + surprise

    slope, _ = minimize(loss, begin, method="Nelder-Mead").x
    assert fit_cold_items(counted, purchases, wanted, seed=0).weights[0] == pytest.approx(slope, abs=0.01)
    assert 1.7 < slope < 1.9


@pytest.mark.parametrize(("again", "expected"), [(0, 0.091), (5, 0.0455)])
def test_baskets_say_of_new_products_what_single_purchases_say(again, expected):
    titles = [f"word{n % 10}" for n in range(100)]
    purchases, _ = customers_who_go_on_with_a_word(1000, likely=0.9)
    following = [customers_who_go_on_with_a_word(1000, likely=0.9, seed=seed)[1] for seed in range(5)]
    # Five after each other, and as many purchases again of what the customer has.
    baskets = [
        np.concatenate([*(one[place] for one in following), np.repeat(of, again)]) for place, of in enumerate(purchases)
    ]
    fitted = fit_cold_items(ColdItems.of(titles, np.ones(100, np.bool_)), purchases, baskets, seed=0)
    alike = fitted.log_probs(torch.zeros(1, 100), [codes(3)], fitted.vectors(["word3"]))[0, -1].exp().item()
    assert alike == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(("customers", "wanting"), [(2000, 0), (2000, 200), (2000, 1000), (30, 0), (30, 10)])
def test_products_that_never_sold_are_expected_as_often_as_they_are_wanted(customers, wanting, monkeypatch):
    counted = ColdItems.of([f"word{n % 10}" for n in range(120)], np.arange(120) < 100)
    purchases, wanted = customers_who_go_on_with_a_word(customers, likely=0.9)
    wanted[:wanting] = [codes(100 + of[0] % 10) for of in wanted[:wanting]]

    def expected() -> float:
        fitted = fit_cold_items(counted, purchases, wanted, seed=0)
        log_p = fitted.log_probs(torch.zeros(customers, 120), purchases, fitted.title_vectors[100:])
        return log_p[:, 120:].exp().sum().item()

    found = expected()
    monkeypatch.setattr("lm.recommend_training.fit_hybrid.COLD_PRIOR", 1e9)  # what known products alone say
    by_known = expected()
    assert by_known > 2
    assert found == pytest.approx(by_known * (wanting + 2) / (by_known + 2), rel=1e-3)


def test_without_anything_to_learn_from_new_products_stay_out():
    counted = ColdItems.of(TITLES, BOUGHT)
    fitted = fit_cold_items(counted, [codes(0)], [codes(0)], seed=0)  # bought again: not new
    log_p = fitted.log_probs(torch.zeros(1, 5), [codes(0)], fitted.vectors(["tea"]))
    assert log_p[0, 5].exp() == 0


def test_the_manifest_has_the_weights_of_the_parts_that_there_are():
    co_purchase = CoPurchaseFeatures(csr_matrix((5, 5), dtype=np.float32))
    both = Hybrid(co_purchase, cold_items(1.5, -3.0)).with_weights(Manifest())
    assert both.neighbour_weights == list(co_purchase.weights)
    assert both.newcomer_weights == [1.5, -3.0]
    neither = Hybrid().with_weights(both)
    assert neither.neighbour_weights == neither.newcomer_weights == []


def test_saved_and_loaded(tmp_path):
    cold = cold_items(1.5, -3.0)
    cold.save(tmp_path)
    manifest = Manifest(
        coding="item_tokens", item_ids=list("abcde"), first_item_token=9, newcomer_weights=list(cold.weights)
    )
    loaded = ColdItems.load(tmp_path, manifest)
    assert loaded is not None
    asked = torch.zeros(1, 5), [codes(2, 0)]
    assert torch.equal(loaded.log_probs(*asked, loaded.vectors(["tea"])), cold.log_probs(*asked, cold.vectors(["tea"])))
    assert ColdItems.load(tmp_path, manifest.model_copy(update={"newcomer_weights": []})) is None
    with pytest.raises(CheckpointError, match="copy the model directory again"):
        ColdItems.load(tmp_path, manifest.model_copy(update={"newcomer_weights": [1.0]}))
    (tmp_path / COLD_ITEMS_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"newcomers\.safetensors cannot be read"):
        ColdItems.load(tmp_path, manifest)
    (tmp_path / COLD_ITEMS_FILE).unlink()
    with pytest.raises(CheckpointError, match="copy the model directory again"):
        ColdItems.load(tmp_path, manifest)


WORDS = ("ink", "soap", "tea", "lamp")
ITEMS = {f"{word}{n:02}": f"{word} number{n}" for word in WORDS for n in range(20)} | {"none": "tea number99"}


def shop(customers: int = 200) -> list[CustomerEvents]:
    """Everyone buys different products of one word, a day each."""
    rng = random.Random(0)
    found = []
    for _ in range(customers):
        word = rng.choice(WORDS)
        bought = [f"{word}{n:02}" for n in rng.sample(range(20), 6)]
        found.append(CustomerEvents([Event("bought", item, ITEMS[item]) for item in bought], list(range(6))))
    return found


def test_new_products_are_listed_for_those_who_buy_alike(tmp_path):
    tiny = {"n_embd": 16, "n_layer": 1, "vocab_size": 300, "max_tokens": 40, "batch_tokens": 1500, "max_epochs": 2}
    train_recommend(shop(), ITEMS, RecommendTrainSettings(**tiny), tmp_path / "with")
    train_recommend(shop(), ITEMS, RecommendTrainSettings(**tiny, newcomers=False), tmp_path / "without")
    assert read_manifest(tmp_path / "without").newcomer_weights == []
    assert not (tmp_path / "without" / COLD_ITEMS_FILE).exists()
    assert model_fingerprint(tmp_path / "with") != model_fingerprint(tmp_path / "without")
    # `none` was on sale when the model was trained, `later` came after it: it has no token at all.
    titles = ITEMS | {"later": "soap number98"}
    ranks = {}
    for name in ("with", "without"):
        encoder = PromptEncoder.load(tmp_path / name)
        engine = Recommender.load(
            tmp_path / name, Catalogue.build(list(titles), list(titles.values()), encoder), dtype="float32"
        )
        for word, new in (("tea", "none"), ("soap", "later")):
            bought = [f"{word}{n:02}" for n in range(4)]
            prompt = encoder.render_many([[Event("bought", item, ITEMS[item]) for item in bought]], 40)[0].prompt
            (found,) = engine.recommend([prompt], [bought], len(titles))
            listed = [one.item_id for one in found]
            ranks[name, new] = listed.index(new) if new in listed else None
            assert sum(exp(one.score) for one in found) <= 1 + 1e-5
            (barred,) = engine.recommend([prompt], [[*bought, new]], len(titles))
            assert new not in [one.item_id for one in barred]
    assert ranks["with", "none"] < 30 > ranks["with", "later"]  # among the 16 of their word that are left
    assert ranks["without", "later"] is None
