"""What is predicted where, on histories short enough to read; and that training reads what the night reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.checkpoint import Manifest
from lm.examples import (
    WITHIN_DAY,
    Customer,
    HeldOut,
    Target,
    hold_out,
    item_examples,
    purchase_examples,
    targets,
    title_examples,
    windows,
)
from lm.prompt import Event, PromptEncoder
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
    return Customer([event for event, _ in pairs], [day for _, day in pairs])


def test_the_end_of_a_day_predicts_the_next_day_of_purchases():
    one = customer([bought("a")], [searched()], [searched(), bought("b"), bought("c")])
    assert targets(one, KNOWN, new_only=False) == [
        Target(0, ("a",), 1.0),  # before everything
        Target(1, ("b", "c"), 1.0),  # a's day is over: the next day of purchases has b and c
        Target(2, ("b", "c"), 1.0),  # so does the day of the search
        Target(3, ("b",), WITHIN_DAY),  # inside the last day, after its search
        Target(4, ("c",), WITHIN_DAY),
    ]


def test_where_every_event_is_a_day_it_is_the_next_purchase():
    one = customer([bought("a")], [bought("b")], [bought("a")])
    assert targets(one, KNOWN, new_only=False) == [Target(0, ("a",), 1), Target(1, ("b",), 1), Target(2, ("a",), 1)]


def test_new_only_never_predicts_what_was_bought_before():
    one = customer([bought("a")], [bought("a"), bought("b")], [bought("a")])
    assert targets(one, KNOWN, new_only=True) == [
        Target(0, ("a",), 1.0),
        Target(1, ("b",), 1.0),
        Target(2, ("b",), WITHIN_DAY),
    ]


def test_unknown_items_are_read_but_never_predicted():
    one = customer([bought("gone")], [bought("a")])
    assert targets(one, KNOWN, new_only=True) == [Target(1, ("a",), 1.0)]


def test_hold_out_cuts_before_the_last_day_of_purchases():
    one = customer([bought("a")], [searched()], [searched("secret"), bought("b"), bought("a")], [searched("later")])
    left, held = hold_out(one, KNOWN, new_only=True)
    assert left == Customer([bought("a"), searched()], [0, 1])
    assert held == HeldOut([bought("a"), searched()], frozenset("a"), frozenset("b"))
    _, held = hold_out(one, KNOWN, new_only=False)
    assert held.items == frozenset("ab")


@pytest.mark.parametrize("one", [customer(), customer([bought("a")]), customer([bought("a")], [bought("a")])])
def test_nothing_is_held_out_of_one_day_or_of_repeats(one):
    assert hold_out(one, KNOWN, new_only=True) is None


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
def test_windows_are_prompts_of_the_night_and_cover_every_event_once(encoder, events, budget):
    (covered,) = windows([events], encoder, budget)
    end = len(events)
    for window in covered:  # newest first
        rendered = encoder.render(events[:end], budget)
        assert window.tokens == encoder.encode(rendered.prompt)
        assert len(window.tokens) <= budget
        assert window.first == end - rendered.events_used
        # The prompt as it stood after each event, without the cue, is the prefix that ends there.
        for i, position in enumerate(window.ends):
            shorter = encoder.render(events[window.first : window.first + i], budget)
            if i < rendered.events_used or i == 0:
                prefix = encoder.encode(shorter.prompt[: len(shorter.prompt) - len(encoder.cue)])
                assert window.tokens[: position + 1] == prefix
        end = window.first
    assert end == 0


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_an_item_example_asks_at_the_ends_of_events(encoder):
    one = customer([bought("a")], [searched(), bought("b")])
    token = encoder.item_tokens
    (example,) = item_examples([one], encoder, token, 64, new_only=True)
    header = len(encoder.encode(encoder.header))
    query = len(encoder.encode("Searched: ink for my printer\n"))
    assert example.tokens.tolist()[header] == token["a"]
    assert len(example.tokens) == header + 1 + query + 1
    # After the header: a. After a's day: b, over the search. After the search: b, as a question within a day.
    assert example.positions.tolist() == [header - 1, header, header + query]
    assert example.labels.tolist() == [token["a"], token["b"], token["b"]]
    assert example.weights.tolist() == pytest.approx([1, 1, WITHIN_DAY])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_a_long_history_is_windowed_and_no_target_is_lost(encoder):
    items = ["a", "b", "c"] * 20
    one = customer(*[[searched(), bought(item)] for item in items])
    whole = item_examples([one], encoder, encoder.item_tokens, 10_000, new_only=False)
    parts = item_examples([one], encoder, encoder.item_tokens, 60, new_only=False)
    assert len(whole) == 1
    assert len(parts) > 3
    assert all(len(part.tokens) <= 60 for part in parts)
    # A window's last state asks for what comes first in the next, whose own header asks nothing.
    assert sum(len(part.labels) for part in parts) == len(whole[0].labels)
    assert all(np.all(np.diff(part.positions) >= 0) for part in parts)


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
def test_purchases_alone_stand_where_the_whole_prompt_has_them(encoder):
    one = customer([bought("a")], [searched()], [searched(), bought("b"), bought("gone"), bought("c")])
    (whole,) = item_examples([one], encoder, encoder.item_tokens, 80, new_only=True)
    (alone,) = purchase_examples([one], encoder, encoder.item_tokens, 80, new_only=True)
    header = encoder.encode(encoder.header)
    assert alone.tokens.tolist() == [*header, *(encoder.item_tokens[item] for item in "abc")]
    assert whole.tokens[alone.places].tolist() == alone.tokens.tolist()
    # After the header a, after a's day b and c, after b within its day c.
    token = encoder.item_tokens
    assert list(zip(alone.positions.tolist(), alone.labels.tolist(), strict=True)) == [
        (len(header) - 1, token["a"]),
        (len(header), token["b"]),
        (len(header), token["c"]),
        (len(header) + 1, token["c"]),
    ]
    assert alone.weights.tolist() == pytest.approx([1, 0.5, 0.5, WITHIN_DAY])


@pytest.mark.parametrize("encoder", ["item_tokens"], indirect=True)
@pytest.mark.parametrize("budget", [60, 10_000])
def test_no_purchase_is_left_out_of_the_windows(encoder, budget):
    one = customer(*[[searched(), bought(item)] for item in "abc" * 20])
    examples = purchase_examples([one], encoder, encoder.item_tokens, budget, new_only=False)
    assert sum(len(example.labels) for example in examples) == 60
    assert all(example.places.max() < budget for example in examples)


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
