"""A shop whose customers buy the same again is told what its lists leave out."""

from __future__ import annotations

import pytest

from lm.recommend_training.repeats import repeated_share, repeats_note
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.template import Event


def customer(*bought: tuple[int, str], searched: bool = False) -> CustomerEvents:
    events = [Event("bought", item, item) for _, item in bought]
    days = [day for day, _ in bought]
    if searched:
        events, days = [*events, Event("searched", text="tea")], [*days, days[-1] + 1]
    return CustomerEvents(events, days)


@pytest.mark.parametrize(
    ("bought", "share"),
    [
        ([(1, "a"), (1, "a")], 0.0),  # twice on one day is one purchase
        ([(1, "a"), (2, "b"), (3, "a"), (3, "a")], 1 / 2),
        ([(1, "a"), (2, "a"), (3, "a"), (4, "b")], 2 / 3),
        ([], 0.0),
    ],
)
def test_a_product_of_an_earlier_day_is_a_repeat(bought, share):
    assert repeated_share([customer(*bought)]) == pytest.approx(share)


def test_the_note_needs_many_repeats():
    loyal, curious = customer((1, "a"), (5, "a"), searched=True), customer((1, "a"), (2, "b"), (3, "c"))
    assert repeats_note([curious]) is None
    note = repeats_note([loyal, curious])  # 1 of 3
    assert note is not None
    assert note.startswith("33% of later purchases")
    assert "recommend.exclude_purchased to false" in note
