"""How often customers buy the same product again, and what a shop should then know of its setting."""

from __future__ import annotations

from collections.abc import Sequence

from lm.recommend_training.training_examples import BOUGHT, CustomerEvents

#: Share of repeats from which on a note says that lists leave them out.
NOTED_SHARE = 1 / 3


def repeated_share(customers: Sequence[CustomerEvents]) -> float:
    """The share of purchases after a customer's first day whose product the customer bought on an earlier day.

    A product counts once a day. 0 where nobody bought on two days.
    """
    later = repeated = 0
    for one in customers:
        before: set[str | None] = set()
        today: set[str | None] = set()
        day_of_today = None
        for event, day in zip(one.events, one.days, strict=True):
            if event.kind != BOUGHT:
                continue
            if day != day_of_today:
                before, today, day_of_today = before | today, set(), day
            if before and event.item_id not in today:
                later += 1
                repeated += event.item_id in before
            today.add(event.item_id)
    return repeated / later if later else 0.0


def repeats_note(customers: Sequence[CustomerEvents]) -> str | None:
    """A note for a shop that lists only new products without having chosen so; None where few purchases repeat."""
    share = repeated_share(customers)
    if share < NOTED_SHARE:
        return None
    return (
        f"{share:.0%} of later purchases are of products that the customer bought before, and lists leave those out. "
        "Set recommend.exclude_purchased to false to list them too, or to true to end this note; then train again."
    )
