"""Splits purchases into those that a training learns from and those that it never sees."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents, prediction_targets
from lm.text.prompt import Event
from lm.train.training_state import TrainingError

#: Fewest customers to stop by and to fit the mixture on, but at most half of all: with fewer, chance decides on GPT-2.
FEWEST_VALIDATION = 400


class HeldOut(NamedTuple):
    """One customer before some held-out purchases, and the items of these purchases."""

    events: Sequence[Event]
    purchased: frozenset[str]  # items bought among `events`
    items: frozenset[str]

    def not_listed(self, *, exclude_purchased: bool, disliked_stars: int) -> list[str]:
        """The items that a night would not list for the customer, ascending.

        They are the bought ones with `exclude_purchased`, and those whose newest rating is at most `disliked_stars`.
        """
        newest = {event.item_id: event.rating for event in self.events if event.item_id and event.rating is not None}
        disliked = {item for item, stars in newest.items() if stars <= disliked_stars}
        return sorted(disliked | self.purchased if exclude_purchased else disliked)


@dataclass(frozen=True)
class Split:
    """The customers to train on, to stop by, to report on, and to refit on.

    With the time split `last_training_day` is the last day that `training` has events of, in the epoch of the
    customers' days; `test` has the purchases after it.
    """

    training: list[CustomerEvents]
    validation: list[HeldOut]
    test: list[HeldOut]
    refit: list[CustomerEvents]
    last_training_day: int | None = None


def hold_out(
    customer: CustomerEvents, known: Collection[str], *, new_only: bool
) -> tuple[CustomerEvents, HeldOut] | None:
    """Split a customer before the last day that has a purchase to predict; None without such a day."""
    for target in reversed(prediction_targets(customer, known, new_only=new_only)):
        if target.weight == 1.0 and target.events > 0:
            left = customer.upto(target.events)
            purchased = frozenset(str(event.item_id) for event in left.events if event.kind == BOUGHT)
            return left, HeldOut(left.events, purchased, frozenset(target.items))
    return None


def split_of(customers: Sequence[CustomerEvents], known: Collection[str], settings: RecommendTrainSettings) -> Split:
    """Split by `settings.protocol`. Raises TrainingError where nothing is left to learn from or to judge by."""
    if not any(event.kind == BOUGHT and event.item_id in known for customer in customers for event in customer.events):
        raise TrainingError("no customer has bought anything by this date: choose a later --as-of, or add purchases")
    if settings.protocol == "leave-one-out":
        return leave_one_out(customers, known, settings)
    return time_split(customers, known, settings)


def time_split(customers: Sequence[CustomerEvents], known: Collection[str], settings: RecommendTrainSettings) -> Split:
    """Hold out all events after one day for everybody, as a night does; report on the purchases after it.

    The day is the last one with enough customers to report on: half of `held_out_share`, at most half of
    `held_out_customers`. Of the events before it, a seeded sample of as many customers, or FEWEST_VALIDATION, gives its
    last day with purchases to stop by.
    """
    most = max(1, min(int(len(customers) * settings.held_out_share), settings.held_out_customers) // 2)
    last_day = _last_training_day(customers, known, settings, most)
    rng = np.random.default_rng(settings.seed)
    training, test = [], []
    for customer in customers:
        before = customer.upto_day(last_day)
        training.append(before)
        purchased = frozenset(str(event.item_id) for event in before.events if event.kind == BOUGHT)
        later = {str(event.item_id) for event in customer.events[len(before.events) :] if event.kind == BOUGHT}
        items = frozenset(item for item in later if item in known)
        if settings.exclude_purchased:
            items -= purchased
        if before.events and items:
            test.append(HeldOut(before.events, purchased, items))
    drawn = sorted(rng.permutation(len(test))[:most])
    validation: list[HeldOut] = []
    for place in rng.permutation(len(training)):
        if len(validation) >= max(most, min(FEWEST_VALIDATION, len(customers) // 2)):
            break
        held_out = hold_out(training[place], known, new_only=settings.exclude_purchased)
        if held_out is not None:
            training[place], one = held_out
            validation.append(one)
    if not validation or not test:
        raise TrainingError("too few customers bought on different days to judge the training: add days or customers")
    return Split(training, validation, [test[place] for place in drawn], list(customers), last_day)


def _last_training_day(
    customers: Sequence[CustomerEvents], known: Collection[str], settings: RecommendTrainSettings, wanted: int
) -> int:
    """The last day after which `wanted` customers have purchases to predict.

    At most `held_out_share` of the purchases lie after it. If no such day has enough customers, the day with most is
    taken; if none of them has any, the day with most of all days.
    """
    days = np.unique(np.concatenate([np.asarray(customer.days, dtype=np.int64) for customer in customers]))
    purchase_days: list[int] = []
    first_days: list[int] = []  # of each customer with a purchase to predict: from here ...
    target_days: list[int] = []  # ... until the day before this one
    for customer in customers:
        bought: set[str | None] = set()
        last_target = None
        for event, day in zip(customer.events, customer.days, strict=True):
            if event.kind == BOUGHT and event.item_id in known:
                purchase_days.append(day)
                if not settings.exclude_purchased or event.item_id not in bought:
                    last_target = day
                bought.add(event.item_id)
        if last_target is not None:
            first_days.append(customer.days[0])
            target_days.append(last_target)

    def upto(dates: list[int]) -> NDArray[np.int64]:
        return np.searchsorted(np.sort(np.array(dates, dtype=np.int64)), days, side="right")

    counts = upto(first_days) - upto(target_days)
    is_late = len(purchase_days) - upto(purchase_days) <= settings.held_out_share * len(purchase_days)
    enough = np.flatnonzero(is_late & (counts >= wanted))
    if len(enough):
        return int(days[enough[-1]])
    candidates = np.where(is_late, counts, 0) if (counts * is_late).any() else counts
    return int(days[np.flatnonzero(candidates == candidates.max())[-1]])


def leave_one_out(
    customers: Sequence[CustomerEvents], known: Collection[str], settings: RecommendTrainSettings
) -> Split:
    """Hold out each customer's last purchase to report on and the one before to stop by (Kang & McAuley 2018).

    Every event counts as a day of its own. Only a refit trains on the purchases to stop by, of which at most
    `held_out_customers` are used.
    """
    training, refit, validation, test = [], [], [], []
    for customer in customers:
        one = CustomerEvents(customer.events, range(len(customer.events)))
        last = hold_out(one, known, new_only=settings.exclude_purchased)
        if last is None:
            training.append(one)
            refit.append(one)
            continue
        test.append(last[1])
        refit.append(last[0])
        before = hold_out(last[0], known, new_only=settings.exclude_purchased)
        training.append(last[0] if before is None else before[0])
        if before is not None:
            validation.append(before[1])
    if not validation:
        raise TrainingError("nobody bought three times, so leave-one-out leaves nothing to stop by: add customers")
    drawn = np.random.default_rng(settings.seed).permutation(len(validation))[: settings.held_out_customers]
    return Split(training, [validation[place] for place in sorted(drawn)], test, refit)
