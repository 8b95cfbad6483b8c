"""Splits purchases into those that a training learns from and those that it never sees."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.recommend.settings import RecommendTrainSettings
from lm.recommend.training_examples import BOUGHT, CustomerEvents, prediction_targets
from lm.text.prompt import Event
from lm.train.training_state import TrainingError


class HeldOut(NamedTuple):
    """One customer before some held-out purchases, and the items of these purchases."""

    events: Sequence[Event]
    purchased: frozenset[str]  # items bought among `events`
    items: frozenset[str]


@dataclass(frozen=True)
class Split:
    """The customers to train on, to stop by, to report on, and to refit on."""

    training: list[CustomerEvents]
    validation: list[HeldOut]
    test: list[HeldOut]
    refit: list[CustomerEvents]


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
    return _last_days(customers, known, settings)


def _last_days(customers: Sequence[CustomerEvents], known: Collection[str], settings: RecommendTrainSettings) -> Split:
    """Hold out the last day with purchases of a seeded sample of customers: half to stop by, half to report on."""
    training = list(customers)
    held: list[HeldOut] = []
    most = min(int(len(customers) * settings.held_out_share), settings.held_out_customers)
    for place in np.random.default_rng(settings.seed).permutation(len(customers)):
        if len(held) >= most:
            break
        held_out = hold_out(customers[place], known, new_only=settings.exclude_purchased)
        if held_out is not None:
            training[place], one = held_out
            held.append(one)
    if len(held) < 2:
        raise TrainingError("too few customers bought on two days to judge the training: add days or customers")
    return Split(training, held[::2], held[1::2], list(customers))


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
