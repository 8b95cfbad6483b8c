"""From customers' events to training examples: what the recommender reads, and what it must predict where.

A night's prompt ends with a customer's last day, and the list is for the days after it. So the state after the last
event of every day learns the items of the next day of purchases: the same question, asked at the same place, as at
night. Inside a day every event also learns the next purchase, with less weight. Where every event counts as a day of
its own this is plain next-item prediction, as the papers have it.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.text.prompt import Event, PromptEncoder

#: Weight of predicting the next purchase inside a day, beside 1 for the question that the night asks.
WITHIN_DAY = 0.5
#: Share of examples whose purchases follow the bare header.
ALONE = 0.5
#: Purchases after a prompt that an example goes on with, at most.
FOLLOWING = 64
BOUGHT = "bought"


class Customer(NamedTuple):
    """One customer's events, oldest first, and the number of the day of each (any epoch).

    Events of equal `moments` (a basket; none where not given) stand in an order that means nothing.
    """

    events: Sequence[Event]
    days: Sequence[int]
    moments: Sequence[int] | None = None

    def upto(self, end: int) -> Customer:
        """The first `end` events."""
        return self._replace(
            events=self.events[:end], days=self.days[:end], moments=self.moments and self.moments[:end]
        )


class Target(NamedTuple):
    """What the state after `events` events of a customer must predict; the weight is shared by the items."""

    events: int
    items: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class Example:
    """One token sequence, and the (position, label) pairs that the loss is taken at."""

    tokens: NDArray[np.int32]  # (T,)
    positions: NDArray[np.int32]  # (L,) the state at this token predicts ...
    labels: NDArray[np.int32]  # (L,) ... this token id
    weights: NDArray[np.float32]  # (L,)


def targets(customer: Customer, known: Collection[str], *, new_only: bool) -> list[Target]:
    """Every prediction that a customer's events teach, oldest first; items outside `known` are never predicted.

    With `new_only` an item that the customer had bought before is no target: such lists leave it out.
    """
    events, days, _ = customer
    moments = range(len(events)) if customer.moments is None else customer.moments
    first: dict[str, int] = {}
    bought_on: dict[int, dict[str, None]] = {}
    baskets: dict[int, list[int]] = {}  # places of the purchases of each moment
    for place, (event, day) in enumerate(zip(events, days, strict=True)):
        if event.kind == BOUGHT and event.item_id is not None:
            first.setdefault(event.item_id, place)
            bought_on.setdefault(day, {})[event.item_id] = None
            baskets.setdefault(moments[place], []).append(place)
    found = []
    following: int | None = None  # place of the next purchase
    for before in range(len(events), -1, -1):
        if following is not None:
            basket = baskets[moments[following]]
            if before == 0 or days[before] > days[before - 1]:
                items, weight = list(bought_on[days[following]]), 1.0
            else:  # any of what is left of the basket may be said to come next; a basket weighs what one purchase does
                items = [str(events[place].item_id) for place in basket if place >= before]
                weight = WITHIN_DAY / (len(basket) if following > basket[0] else 1)
            wanted = tuple(item for item in items if item in known and not (new_only and first[item] < before))
            if wanted:
                found.append(Target(before, wanted, weight))
        if before and events[before - 1].kind == BOUGHT and events[before - 1].item_id is not None:
            following = before - 1
    return found[::-1]


def windows(histories: Sequence[Sequence[Event]], encoder: PromptEncoder, max_tokens: int) -> list[list[list[int]]]:
    """Cover each history by the tokens of prompts of at most `max_tokens`, each exactly what a night would render.

    The newest window is the prompt of all events; the next is the prompt of those that did not fit, and so on. For
    codings in which a prompt keeps the order of events: then every event is in one window.
    """
    found: list[list[list[int]]] = [[] for _ in histories]
    left = {place: len(history) for place, history in enumerate(histories) if history}
    while left:
        prompts = encoder.render_many([histories[place][:end] for place, end in left.items()], max_tokens)
        tokens = encoder.encode_many([rendered.prompt for rendered in prompts])
        for (place, end), rendered, ids in zip(list(left.items()), prompts, tokens, strict=True):
            found[place].append(ids)
            left[place] = end - max(rendered.events_used, 1)  # an event of which nothing fits is passed over
        left = {place: end for place, end in left.items() if end > 0}
    return found


class Purchases(NamedTuple):
    """What a customer's purchases teach; a purchase is counted by its number among them."""

    customer: Customer
    places: list[int]  # of the purchases among the events
    tokens: list[int]  # of their items
    targets: dict[int, Target]  # by the number of purchases before
    nights: list[int]  # first purchases of a day with more than purchases before it: the night before asks for them


