"""Parts sum to the score, weights equal a fresh prediction without the event, and counterfactuals hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.recommend.counterfactual import counterfactual
from lm.recommend.explanation import explain_list
from lm.recommend.hybrid import Hybrid
from lm.recommend.reasons import Reasoner, event_texts, without_events
from lm.recommend.recommender import Recommender, ScoredItem
from lm.recommend_training.count_purchases import Bought, count_hybrid
from tests.lm.recommend.test_recommender import ITEMS, TITLES, make_recommender
from tests.models import save_causal

pytestmark = pytest.mark.usefixtures("one_thread")

TITLED = [
    "Customer history\nSearched: ink for my printer\nBought: Black ink cartridge\nBought: Red cotton T-shirt\nBought:",
    "Customer history\nReviewed 5/5: Argan oil shampoo: smells lovely, my hair is soft\nBought:",
    "Customer history\nBought:",
]
CODED = [
    "Customer history\nSearched: ink\nReviewed 5/5: <|item:i003|>: nice\n<|item:i004|>\n<|item:i005|>\n<|item:i004|>\n",
    "Customer history\nSearched: ink for my printer\n",
    "Customer history\n<|item:i007|>\n",
    "Customer history\n",
]


@pytest.fixture(scope="module")
def titles(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    path = save_causal(tmp_path_factory.mktemp("titles") / "m", n_embd=32, n_layer=2, n_head=2, spread=0.15)
    return make_recommender(path, ITEMS, TITLES)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Items 0 to 99 were bought, 100 to 149 are known to the model, the others have only a title."""
    path: Path = save_causal(tmp_path_factory.mktemp("tokens") / "m", item_ids=ITEMS[:150], spread=0.15)
    bought = [Bought(np.array([n, (n * 7 + 1) % 100, n]), np.array([0, n, n])) for n in range(100)]
    counted = count_hybrid(bought, dict(zip(ITEMS[:150], TITLES[:150], strict=True)), co_purchase=True, cold_items=True)
    assert counted.co_purchase is not None
    assert counted.cold_items is not None
    hybrid = Hybrid(
        replace(counted.co_purchase, weights=(0.9, 0.3, 0.2, 0.5, 0.25, 0.7, -0.6, 0.8)),
        replace(counted.cold_items, weights=(1.0, -1.5)),
    )
    model = make_recommender(path, ITEMS, TITLES)
    return Recommender(model.engine, model.encoder, model.catalogue, hybrid=hybrid)


def listed(model: Recommender, prompts: list[str], k: int = 4) -> list[list[str]]:
    return [[one.item_id for one in found] for found in model.recommend(prompts, [[]] * len(prompts), k)]


def all_scores(model: Recommender, prompt: str) -> dict[str, float]:
    return {one.item_id: one.score for one in model.recommend([prompt], [[]], len(model.catalogue))[0]}


@pytest.mark.parametrize("coding", ["titles", "tokens"])
def test_weights_equal_a_prediction_from_scratch_and_parts_sum_to_the_score(
    coding: str, request: pytest.FixtureRequest
) -> None:
    model: Recommender = request.getfixturevalue(coding)
    prompts = TITLED if coding == "titles" else CODED
    lists = listed(model, prompts)
    if coding == "tokens":
        lists[0] = [ITEMS[n] for n in (4, 29, 120, 170, 12)]  # bought, bought together, two without buyers, another
    weights = Reasoner(model).event_weights(prompts, lists)
    scores = [one[0] for one in Reasoner(model).scores_without(prompts, lists, [[]] * len(prompts))]
    parts = Reasoner(model).parts(prompts, lists, scores)
    for p, (prompt, items) in enumerate(zip(prompts, lists, strict=True)):
        whole = all_scores(model, prompt)
        events = range(len(event_texts(model.encoder, prompt)))
        without = [all_scores(model, without_events(model.encoder, prompt, [event])) for event in events]
        assert scores[p] == pytest.approx([whole[item] for item in items], abs=1e-4)
        assert [sum(part) for part in parts[p]] == pytest.approx([whole[item] for item in items], abs=1e-4)
        expected = [[whole[item] - other[item] for other in without] for item in items]
        np.testing.assert_allclose(weights[p], np.reshape(expected, (len(items), len(events))), atol=2e-4)
    if coding == "tokens":
        own, together, unbought, cold = parts[0][:4]
        assert own.bought_again > 0
        assert together.bought_together > 0
        assert own.popular < 0 == cold.popular == unbought.popular
        assert cold.gpt2 == unbought.gpt2 == 0
        assert max(cold.like_its_title, unbought.like_its_title) < 0


