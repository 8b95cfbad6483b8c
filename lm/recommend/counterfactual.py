"""The fewest events without which a product is not listed: a counterfactual explanation (Wachter et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

PAIRED = 20
"""Pairs of events are tried among so many events with the largest weights."""

Events = tuple[int, ...]
#: For several sets of events: whether the product is still listed without each of them.
IsListed = Callable[[Sequence[Events]], Sequence[bool]]


def counterfactual(weights: Sequence[float], is_listed: IsListed) -> Events | None:
    """The smallest found set of events without which the product is not listed, in order of time.

    `weights` holds the weight of each event. All single events and all pairs of the heaviest are tried; larger sets are
    the heaviest events, of which every one is needed. Returns None where the product is listed without any event.
    """
    events = range(len(weights))
    heaviest = sorted(events, key=lambda event: -weights[event])
    found = _first_gone([(event,) for event in heaviest], is_listed)
    if found is None:
        found = _first_gone(list(combinations(heaviest[:PAIRED], 2)), is_listed)
    if found is None:
        found = _first_gone([tuple(heaviest[:size]) for size in range(3, len(heaviest) + 1)], is_listed)
        for event in found or ():
            fewer = tuple(other for other in found or () if other != event)
            if not is_listed([fewer])[0]:
                found = fewer
    return None if found is None else tuple(sorted(found))


def _first_gone(sets: Sequence[Events], is_listed: IsListed) -> Events | None:
    listed = is_listed(sets) if sets else []
    return next((one for one, still in zip(sets, listed, strict=True) if not still), None)
