"""From customers' events to training examples: what the recommender reads, and what it must predict where.

A night's prompt ends with a customer's last day, and the list is for the days after it. So the state after the last
event of every day learns the items of the next day of purchases, whatever searches lie between: the same question,
asked at the same place, as at night. Inside a day every event also learns the next purchase, with less weight.
Where every event counts as a day of its own this is plain next-item prediction, as the papers have it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm.prompt import Event, PromptEncoder

#: Weight of predicting the next purchase inside a day, beside 1 for the question that the night asks.
WITHIN_DAY = 0.5
BOUGHT = "bought"


class Customer(NamedTuple):
    """One customer's events, oldest first, and the number of the day of each (any epoch)."""

    events: Sequence[Event]
    days: Sequence[int]


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
    places: NDArray[np.int32] | None = None  # (T,) of each token in the whole prompt, where it is a part of one


def targets(customer: Customer, known: Collection[str], *, new_only: bool) -> list[Target]:
    """Every prediction that a customer's events teach, oldest first; items outside `known` are never predicted.

    With `new_only` an item that the customer had bought before is no target: such lists leave it out.
    """
    events, days = customer
    first: dict[str, int] = {}
    bought_on: dict[int, dict[str, None]] = {}
    for place, (event, day) in enumerate(zip(events, days, strict=True)):
        if event.kind == BOUGHT and event.item_id is not None:
            first.setdefault(event.item_id, place)
            bought_on.setdefault(day, {})[event.item_id] = None
    found = []
    following: int | None = None  # place of the next purchase
    for before in range(len(events), -1, -1):
        if following is not None:
            night = before == 0 or days[before] > days[before - 1]
            items = bought_on[days[following]] if night else [str(events[following].item_id)]
            wanted = tuple(item for item in items if item in known and not (new_only and first[item] < before))
            if wanted:
                found.append(Target(before, wanted, 1.0 if night else WITHIN_DAY))
        if before and events[before - 1].kind == BOUGHT and events[before - 1].item_id is not None:
            following = before - 1
    return found[::-1]


class HeldOut(NamedTuple):
    """A customer as the night before the last day of (new) purchases saw them, and what they bought on it."""

    events: Sequence[Event]
    purchased: frozenset[str]  # before that day
    items: frozenset[str]


def hold_out(customer: Customer, known: Collection[str], *, new_only: bool) -> tuple[Customer, HeldOut] | None:
    """Cut off a customer's last day with a purchase to predict; what is left never saw it. None without such a day."""
    events, days = customer
    for target in reversed(targets(customer, known, new_only=new_only)):
        cut = target.events
        if target.weight == 1.0 and cut > 0:
            purchased = frozenset(str(event.item_id) for event in events[:cut] if event.kind == BOUGHT)
            return Customer(events[:cut], days[:cut]), HeldOut(events[:cut], purchased, frozenset(target.items))
    return None


class Window(NamedTuple):
    """A stretch of a customer's events as a prompt, and where each event ends in it."""

    tokens: list[int]
    first: int  # place of the first event that the window holds
    ends: list[int]  # position of the last token of the header, then of each event


def windows(histories: Sequence[Sequence[Event]], encoder: PromptEncoder, max_tokens: int) -> list[list[Window]]:
    """Cover each history once by prompts of at most `max_tokens`, each exactly what a night would render.

    The newest window is the prompt of all events; the next is the prompt of those that did not fit, and so on.
    """
    found: list[list[Window]] = [[] for _ in histories]
    left = {place: len(history) for place, history in enumerate(histories) if history}
    while left:
        prompts = encoder.render_many([histories[place][:end] for place, end in left.items()], max_tokens)
        for (place, end), rendered in zip(list(left.items()), prompts, strict=True):
            first = end - max(rendered.events_used, 1)  # an event of which nothing fits is passed over
            lines = encoder.encode_many(_lines(rendered.prompt))
            ends = np.cumsum([len(line) for line in lines])[: rendered.events_used + 1] - 1
            found[place].append(Window([token for line in lines for token in line], first, ends.tolist()))
            left[place] = first
        left = {place: end for place, end in left.items() if end > 0}
    return found


