"""Held-out purchases of short histories, and that a training never sees them."""

from __future__ import annotations

import pytest

from lm.recommend.held_out import HeldOut, hold_out, leave_one_out, split_of
from lm.recommend.settings import RecommendTrainSettings
from lm.recommend.training_examples import CustomerEvents
from lm.train.training_state import TrainingError
from tests.lm.recommend.test_training_examples import KNOWN, bought, customer, searched


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
    tested = {one.events[-1].text or "" for one in split.test}
    assert len(split.test) == (50 if protocol == "leave-one-out" else 5)
    for number, (trained, before) in enumerate(zip(split.training, people, strict=True)):
        if str(number) in tested or protocol == "leave-one-out":
            assert bought("c") not in trained.events
        assert list(before.events[: len(trained.events)]) == list(trained.events)
