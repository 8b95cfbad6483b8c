"""Lists under rules: asks the engine for the tops of rankings until each list is decided.

Rules that deny or weight products decide the rankings themselves, inside the trie and the softmax. The others arrange
the tops. A ranking is asked for again, deeper, only where its top does not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lm.recommend.arrange_list import ALL, WINDOW, Candidates, ListedRow, More, arrange
from lm.recommend.list_rules import Bools, Resolved, RuleTable
from lm.recommend.rankings import Ask, Top

#: The first top is so many times the list, where rules arrange it, and grows so many times.
_FIRST, _GROWTH = 2, 4


#: Answers many questions about one batch of requests.
Tops = Callable[[Sequence[Ask]], Sequence[Top]]


def ruled_lists(tops: Tops, resolved: Sequence[Resolved], k: int, table: RuleTable) -> list[list[ListedRow]]:
    """The lists of a batch of requests, of k products; of `table.k` products where pins or shares bind."""
    candidates = [Candidates() for _ in resolved]
    lists: list[list[ListedRow]] = [[] for _ in resolved]
    lengths = [min(k, table.k) if one.constraints else k for one in resolved]
    sizes: dict[tuple[int, int], int] = {}
    asks = [(request, ALL) for request in range(len(resolved))]
    asks += [(n, ranking) for n, one in enumerate(resolved) if one.diversity for ranking in range(len(one.constraints))]
    while asks:
        for request, ranking in asks:
            before = sizes.get((request, ranking))
            first = _first_size(resolved[request], ranking, lengths[request])
            sizes[request, ranking] = before * _GROWTH if before else first
        questions = [
            Ask(request, _members(resolved[request], ranking), sizes[request, ranking]) for request, ranking in asks
        ]
        for (request, ranking), top in zip(asks, tops(questions), strict=True):
            candidates[request].add(ranking, top.row, top.score, complete=top.complete)
        waiting, asks = dict.fromkeys(request for request, _ in asks), []
        for request in waiting:
            one = resolved[request]
            found = arrange(candidates[request], one, lengths[request], table.titles.cosines)
            if isinstance(found, More):
                asks.append((request, found.ranking))
            else:
                lists[request] = found
    return lists


def _members(resolved: Resolved, ranking: int) -> Bools | None:
    return None if ranking == ALL else resolved.constraints[ranking].member


def _first_size(resolved: Resolved, ranking: int, k: int) -> int:
    if resolved.diversity:
        return WINDOW * k * (_FIRST if resolved.caps else 1) + k
    if ranking != ALL:
        return 2 * resolved.constraints[ranking].products + 1
    return _FIRST * k if resolved.arranges else k
