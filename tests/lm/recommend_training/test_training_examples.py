"""Predictions of short histories, and that training reads the same prompts as a night."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.checkpoint.manifest import Manifest
from lm.recommend_training.training_examples import (
    WITHIN_DAY,
    CustomerEvents,
    Target,
    _begin,
    item_examples,
    prediction_targets,
    purchase_targets,
    title_examples,
    windows,
)
from lm.text.prompt import Event, PromptEncoder
from tests.models import train_tokenizer

TITLES = {"a": "Inkjet printer with scanner", "b": "Black ink cartridge", "c": "Red cotton T-shirt, size M"}
KNOWN = set(TITLES)


def bought(item):
    return Event("bought", item, TITLES.get(item, f"Old {item}"))


def searched(query="ink for my printer"):
    return Event("searched", None, None, query)


def customer(*events_of_days):
    """Each argument is one day's events."""
    pairs = [(event, day) for day, events in enumerate(events_of_days) for event in events]
    return CustomerEvents([event for event, _ in pairs], [day for _, day in pairs])


def test_the_end_of_a_day_predicts_the_next_day_of_purchases():
    one = customer([bought("a")], [searched()], [searched(), bought("b"), bought("c")])
    assert prediction_targets(one, KNOWN, new_only=False) == [
        Target(0, ("a",), 1.0),  # before everything
        Target(1, ("b", "c"), 1.0),  # a's day is over: the next day of purchases has b and c
        Target(2, ("b", "c"), 1.0),  # so does the day of the search
        Target(3, ("b",), WITHIN_DAY),  # inside the last day, after its search
        Target(4, ("c",), WITHIN_DAY),
    ]


def test_a_basket_has_no_order_and_weighs_what_one_purchase_does():
    events = [searched(), bought("a"), bought("b"), bought("c")]
    one = CustomerEvents(events, [0, 0, 0, 0], [5, 9, 9, 9])
    assert prediction_targets(one, KNOWN, new_only=False) == [
        Target(0, ("a", "b", "c"), 1.0),
        Target(1, ("a", "b", "c"), WITHIN_DAY),
        Target(2, ("b", "c"), WITHIN_DAY / 3),
        Target(3, ("c",), WITHIN_DAY / 3),
    ]


def test_where_every_event_is_a_day_it_is_the_next_purchase():
    one = customer([bought("a")], [bought("b")], [bought("a")])
    assert prediction_targets(one, KNOWN, new_only=False) == [
        Target(0, ("a",), 1),
        Target(1, ("b",), 1),
        Target(2, ("a",), 1),
    ]


def test_new_only_never_predicts_what_was_bought_before():
    one = customer([bought("a")], [bought("a"), bought("b")], [bought("a")])
    assert prediction_targets(one, KNOWN, new_only=True) == [
        Target(0, ("a",), 1.0),
        Target(1, ("b",), 1.0),
        Target(2, ("b",), WITHIN_DAY),
    ]


def test_unknown_items_are_read_but_never_predicted():
    one = customer([bought("gone")], [bought("a")])
    assert prediction_targets(one, KNOWN, new_only=True) == [Target(1, ("a",), 1.0)]


EVENTS = st.lists(
    st.one_of(
        st.sampled_from([bought("a"), bought("b"), bought("c"), bought("gone"), searched(), searched("x" * 300)]),
        st.builds(
            lambda item, text, stars: Event("reviewed", item, TITLES[item], text, stars),
            st.sampled_from("abc"),
            st.text(max_size=30),
            st.integers(1, 5),
        ),
    ),
    max_size=12,
)


@pytest.fixture(scope="module", params=["titles", "item_tokens"])
def encoder(request):
    tokenizer = train_tokenizer()
    codes = {"coding": "item_tokens", "item_ids": list("abc"), "first_item_token": tokenizer.get_vocab_size()}
    return PromptEncoder(tokenizer, Manifest(**(codes if request.param == "item_tokens" else {})))


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, budget=st.integers(30, 120))
@pytest.mark.parametrize("encoder", ["titles"], indirect=True)
def test_windows_are_prompts_of_the_night_and_cover_every_event_once(encoder, events, budget):
    (covered,) = windows([events], encoder, budget)
    end = len(events)
    for window in covered:  # newest first
        rendered = encoder.render(events[:end], budget)
        assert window == encoder.encode(rendered.prompt)
        assert len(window) <= budget
        end -= rendered.events_used
    assert end == 0


class Draws:
    """A fake random generator: the first number decides about the text, the others are the drawn numbers."""

    def __init__(self, share: float, number: int = 0) -> None:
        self.share, self.number = share, number

    def random(self) -> float:
        return self.share

    def integers(self, below: int) -> int:
        return min(self.number, below - 1)


