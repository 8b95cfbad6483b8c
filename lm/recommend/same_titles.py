"""Products of one title: of each such group, a list shows the best product that the customer may have.

Who has one product of a group has them all, also where the shop sells it under a new id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lm.recommend.catalogue import Catalogue, CatalogueError
from lm.recommend.list_rules import Ints

#: What the column `rule` names.
SAME_TITLE = "same_title"
_FILES = "same_titles.npy", "same_titles.json"


@dataclass(frozen=True, eq=False)
class SameTitles:
    """The groups of a catalogue's I rows, and those of products that are not on sale."""

    group: Ints  # (I,) -1 where no other product has the title
    of_others: Mapping[str, int]  # group by item_id, where a product on sale has the title

    @classmethod
    def build(
        cls, item_ids: Sequence[str], keys: Sequence[str], others: Sequence[str], keys_of_others: Sequence[str]
    ) -> SameTitles | None:
        """The groups of products with equal keys, given in any order; None where all keys differ.

        `item_ids` are on sale, `others` are not.
        """
        order = pc.sort_indices(pa.array(item_ids, pa.large_string())).to_numpy()
        coded = pa.array([*keys, *keys_of_others], pa.large_string()).dictionary_encode().indices.to_numpy()
        coded = coded.astype(np.int64)
        listed, unlisted = coded[: len(keys)][order], coded[len(keys) :]
        distinct = int(coded.max(initial=-1)) + 1
        on_sale, all_products = (np.bincount(codes, minlength=distinct) for codes in (listed, coded))
        is_group = (on_sale >= 1) & (all_products >= 2)
        if not is_group.any():
            return None
        number = np.where(is_group, is_group.cumsum() - 1, -1)
        groups_of_others = number[unlisted].tolist()
        return cls(number[listed], {i: g for i, g in zip(others, groups_of_others, strict=True) if g >= 0})

    def save(self, folder: Path) -> None:
        """Write the groups beside the saved catalogue."""
        np.save(folder / _FILES[0], self.group, allow_pickle=False)
        (folder / _FILES[1]).write_text(json.dumps(dict(self.of_others)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> SameTitles | None:
        """Read the groups of a saved catalogue, None where it has none. Raises CatalogueError for broken files."""
        if not (folder / _FILES[1]).exists():
            return None
        try:
            group = np.load(folder / _FILES[0], mmap_mode="c", allow_pickle=False)
            others = json.loads((folder / _FILES[1]).read_text(encoding="utf-8"))
            if len(group) != len(catalogue):
                raise ValueError("groups of another catalogue")
        except (OSError, ValueError) as error:
            mend = "run the night again, which builds it again"
            raise CatalogueError(f"the titles of {folder} are incomplete ({type(error).__name__}): {mend}") from error
        return cls(group, others)

    def with_twins(self, item_ids: Iterable[str], rows: Ints) -> Ints:
        """The catalogue rows of all products with the title of one of `item_ids`, whose rows on sale are `rows`."""
        groups = self.group[rows].tolist() + [self.of_others.get(item, -1) for item in item_ids]
        twins = [self._rows_by_group[group] for group in set(groups) if group >= 0]
        return np.unique(np.concatenate([rows, *twins])) if twins else rows

    @cached_property
    def _rows_by_group(self) -> Sequence[Ints]:
        order = np.argsort(self.group, kind="stable")
        start = np.searchsorted(self.group[order], np.arange(int(self.group.max()) + 2))
        return [order[first:last] for first, last in pairwise(start)]