def item_examples(
    customers: Sequence[Customer],
    encoder: PromptEncoder,
    token_of: Mapping[str, int],
    max_tokens: int,
    *,
    new_only: bool,
) -> list[Example]:
    """Windows of every customer, with the items that the state after each event must predict."""
    examples = []
    of_customer = windows([customer.events for customer in customers], encoder, max_tokens)
    for customer, covered in zip(customers, of_customer, strict=True):
        at = {target.events: target for target in targets(customer, token_of, new_only=new_only)}
        for window in covered:
            begin = 0 if window.first == 0 else 1  # only a new customer has no event: no other header predicts
            pairs = [
                (window.ends[i], token_of[item], target.weight / len(target.items))
                for i in range(begin, len(window.ends))
                if (target := at.get(window.first + i)) is not None
                for item in target.items
            ]
            if pairs:
                examples.append(_example(window.tokens, pairs))
    return examples


def purchase_examples(
    customers: Sequence[Customer],
    encoder: PromptEncoder,
    token_of: Mapping[str, int],
    max_tokens: int,
    *,
    new_only: bool,
) -> list[Example]:
    """The purchases of each window alone, each at the place that it has in the whole prompt: a tenth of the tokens.

    What follows what is learned from these in a tenth of the time; how to read the text between them comes after.
    """
    examples = []
    of_customer = windows([customer.events for customer in customers], encoder, max_tokens)
    for customer, covered in zip(customers, of_customer, strict=True):
        events, days = customer
        bought = [i for i, event in enumerate(events) if event.kind == BOUGHT and event.item_id in token_of]
        alone = Customer([events[place] for place in bought], [days[place] for place in bought])
        after = {target.events: target for target in targets(alone, token_of, new_only=new_only)}
        ordinal = {place: number for number, place in enumerate(bought, start=1)}
        for window in covered:
            held = [i for i in range(1, len(window.ends)) if window.first + i - 1 in ordinal]
            places = [*range(window.ends[0] + 1), *(window.ends[i] for i in held)]
            asked = [(window.ends[0], 0)] if window.first == 0 else []
            asked += [(window.ends[0] + 1 + n, ordinal[window.first + i - 1]) for n, i in enumerate(held)]
            pairs = [
                (position, token_of[item], after[number].weight / len(after[number].items))
                for position, number in asked
                if number in after
                for item in after[number].items
            ]
            if pairs:
                example = _example([window.tokens[place] for place in places], pairs)
                examples.append(replace(example, places=np.array(places, dtype=np.int32)))
    return examples


def title_examples(
    nights: Sequence[tuple[Sequence[Event], str]], encoder: PromptEncoder, titles: Mapping[str, str], max_tokens: int
) -> list[Example]:
    """For each (events, item): the prompt that a night renders, then the item's title, which is what is learned.

    The titles inside the prompt are learned along with it, with the weight of a question within a day.
    """
    prompts = encoder.render_many([events for events, _ in nights], max_tokens)
    answers = encoder.answers([titles[item] for _, item in nights])
    cue = encoder.encode(encoder.cue)
    examples = []
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens: list[int] = []
        pairs = []
        for line in encoder.encode_many(_lines(prompt.prompt)):
            if line[: len(cue)] == cue:
                spelled = enumerate(line[len(cue) :], start=len(tokens) + len(cue) - 1)
                pairs += [(position, token, WITHIN_DAY) for position, token in spelled]
            tokens += line
        pairs += [(position, token, 1.0) for position, token in enumerate(answer, start=len(tokens) - 1)]
        examples.append(_example([*tokens, *answer], pairs))
    return examples


def _lines(prompt: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+$", prompt)


def _example(tokens: Sequence[int], pairs: Sequence[tuple[int, int, float]]) -> Example:
    positions, labels, weights = zip(*pairs, strict=True)
    return Example(
        np.array(tokens, dtype=np.int32),
        np.array(positions, dtype=np.int32),
        np.array(labels, dtype=np.int32),
        np.array(weights, dtype=np.float32),
    )
