"""One list explained: its products with the parts of their scores, and one product with its events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lm.recommend.counterfactual import Events, counterfactual
from lm.recommend.hybrid import Parts
from lm.recommend.reasons import Reasoner, without_events
from lm.recommend.recommender import Recommender, ScoredItem

#: Makes the list of each of several prompts, all of one customer: with the same exclusions and rules.
Ask = Callable[[Sequence[str]], list[list[ScoredItem]]]


@dataclass(frozen=True)
class Explanation:
    """A list, the parts of each of its scores, and what the product on one rank rests on."""

    items: list[ScoredItem]
    parts: list[Parts]
    weights: tuple[float, ...]  # of each event of the prompt, oldest first
    without: Events | None  # the fewest events found without which it is not in the list; None: listed without any
    is_verified: bool  # the list was made again without these events, and the product is not in it


def explain_list(model: Recommender, prompt: str, ask: Ask, rank: int) -> Explanation:
    """Explain the product on `rank` (from 1) of the list that `ask` makes of a rendered prompt.

    Raises IndexError where the list has no such rank.
    """
    (items,) = ask([prompt])
    item = items[rank - 1].item_id
    reasoner = Reasoner(model)
    weights = tuple(reasoner.event_weights([prompt], [[item]])[0][0].tolist())
    scores = np.array([one.score - one.weight for one in items])
    (parts,) = reasoner.parts([prompt], [[one.item_id for one in items]], [scores])
    parts = [part._replace(rule=one.weight) for part, one in zip(parts, items, strict=True)]

    def is_listed(sets: Sequence[Events]) -> list[bool]:
        lists = ask([without_events(model.encoder, prompt, events) for events in sets])
        return [item in {one.item_id for one in found} for found in lists]

    without = counterfactual(weights, is_listed)
    verified = without is not None and not is_listed([without])[0]
    return Explanation(items, parts, weights, without, verified)