def lesson(encoder, one, draws, max_tokens=120, *, new_only=True, history_events=50):
    learned = purchase_targets(one, encoder.item_tokens, new_only=new_only)
    (example,) = item_examples([learned], encoder, encoder.item_tokens, max_tokens, history_events, draws)
    pairs = list(zip(example.positions.tolist(), example.labels.tolist(), strict=True))
    return example.tokens.tolist(), pairs, example.weights.tolist()


ONE = customer([bought("a"), searched("secret")], [searched()], [searched("later"), bought("b"), bought("c")])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_after_a_nights_prompt_comes_what_was_bought_then(encoder):
    token = encoder.item_tokens
    tokens, pairs, weights = lesson(encoder, ONE, Draws(0.9))
    prompt = encoder.encode(encoder.render(ONE.events[:3], 120).prompt)  # up to the day of b and c
    assert encoder.encode("Searched: later\n") not in [tokens[i : i + 40] for i in range(len(tokens))]
    assert tokens == [*prompt, token["b"], token["c"]]
    assert pairs == [(len(prompt) - 1, token["b"]), (len(prompt) - 1, token["c"]), (len(prompt), token["c"])]
    assert weights == pytest.approx([0.5, 0.5, WITHIN_DAY])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_half_the_time_the_purchases_follow_the_bare_header(encoder):
    token, header = encoder.item_tokens, encoder.encode(encoder.header)
    tokens, pairs, weights = lesson(encoder, ONE, Draws(0.1))
    assert tokens == [*header, *(token[item] for item in "abc")]
    end = len(header) - 1
    assert pairs == [(end, token["a"]), (end + 1, token["b"]), (end + 1, token["c"]), (end + 2, token["c"])]
    assert weights == pytest.approx([1, 0.5, 0.5, WITHIN_DAY])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_a_long_history_is_learned_in_parts_that_start_anywhere(encoder):
    one = customer(*[[searched(), bought(item)] for item in "abc" * 40])
    tokens, pairs, _ = lesson(encoder, one, Draws(0.1, 7), 60, new_only=False)
    header = encoder.encode(encoder.header)
    assert tokens[: len(header)] == header
    assert len(tokens) == len(header) + 60
    # From the header alone only a new customer's first purchase is asked for.
    assert [position for position, _ in pairs] == list(range(len(header), len(tokens)))
    _, first, _ = lesson(encoder, one, Draws(0.1, 0), 60, new_only=False)
    assert first[0] == (len(header) - 1, encoder.item_tokens["a"])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
@settings(max_examples=100, deadline=None)
@given(
    days=st.lists(st.lists(st.one_of(st.builds(bought, st.sampled_from("abc")), st.just(searched())), min_size=1)),
    seed=st.integers(0, 1000),
    new_only=st.booleans(),
)
def test_no_example_knows_what_it_is_asked(encoder, days, seed, new_only):
    one = customer(*days)
    learned = purchase_targets(one, encoder.item_tokens, new_only=new_only)
    if learned is None:
        return
    item_of = {token: item for item, token in encoder.item_tokens.items()}
    examples = item_examples([learned], encoder, encoder.item_tokens, 80, 50, np.random.default_rng(seed))
    for example in examples:
        assert len(example.tokens) <= 80 + 64
        order = [item_of[token] for token in example.tokens.tolist() if token in item_of]
        # Items in an example are in the order in which they were bought, so what comes later was bought later.
        assert "".join(order) in "".join(str(event.item_id) for event in one.events if event.kind == "bought")
        if new_only:
            for position, label in zip(example.positions, example.labels, strict=True):
                assert label not in example.tokens[: position + 1]


@pytest.mark.parametrize("encoder", ["titles"], indirect=True)
def test_a_title_example_is_the_nights_prompt_and_titles_alone_are_learned(encoder):
    events = [searched(), bought("a"), searched()]
    (example,) = title_examples([(events, "b")], encoder, TITLES, 64)
    prompt, answer = encoder.encode(encoder.render(events, 64).prompt), encoder.answer_tokens(TITLES["b"])
    assert example.tokens.tolist() == prompt + answer
    inside = encoder.answer_tokens(TITLES["a"])
    assert example.labels.tolist() == inside + answer
    assert example.weights.tolist() == pytest.approx([WITHIN_DAY] * len(inside) + [1.0] * len(answer))
    assert [example.tokens[position + 1] for position in example.positions] == example.labels.tolist()
    assert example.positions.tolist()[-len(answer) :] == list(range(len(prompt) - 1, len(prompt) + len(answer) - 1))


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_a_part_of_a_long_history_is_as_long_as_it_may_be(encoder):
    one = purchase_targets(customer(*[[bought(item)] for item in "abc" * 40]), encoder.item_tokens, new_only=False)
    rng = np.random.default_rng(0)
    starts = [start for start, before in (_begin(one, 50, rng) for _ in range(900)) if before is None]
    assert max(starts) == len(one.tokens) - 50
    assert min(starts) == 0