def purchases_of(customer: Customer, token_of: Mapping[str, int], *, new_only: bool) -> Purchases | None:
    """What there is to learn from a customer, None if nothing."""
    events, days, moments = customer
    places = [i for i, event in enumerate(events) if event.kind == BOUGHT and event.item_id in token_of]
    alone = Customer(
        [events[place] for place in places],
        [days[place] for place in places],
        moments and [moments[place] for place in places],
    )
    found = {target.events: target for target in targets(alone, token_of, new_only=new_only)}
    # Where a prompt would hold no text it is the header and the purchases, which are learned from the header on.
    nights = [number for number, target in found.items() if number and target.weight == 1.0 and places[number] > number]
    tokens = [token_of[str(event.item_id)] for event in alone.events]
    return Purchases(customer, places, tokens, found, nights) if found else None


def item_examples(
    learned: Sequence[Purchases],
    encoder: PromptEncoder,
    token_of: Mapping[str, int],
    max_tokens: int,
    history_events: int,
    rng: np.random.Generator,
) -> list[Example]:
    """One example a customer: the prompt of a night that `rng` draws, and after it what was then bought, item by item.

    The state after the prompt is asked what the night asks; those after the following purchases go on asking, though
    what was searched and written since is not before them: nothing of the future ever is. Half of the examples (and
    those of customers who bought on one day) have the header alone before the purchases, so that what follows what is
    learned without the text in the way.
    """
    begun = [_begin(one, max_tokens, rng) for one in learned]
    histories = [
        [] if before is None else one.customer.events[max(0, before - history_events) : before]
        for one, (_, before) in zip(learned, begun, strict=True)
    ]
    prompts = encoder.encode_many([rendered.prompt for rendered in encoder.render_many(histories, max_tokens)])
    examples = []
    for one, (start, before), prompt in zip(learned, begun, prompts, strict=True):
        most = min(max_tokens if before is None else FOLLOWING, encoder.context_tokens - len(prompt))
        following = one.tokens[start : start + most]
        first = start + (before is None and start > 0)  # only a new customer has no purchase: no other header predicts
        pairs = [
            (len(prompt) - 1 + number - start, token_of[item], target.weight / len(target.items))
            for number in range(first, start + len(following) + 1)
            if (target := one.targets.get(number)) is not None
            for item in target.items
        ]
        if pairs:
            examples.append(_example([*prompt, *following], pairs))
    return examples


def _begin(one: Purchases, max_tokens: int, rng: np.random.Generator) -> tuple[int, int | None]:
    """The purchase that comes first after the prompt, and how many events the prompt may hold (None: the header)."""
    if one.nights and rng.random() >= ALONE:
        start = one.nights[rng.integers(len(one.nights))]
        days = one.customer.days
        return start, bisect.bisect_left(days, days[one.places[start]])
    return int(rng.integers(max(0, len(one.tokens) - max_tokens) + 1)), None


def title_examples(
    nights: Sequence[tuple[Sequence[Event], str]], encoder: PromptEncoder, titles: Mapping[str, str], max_tokens: int
) -> list[Example]:
    """For each (events, item): the prompt that a night renders, then the item's title, which is what is learned.

    The titles inside the prompt are learned along with it, with the weight of a question within a day.
    """
    prompts = encoder.render_many([events for events, _ in nights], max_tokens)
    answers = encoder.answers([titles[item] for _, item in nights])
    cue = encoder.bought_tokens
    examples = []
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens: list[int] = []
        pairs = []
        for line in encoder.encode_lines(prompt.prompt):
            if line[: len(cue)] == cue:
                spelled = enumerate(line[len(cue) :], start=len(tokens) + len(cue) - 1)
                pairs += [(position, token, WITHIN_DAY) for position, token in spelled]
            tokens += line
        pairs += [(position, token, 1.0) for position, token in enumerate(answer, start=len(tokens) - 1)]
        examples.append(_example([*tokens, *answer], pairs))
    return examples


def _example(tokens: Sequence[int], pairs: Sequence[tuple[int, int, float]]) -> Example:
    positions, labels, weights = zip(*pairs, strict=True)
    return Example(
        np.array(tokens, dtype=np.int32),
        np.array(positions, dtype=np.int32),
        np.array(labels, dtype=np.int32),
        np.array(weights, dtype=np.float32),
    )
