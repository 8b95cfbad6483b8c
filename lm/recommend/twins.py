"""Chooses the best of the products that share a title, from the scores of all products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.recommend.list_rules import Floats, Ints, ListConstraint
from lm.recommend.same_titles import SameTitles


@dataclass(frozen=True, eq=False)
class Twins:
    """The columns of scores whose products have a twin among the columns, and their group, from 0."""

    columns: Ints  # (C,)
    group: Ints  # (C,)
    rows: Ints  # (C,) of the catalogue

    @classmethod
    def of(cls, same_titles: SameTitles | None, column: Ints) -> Twins:
        """The twins among catalogue rows with a `column` (I,), -1 where a row has none."""
        none = np.empty(0, np.int64)
        if same_titles is None:
            return cls(none, none, none)
        rows = np.flatnonzero((same_titles.group >= 0) & (column >= 0))
        _, group, size = np.unique(same_titles.group[rows], return_inverse=True, return_counts=True)
        rows = rows[size[group] > 1]
        return cls(column[rows], np.unique(same_titles.group[rows], return_inverse=True)[1], rows)

    def keep_best(self, scores: torch.Tensor, wanted: Sequence[Sequence[ListConstraint]] | None = None) -> Floats:
        """Set the scores (n, L) of all but each group's best product to -inf; ties go to the first column.

        The products that pins and shares of a request want come first. Returns the best score that was set, (n,).
        """
        if not len(self.columns):
            return np.full(len(scores), -np.inf)
        device = scores.device
        columns = torch.from_numpy(self.columns).to(device)
        found = scores[:, columns]  # (n, C)
        keep = self._best(found)
        for request, constraints in enumerate(wanted or ()):
            if constraints:
                members = np.logical_or.reduce([one.member[self.rows] for one in constraints])
                own = found[request : request + 1].masked_fill(~torch.from_numpy(members).to(device), -torch.inf)
                best = self._best(own) & (own > -torch.inf)
                has_wanted = self._any(best)
                keep[request] = torch.where(has_wanted, best, keep[request : request + 1])[0]
        scores[:, columns] = found.masked_fill(~keep, -torch.inf)
        left_out: Floats = found.masked_fill(keep, -torch.inf).amax(dim=1).cpu().numpy().astype(np.float64)
        return left_out

    def _best(self, scores: torch.Tensor) -> torch.Tensor:
        """(n, C) whether a product is the first of its group with the group's best score."""
        groups = self._groups(scores)
        shape = len(scores), int(self.group.max()) + 1
        best = torch.full(shape, -torch.inf, device=scores.device).scatter_reduce(1, groups, scores, "amax")
        order = torch.arange(len(self.columns), device=scores.device).expand_as(groups)
        place = torch.where(scores == best.gather(1, groups), order, len(self.columns))
        first = torch.full(shape, len(self.columns), device=scores.device).scatter_reduce(1, groups, place, "amin")
        return order == first.gather(1, groups)

    def _any(self, chosen: torch.Tensor) -> torch.Tensor:
        """(n, C) whether any product of a product's group is chosen."""
        groups = self._groups(chosen)
        number = torch.zeros((len(chosen), int(self.group.max()) + 1), dtype=torch.int64, device=chosen.device)
        return number.scatter_add(1, groups, chosen.long()).gather(1, groups) > 0

    def _groups(self, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.group).to(like.device).expand(len(like), -1)
