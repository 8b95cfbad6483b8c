"""The state of the date before, from which a night computes only what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Earlier:
    """The state of the newest published date before the run date."""

    day: date
    #: Folders of its segments, oldest first, and the folder of tonight's.
    folders: Sequence[str]
    tonight: str
    #: `user_id` of the customers with new rows, or who opted out, by input table.
    changed: Mapping[str, DataFrame]
    #: Whether customers opted out since.
    opted_out: bool
    #: Waves of the recommender's ledger that the date knew.
    waves: Sequence[str]
    #: Customers that later segments name, by the part of a segment.
    named: Mapping[str, int]
