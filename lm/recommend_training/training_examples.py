"""Training examples of the recommender, made from customers' events.

A night's prompt ends with a customer's last day, and its list is for the days after. So the state after the last event
of a day learns to predict the items of the next day with purchases. Within a day every state also learns the next
purchase, with less weight. Where every event counts as a day of its own this is plain next-item prediction.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.text.prompt import Event, PromptEncoder
from lm.text.template import BROWSING

#: Weight of predicting the next purchase within a day; predicting the next day's items has weight 1.
WITHIN_DAY = 0.5
#: Share of examples with the header alone before the purchases.
HEADER_ONLY = 0.5
#: Most purchases that an example has after its prompt.
FOLLOWING = 64
BOUGHT = "bought"


class CustomerEvents(NamedTuple):
    """One customer's events, oldest first, and the number of the day of each (any epoch).

    Events of one moment are a basket: their order has no meaning. Without `moments` every event is a moment.
    """

    events: Sequence[Event]
    days: Sequence[int]
    moments: Sequence[int] | None = None

    def upto(self, end: int) -> CustomerEvents:
        """The first `end` events."""
        return self._replace(
            events=self.events[:end], days=self.days[:end], moments=self.moments and self.moments[:end]
        )

    def upto_day(self, last_day: int) -> CustomerEvents:
        """The events up to the end of a day."""
        return self.upto(bisect.bisect_right(self.days, last_day))


def newest_events(events: Sequence[Event], most: int) -> Sequence[Event]:
    """The events that a night reads, oldest first: the newest `most` without browsing, and the newest `most` of it."""
    if not any(event.kind in BROWSING for event in events):
        return events[-most:]
    left = {True: most, False: most}
    kept = []
    for event in reversed(events):
        browsed = event.kind in BROWSING
        left[browsed] -= 1
        if left[browsed] >= 0:
            kept.append(event)
    return kept[::-1]


class Target(NamedTuple):
    """The items that the state after `events` events must predict; they share the weight."""

    events: int
    items: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class PurchaseExample:
    """One token sequence, and the (position, label) pairs of its loss."""

    tokens: NDArray[np.int32]  # (T,)
    positions: NDArray[np.int32]  # (L,) of the states that predict
    labels: NDArray[np.int32]  # (L,) the token ids that they predict
    weights: NDArray[np.float32]  # (L,)


def prediction_targets(customer: CustomerEvents, known: Collection[str], *, new_only: bool) -> list[Target]:
    """The predictions that a customer's events teach, oldest first; only `known` items are predicted.

    With `new_only` an item that the customer bought before is no target: such lists leave it out.
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
            else:  # any remaining item of the basket may come next; the whole basket weighs as one purchase
                items = [str(events[place].item_id) for place in basket if place >= before]
                weight = WITHIN_DAY / (len(basket) if following > basket[0] else 1)
            wanted = tuple(item for item in items if item in known and not (new_only and first[item] < before))
            if wanted:
                found.append(Target(before, wanted, weight))
        if before and events[before - 1].kind == BOUGHT and events[before - 1].item_id is not None:
            following = before - 1
    return found[::-1]


def windows(histories: Sequence[Sequence[Event]], encoder: PromptEncoder, max_tokens: int) -> list[list[list[int]]]:
    """The token ids of prompts of at most `max_tokens` that together cover each history, newest first.

    The first prompt is of all events, the next of those that did not fit, and so on. Each is what a night renders.
    Only for titles coding, where a prompt keeps the order of events. Browsing is left out.
    """
    histories = [[event for event in history if event.kind not in BROWSING] for history in histories]
    found: list[list[list[int]]] = [[] for _ in histories]
    left = {place: len(history) for place, history in enumerate(histories) if history}
    while left:
        prompts = encoder.render_many([histories[place][:end] for place, end in left.items()], max_tokens)
        tokens = encoder.encode_many([rendered.prompt for rendered in prompts])
        for (place, end), rendered, ids in zip(list(left.items()), prompts, tokens, strict=True):
            found[place].append(ids)
            left[place] = end - max(rendered.events_used, 1)  # an event that does not fit at all is skipped
        left = {place: end for place, end in left.items() if end > 0}
    return found


