"""Which purchases a training never sees: the newest of each held-out customer, by the days or by leave-one-out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.recommend.settings import RecommendSettings
from lm.recommend.training_examples import BOUGHT, Customer, targets
from lm.text.prompt import Event
from lm.train.training_state import TrainingError


class HeldOut(NamedTuple):
    """A customer as the night before the last day of (new) purchases saw them, and what they bought on it."""

    events: Sequence[Event]
    purchased: frozenset[str]  # before that day
    items: frozenset[str]


@dataclass(frozen=True)
class Split:
    """What is trained on, what says when to stop, what is reported on, and what a refit trains on."""

    training: list[Customer]
    validation: list[HeldOut]
    test: list[HeldOut]
    refit: list[Customer]


def hold_out(customer: Customer, known: Collection[str], *, new_only: bool) -> tuple[Customer, HeldOut] | None:
    """Cut off a customer's last day with a purchase to predict; what is left never saw it. None without such a day."""
    for target in reversed(targets(customer, known, new_only=new_only)):
        if target.weight == 1.0 and target.events > 0:
            left = customer.upto(target.events)
            purchased = frozenset(str(event.item_id) for event in left.events if event.kind == BOUGHT)
            return left, HeldOut(left.events, purchased, frozenset(target.items))
    return None


def split_of(customers: Sequence[Customer], known: Collection[str], settings: RecommendSettings) -> Split:
    """Split by `settings.protocol`; raises TrainingError where that leaves nothing to learn from or to judge by."""
    if not any(event.kind == BOUGHT and event.item_id in known for customer in customers for event in customer.events):
        raise TrainingError("no customer has bought anything by this date: choose a later --as-of, or add purchases")
    if settings.protocol == "leave-one-out":
        return leave_one_out(customers, known, settings)
    return _last_days(customers, known, settings)


def _last_days(customers: Sequence[Customer], known: Collection[str], settings: RecommendSettings) -> Split:
    """Hold out the last day of purchases of a seeded sample: half to stop by, half to report on."""
    training = list(customers)
    held: list[HeldOut] = []
    most = min(int(len(customers) * settings.held_out_share), settings.held_out_customers)
    for place in np.random.default_rng(settings.seed).permutation(len(customers)):
        if len(held) >= most:
            break
        cut = hold_out(customers[place], known, new_only=settings.exclude_purchased)
        if cut is not None:
            training[place], one = cut
            held.append(one)
    if len(held) < 2:
        raise TrainingError(
            "too few customers bought on two days: the training cannot tell whether it learns; add days or customers"
        )
    return Split(training, held[::2], held[1::2], list(customers))


def leave_one_out(customers: Sequence[Customer], known: Collection[str], settings: RecommendSettings) -> Split:
    """Hold out every customer's last purchase to report on and the one before it to stop by (Kang & McAuley 2018).

    Every event counts as a day of its own. The purchase that validates is not trained on, except by a refit; at most
    `held_out_customers` of them validate.
    """
    training, refit, validation, test = [], [], [], []
    for customer in customers:
        one = Customer(customer.events, range(len(customer.events)))
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
        raise TrainingError("nobody bought three times: leave-one-out leaves nothing to learn from; add customers")
    drawn = np.random.default_rng(settings.seed).permutation(len(validation))[: settings.held_out_customers]
    return Split(training, [validation[place] for place in sorted(drawn)], test, refit)
