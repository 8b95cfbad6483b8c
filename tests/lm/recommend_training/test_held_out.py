"""Held-out purchases of short histories, and that a training never sees them."""

from __future__ import annotations

import pytest

from lm.recommend_training.held_out import HeldOut, hold_out, leave_one_out, split_of
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.prompt import Event
from lm.train.training_state import TrainingError
from tests.lm.recommend_training.test_training_examples import KNOWN, bought, customer, searched


def test_hold_out_cuts_before_the_last_day_of_purchases():
    one = customer([bought("a")], [searched()], [searched("secret"), bought("b"), bought("a")], [searched("later")])
    left, held = hold_out(one, KNOWN, new_only=True)
    assert left == CustomerEvents([bought("a"), searched()], [0, 1])
    assert held == HeldOut([bought("a"), searched()], frozenset("a"), frozenset("b"))
    _, held = hold_out(one, KNOWN, new_only=False)
    assert held.items == frozenset("ab")


@pytest.mark.parametrize("one", [customer(), customer([bought("a")]), customer([bought("a")], [bought("a")])])
def test_nothing_is_held_out_of_one_day_or_of_repeats(one):
    assert hold_out(one, KNOWN, new_only=True) is None


@pytest.mark.parametrize(
    ("exclude_purchased", "disliked_stars", "expected"),
    [(True, 0, ["a"]), (True, 2, ["a", "b"]), (False, 2, ["b"]), (False, 1, []), (False, 4, ["b", "c"])],
)
def test_bought_and_disliked_items_are_not_listed_as_in_a_night(exclude_purchased, disliked_stars, expected):
    stars = [("b", 5), ("b", 2), ("c", 1), ("c", 4)]  # the newest rating of an item counts
    events = [bought("a"), *(Event("reviewed", item, item, "text", rating) for item, rating in stars)]
    held = HeldOut(events, frozenset("a"), frozenset("d"))
    assert held.not_listed(exclude_purchased=exclude_purchased, disliked_stars=disliked_stars) == expected


def test_leave_one_out_tests_the_last_validates_by_the_one_before_and_refits_on_all_but_the_last():
    whole = customer([bought("a"), searched("first"), bought("b"), searched("second"), bought("c"), searched("late")])
    split = leave_one_out([whole], KNOWN, RecommendTrainSettings())
    events = list(whole.events)
    assert split.test == [HeldOut(events[:4], frozenset("ab"), frozenset("c"))]
    assert split.validation == [HeldOut(events[:2], frozenset("a"), frozenset("b"))]
    assert [one.events for one in split.training] == [events[:2]]
    assert [one.events for one in split.refit] == [events[:4]]


def test_leave_one_out_trains_on_what_is_too_short_to_hold_out():
    one, two, three = (
        CustomerEvents([bought(item) for item in items], [0] * len(items)) for items in ("a", "ab", "abc")
    )
    split = leave_one_out([one, two, three], KNOWN, RecommendTrainSettings())
    assert [len(customer.events) for customer in split.training] == [1, 1, 1]
    assert [len(customer.events) for customer in split.refit] == [1, 1, 2]
    assert (len(split.validation), len(split.test)) == (1, 2)
    with pytest.raises(TrainingError, match="three times"):
        split_of([one, two], KNOWN, RecommendTrainSettings(protocol="leave-one-out"))


@pytest.mark.parametrize("protocol", ["time-split", "leave-one-out"])
def test_no_held_out_purchase_is_trained_on(protocol):
    people = [customer([bought("a")], [bought("b")], [searched(str(n)), bought("c")]) for n in range(50)]
    split = split_of(people, KNOWN, RecommendTrainSettings(protocol=protocol))
    assert len(split.test) == (50 if protocol == "leave-one-out" else 5)
    for trained, before in zip(split.training, people, strict=True):
        assert bought("c") not in trained.events
        assert list(before.events[: len(trained.events)]) == list(trained.events)


def on_days(**items: int) -> CustomerEvents:
    """A customer who bought each item on the day that is its value."""
    return CustomerEvents([bought(item) for item in items], list(items.values()))


def test_the_time_split_holds_out_everything_after_one_day_for_everybody():
    # After day 4 four of ten customers buy something new, and four of 34 purchases lie there.
    people = [*[on_days(a=1, b=2, c=4) for _ in range(6)], *[on_days(a=0, b=1, c=3, d=5 + n) for n in range(4)]]
    split = split_of(people, "abcd", RecommendTrainSettings(held_out_share=0.8))
    assert split.last_training_day == 4
    assert [one.items for one in split.test] == [frozenset("d")] * 4
    assert all(one.purchased == frozenset("abc") for one in split.test)
    assert max(day for one in split.training for day in one.days) <= 4
    assert len(split.validation) == 5
    assert all(one.items <= frozenset("bc") for one in split.validation)
    assert split.refit == people


@pytest.mark.parametrize(("customers", "validation"), [(30, 15), (790, 395), (900, 400), (4200, 420)])
def test_small_shops_stop_by_up_to_half_of_their_customers(customers, validation):
    people = [on_days(a=1, b=2, c=3, d=9 + n % 2) for n in range(customers)]
    split = split_of(people, "abcd", RecommendTrainSettings())
    assert len(split.validation) == validation
    assert len(split.test) == customers // 10


def test_the_last_day_with_enough_customers_is_taken():
    people = [on_days(a=1, b=2, c=3 + n % 3) for n in range(30)]
    one = split_of(people, KNOWN, RecommendTrainSettings(held_out_share=0.3))
    # Ten customers buy after day 4, and four are enough; after day 3 there would be twenty.
    assert (one.last_training_day, len(one.test)) == (4, 4)


def test_what_was_bought_before_is_no_target_of_new_lists():
    people = [on_days(a=1, b=2, c=3) for _ in range(8)] + [on_days(a=1, b=2)._replace(days=[1, 9]) for _ in range(2)]
    people += [CustomerEvents([bought("a"), bought("a")], [1, 12])]
    assert split_of(people, KNOWN, RecommendTrainSettings()).last_training_day == 3
    assert split_of(people, KNOWN, RecommendTrainSettings(exclude_purchased=False)).last_training_day == 9


def test_too_few_days_are_told():
    with pytest.raises(TrainingError, match="different days"):
        split_of([on_days(a=1, b=1)] * 9, KNOWN, RecommendTrainSettings())