class PurchaseTargets(NamedTuple):
    """The predictions that a customer's purchases teach. Purchases are numbered from 0, oldest first."""

    customer: CustomerEvents
    places: list[int]  # of the purchases among the events
    tokens: list[int]  # of their items
    targets: dict[int, Target]  # by the number of purchases before
    nights: list[int]  # purchases that begin a day, where a prompt before them holds more than purchases


def purchase_targets(
    customer: CustomerEvents, token_of: Mapping[str, int], *, new_only: bool
) -> PurchaseTargets | None:
    """The predictions that a customer's purchases teach, None where there are none."""
    events, days, moments = customer
    places = [i for i, event in enumerate(events) if event.kind == BOUGHT and event.item_id in token_of]
    purchases = CustomerEvents(
        [events[place] for place in places],
        [days[place] for place in places],
        moments and [moments[place] for place in places],
    )
    found = {target.events: target for target in prediction_targets(purchases, token_of, new_only=new_only)}
    # A prompt without text is the header and purchases: examples with the header alone already teach that.
    nights = [number for number, target in found.items() if number and target.weight == 1.0 and places[number] > number]
    tokens = [token_of[str(event.item_id)] for event in purchases.events]
    return PurchaseTargets(customer, places, tokens, found, nights) if found else None


def item_examples(
    learned: Sequence[PurchaseTargets],
    encoder: PromptEncoder,
    token_of: Mapping[str, int],
    max_tokens: int,
    history_events: int,
    rng: np.random.Generator,
) -> list[PurchaseExample]:
    """One example for each customer: the prompt of a night that `rng` draws, then the purchases after it.

    The state after the prompt predicts the next day's items, as at night. The states after the following purchases
    predict the purchases after them; later searches and reviews are left out. HEADER_ONLY of the examples, and those
    of customers who bought on one day only, have just the header before the purchases: they teach which item follows
    which without any text between.
    """
    begun = [_begin(one, max_tokens, rng) for one in learned]
    histories = [
        [] if before is None else newest_events(one.customer.events[:before], history_events)
        for one, (_, before) in zip(learned, begun, strict=True)
    ]
    prompts = encoder.encode_many([rendered.prompt for rendered in encoder.render_many(histories, max_tokens)])
    examples = []
    for one, (start, before), prompt in zip(learned, begun, prompts, strict=True):
        most = min(max_tokens if before is None else FOLLOWING, encoder.context_tokens - len(prompt))
        following = one.tokens[start : start + most]
        first = start + (before is None and start > 0)  # a header in mid-history predicts nothing
        pairs = [
            (len(prompt) - 1 + number - start, token_of[item], target.weight / len(target.items))
            for number in range(first, start + len(following) + 1)
            if (target := one.targets.get(number)) is not None
            for item in target.items
        ]
        if pairs:
            examples.append(_example([*prompt, *following], pairs))
    return examples


def _begin(one: PurchaseTargets, max_tokens: int, rng: np.random.Generator) -> tuple[int, int | None]:
    """The number of the first purchase after the prompt, and the events before it (None: the header alone)."""
    if one.nights and rng.random() >= HEADER_ONLY:
        start = one.nights[rng.integers(len(one.nights))]
        days = one.customer.days
        return start, bisect.bisect_left(days, days[one.places[start]])
    return int(rng.integers(max(0, len(one.tokens) - max_tokens) + 1)), None


def title_examples(
    nights: Sequence[tuple[Sequence[Event], str]], encoder: PromptEncoder, titles: Mapping[str, str], max_tokens: int
) -> list[PurchaseExample]:
    """One example for each (events, item): the prompt that a night renders, then the item's title as the target.

    The titles inside the prompt are targets too, with the weight WITHIN_DAY.
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


def _example(tokens: Sequence[int], pairs: Sequence[tuple[int, int, float]]) -> PurchaseExample:
    positions, labels, weights = zip(*pairs, strict=True)
    return PurchaseExample(
        np.array(tokens, dtype=np.int32),
        np.array(positions, dtype=np.int32),
        np.array(labels, dtype=np.int32),
        np.array(weights, dtype=np.float32),
    )