def test_reasons_do_not_depend_on_the_batch(tokens: Recommender, titles: Recommender) -> None:
    for model, prompts in ((tokens, CODED), (titles, TITLED)):
        lists = listed(model, prompts)
        together = Reasoner(model).event_weights(prompts, lists)
        for prompt, items, weights in zip(prompts, lists, together, strict=True):
            np.testing.assert_array_equal(Reasoner(model).event_weights([prompt], [items])[0], weights)


def test_long_prompts_take_several_passes(tokens: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "Customer history\n" + "".join(f"Searched: ink for my printer {n}\n" for n in range(8)) + CODED[2][17:]
    (whole,) = Reasoner(tokens).event_weights([prompt], listed(tokens, [prompt]))
    monkeypatch.setattr("lm.recommend.reasons.PASS_ROWS", 16)
    (pieces,) = Reasoner(tokens).event_weights([prompt], listed(tokens, [prompt]))
    assert whole.shape == (4, 9)
    np.testing.assert_allclose(whole, pieces, atol=1e-4)


def test_a_night_weighs_the_newest_purchases_and_all_else(tokens: Recommender, titles: Recommender) -> None:
    lines = ["Searched: ink for my printer", *(f"<|item:{ITEMS[n]}|>" for n in (4, 29, 4, 60, 17))]
    prompts = ["Customer history\n" + "\n".join(lines) + "\n", *CODED]
    lists = listed(tokens, prompts)
    whole, some = (Reasoner(tokens).event_weights(prompts, lists, newest) for newest in (None, 2))
    assert np.flatnonzero(np.isnan(some[0][0])).tolist() == [1, 2, 3]
    assert not any(np.isnan(weights).any() for weights in whole)
    for all_of, some_of in zip(whole, some, strict=True):
        np.testing.assert_allclose(some_of[~np.isnan(some_of)], all_of[~np.isnan(some_of)], atol=1e-4)
    (spelled,) = Reasoner(titles).event_weights(TITLED[:1], listed(titles, TITLED[:1]), 1)
    assert not np.isnan(spelled).any()


def test_a_product_that_cannot_be_listed_is_an_error(tokens: Recommender) -> None:
    with pytest.raises(KeyError, match="not in the catalogue"):
        Reasoner(tokens).event_weights(CODED[:1], [["no such product"]])


def test_a_counterfactual_takes_the_product_off_the_list(tokens: Recommender) -> None:
    prompt = CODED[0]
    item = listed(tokens, [prompt], 3)[0][0]
    ((weights,),) = Reasoner(tokens).event_weights([prompt], [[item]])

    def is_listed(sets: object) -> list[bool]:
        return [item in found for found in listed(tokens, [without_events(tokens.encoder, prompt, s) for s in sets], 3)]

    found = counterfactual(weights.tolist(), is_listed)
    if found is None:
        assert is_listed([range(5)]) == [True]
    else:
        assert is_listed([found]) == [False]


@pytest.mark.parametrize("coding", ["titles", "tokens"])
def test_an_explained_list_is_the_list(coding: str, request: pytest.FixtureRequest) -> None:
    model: Recommender = request.getfixturevalue(coding)
    prompt = (TITLED if coding == "titles" else CODED)[0]

    def ask(prompts: Sequence[str]) -> list[list[ScoredItem]]:
        lists = model.recommend(prompts, [[]] * len(prompts), 3)
        return [[one._replace(score=one.score + 0.5, weight=0.5) for one in found] for found in lists]

    found = explain_list(model, prompt, ask, 2)
    assert found.items == ask([prompt])[0]
    assert [sum(part) for part in found.parts] == pytest.approx([one.score for one in found.items], abs=1e-4)
    assert [part.rule for part in found.parts] == [0.5] * 3
    assert len(found.weights) == len(event_texts(model.encoder, prompt))
    assert found.is_verified == (found.without is not None)
    if found.without is not None:
        left = without_events(model.encoder, prompt, found.without)
        assert found.items[1].item_id not in {one.item_id for one in ask([left])[0]}
    with pytest.raises(IndexError):
        explain_list(model, prompt, ask, 4)


@given(st.integers(0, 7), st.sets(st.frozensets(st.integers(0, 6), min_size=1, max_size=4), max_size=5), st.data())
def test_counterfactuals_are_minimal(count: int, causes: set[frozenset[int]], data: st.DataObject) -> None:
    """The product is gone without all events of any of the `causes`."""
    weights = data.draw(st.lists(st.floats(-1, 1), min_size=count, max_size=count))
    possible = [cause for cause in causes if max(cause) < count]

    def is_listed(sets: object) -> list[bool]:
        return [not any(cause <= set(one) for cause in possible) for one in sets]

    found = counterfactual(weights, is_listed)
    if found is None:
        assert not possible
        return
    assert is_listed([found]) == [False]
    assert all(is_listed([fewer]) == [True] for fewer in combinations(found, len(found) - 1))
    smallest = min(map(len, possible))
    assert len(found) == smallest if smallest <= 2 else len(found) >= smallest
